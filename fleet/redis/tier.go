package redis

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/larder-cache/larder/fleet"
)

// Find implements fleet.Tier.
func (e *Engine) Find(ctx context.Context, key, variant string) ([]byte, map[string][]byte, error) {
	type found struct {
		record []byte
		index  map[string][]byte
	}
	keys := []string{e.recordKey(key, variant), e.indexKey(key)}
	args := []string{strconv.Itoa(fleet.MaxRecordBytes), strconv.Itoa(indexMemory)}
	out, err := call(ctx, e.small, func(c rueidis.Client) (found, error) {
		replies, err := scriptFind.run(context.Background(), c, keys, args).ToArray()
		if err != nil {
			return found{}, err
		}
		if len(replies) != 2 {
			return found{}, errReply
		}
		record, err := replies[0].AsBytes()
		if err != nil && !rueidis.IsRedisNil(err) {
			return found{}, err
		}
		index, err := indexOf(&replies[1])
		return found{record, index}, err
	})
	return out.record, out.index, err
}

// indexMemory is what an index takes of Redis at most: rows are up to a quarter larger there than
// their bytes, with something for each.
const indexMemory = fleet.MaxIndexBytes*5/4 + 64<<10

// getUpTo reads a value that is no longer than most, and a byte of one that is.
func getUpTo(c rueidis.Client, key string, most int64) rueidis.Completed {
	return c.B().Getrange().Key(key).Start(0).End(most).Build()
}

// bytesOf is the value that getUpTo has read, nil if there is none, or one that is too long.
func bytesOf(reply rueidis.RedisResult, most int) ([]byte, error) {
	value, err := reply.AsBytes()
	if len(value) == 0 || len(value) > most {
		return nil, err
	}
	return value, err
}

// Record implements fleet.Tier.
func (e *Engine) Record(ctx context.Context, key, variant string) ([]byte, error) {
	recordKey := e.recordKey(key, variant)
	return call(ctx, e.small, func(c rueidis.Client) ([]byte, error) {
		return bytesOf(c.Do(context.Background(), getUpTo(c, recordKey, fleet.MaxRecordBytes)), fleet.MaxRecordBytes)
	})
}

// PutRecord implements fleet.Tier.
func (e *Engine) PutRecord(ctx context.Context, key, variant string, record, row []byte, ttl time.Duration) error {
	_, err := e.putRecord(ctx, key, variant, record, row, ttl)
	return err
}

// ReplaceRecord implements fleet.Tier.
func (e *Engine) ReplaceRecord(
	ctx context.Context, key, variant string, seen, record, row []byte, ttl time.Duration,
) (ok bool, err error) {
	return e.putRecord(ctx, key, variant, record, row, ttl, string(seen))
}

// putRecord stores a record, with seen unless there is another than that.
func (e *Engine) putRecord(
	ctx context.Context, key, variant string, record, row []byte, ttl time.Duration, seen ...string,
) (ok bool, err error) {
	keys := []string{e.recordKey(key, variant), e.indexKey(key)}
	args := append([]string{
		variant, string(record), string(row), strconv.FormatInt(milliseconds(ttl), 10), rows, e.recordKey(key, ""),
	}, seen...)
	put, err := call(ctx, e.way(record), func(c rueidis.Client) (int64, error) {
		return scriptPut.run(context.Background(), c, keys, args).AsInt64()
	})
	return put == 1, err
}

// RemoveRecord implements fleet.Tier.
func (e *Engine) RemoveRecord(ctx context.Context, key, variant string, seen []byte) error {
	keys, args := []string{e.recordKey(key, variant), e.indexKey(key)}, []string{variant, string(seen)}
	_, err := call(ctx, e.way(seen), func(c rueidis.Client) (int64, error) {
		return scriptRemove.run(context.Background(), c, keys, args).AsInt64()
	})
	return err
}

// Chunks implements fleet.Tier.
func (e *Engine) Chunks(ctx context.Context, id string, numbers []int) ([][]byte, error) {
	keys := e.chunkKeys(id, numbers)
	if len(keys) == 0 {
		return nil, ctx.Err()
	}
	return call(ctx, e.bodies, func(c rueidis.Client) ([][]byte, error) {
		commands := make(rueidis.Commands, len(keys))
		for i, key := range keys {
			commands[i] = getUpTo(c, key, fleet.MaxChunkBytes)
		}
		chunks := make([][]byte, len(keys))
		for i, reply := range c.DoMulti(context.Background(), commands...) {
			var err error
			if chunks[i], err = bytesOf(reply, fleet.MaxChunkBytes); err != nil {
				return nil, err
			}
		}
		return chunks, nil
	})
}

// PutChunk implements fleet.Tier.
func (e *Engine) PutChunk(ctx context.Context, id string, number int, chunk []byte, ttl time.Duration) error {
	key, value := e.chunkKeys(id, []int{number})[0], string(chunk)
	_, err := call(ctx, e.bodies, func(c rueidis.Client) (string, error) {
		set := c.B().Set().Key(key).Value(value).PxMilliseconds(milliseconds(ttl)).Build()
		return c.Do(context.Background(), set).ToString()
	})
	return err
}

// HasChunks implements fleet.Tier.
func (e *Engine) HasChunks(ctx context.Context, id string, n int) (bool, error) {
	return e.eachChunk(ctx, id, n, func(c rueidis.Client, key string) rueidis.Completed {
		return c.B().Exists().Key(key).Build()
	})
}

// KeepChunks implements fleet.Tier.
func (e *Engine) KeepChunks(ctx context.Context, id string, n int, ttl time.Duration) (bool, error) {
	return e.eachChunk(ctx, id, n, func(c rueidis.Client, key string) rueidis.Completed {
		return c.B().Pexpire().Key(key).Milliseconds(milliseconds(ttl)).Build()
	})
}

// eachChunk sends a command for each of chunks 0 to n-1. It reports whether all reply with 1.
func (e *Engine) eachChunk(
	ctx context.Context, id string, n int, command func(c rueidis.Client, key string) rueidis.Completed,
) (bool, error) {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	keys := e.chunkKeys(id, numbers)
	if n == 0 {
		return true, ctx.Err()
	}
	return call(ctx, e.small, func(c rueidis.Client) (bool, error) {
		commands := make(rueidis.Commands, len(keys))
		for i, key := range keys {
			commands[i] = command(c, key)
		}
		all := true
		for _, reply := range c.DoMulti(context.Background(), commands...) {
			one, err := reply.AsInt64()
			if err != nil {
				return false, err
			}
			all = all && one == 1
		}
		return all, nil
	})
}

// way is the link for a value of such a length.
func (e *Engine) way(value []byte) *link {
	if len(value) > large {
		return e.bodies
	}
	return e.small
}

// chunkKeys have no part that a Cluster would look at alone, so the chunks of a body are all over
// it.
func (e *Engine) chunkKeys(id string, numbers []int) []string {
	keys := make([]string, len(numbers))
	for i, number := range numbers {
		keys[i] = e.prefix + "c:" + id + ":" + strconv.Itoa(number)
	}
	return keys
}

// indexOf reads rows, each of which has in front when it ends.
func indexOf(reply *rueidis.RedisMessage) (map[string][]byte, error) {
	fields, err := reply.AsStrMap()
	if err != nil {
		return nil, err
	}
	index := make(map[string][]byte, len(fields))
	for variant, value := range fields {
		if _, row, is := strings.Cut(value, " "); is {
			index[variant] = []byte(row)
		}
	}
	return index, nil
}

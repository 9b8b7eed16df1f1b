package redis

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/larder-cache/larder/fleet"
)

// Read implements fleet.Log.
func (e *Engine) Read(ctx context.Context, has fleet.Place, after fleet.Generation, limit int, wait time.Duration) (
	[]fleet.Record, fleet.State, error,
) {
	now, err := e.readNow(ctx, has, after, limit)
	if err != nil || len(now.records) > 0 || now.state.Tail > after || wait <= 0 {
		return now.records, now.state, err
	}
	if err := e.grown(ctx, now.state.Tail, wait); err != nil {
		return nil, fleet.State{}, err
	}
	now, err = e.readNow(ctx, has, after, limit)
	return now.records, now.state, err
}

// reading is records with the state of the log in the moment at which they were read.
type reading struct {
	records []fleet.Record
	state   fleet.State
	upTo    fleet.Generation // there are more up to here, which may be read at once. 0: there are not
}

const (
	// fewRecords are read through a script, which costs the server a multiple of what the stream's
	// own command does: with so few it does not count.
	fewRecords = 32
	// someRecords are, where that command cannot be had.
	someRecords = 512
)

// readNow reads a few records. Where there are many it reads them all in their place: a node that
// joins has the whole log to read.
func (e *Engine) readNow(ctx context.Context, has fleet.Place, after fleet.Generation, limit int) (reading, error) {
	few, err := e.readFew(ctx, has, after, limit, fewRecords)
	if err != nil || few.upTo == 0 {
		return few, err
	}
	many, err := e.readMany(ctx, has, after, few.upTo, limit)
	if err == nil && len(many.records) > 0 {
		return many, nil
	}
	// It is full, its user may not do that, or the log is another one by now.
	return e.readFew(ctx, has, after, limit, someRecords)
}

func (e *Engine) readFew(ctx context.Context, has fleet.Place, after fleet.Generation, limit, few int) (reading, error) {
	limit = max(1, limit)
	args := e.args(has, digits(after), strconv.Itoa(limit), strconv.Itoa(min(limit, few)))
	return call(ctx, e.small, func(c rueidis.Client) (reading, error) {
		parts, err := scriptRead.run(context.Background(), c, e.control(), args).ToArray()
		if err != nil {
			return reading{}, err
		}
		if len(parts) != 3 {
			return reading{}, errReply
		}
		upTo, err := parts[2].AsUint64()
		if err != nil {
			return reading{}, err
		}
		r, err := readingOf(parts[0], parts[1])
		r.upTo = fleet.Generation(upTo)
		return r, err
	})
}

// readMany reads a range beside the state of the log. The two are one step for the server, as with
// a script: it does nothing else between MULTI and EXEC.
func (e *Engine) readMany(ctx context.Context, has fleet.Place, after, upTo fleet.Generation, limit int) (reading, error) {
	args := e.args(has)
	return call(ctx, e.small, func(c rueidis.Client) (reading, error) {
		both := func(state rueidis.Completed) ([]rueidis.RedisMessage, error) {
			records := c.B().Xrange().Key(e.log).Start(digits(after + 1)).End(digits(upTo)).Count(int64(limit)).Build()
			return c.DoMulti(context.Background(), c.B().Multi().Build(), state, records, c.B().Exec().Build())[3].ToArray()
		}
		parts, err := both(scriptState.byHash(c, e.control(), args))
		if err == nil && len(parts) == 2 && isUnknownScript(parts[0].Error()) {
			parts, err = both(scriptState.byText(c, e.control(), args))
		}
		switch {
		case err != nil:
			return reading{}, err
		case len(parts) != 2:
			return reading{}, errReply
		}
		return readingOf(parts[0], parts[1])
	})
}

func readingOf(state, records rueidis.RedisMessage) (r reading, err error) {
	if r.state, err = stateOf(state, nil); err != nil {
		return reading{}, err
	}
	if r.records, err = recordsOf(&records); err != nil {
		return reading{}, err
	}
	return r, nil
}

// grown waits until the log has a record of a generation after the tail, or for as long as wait. It
// has a connection of its own: on one that others use they would wait with it.
func (e *Engine) grown(ctx context.Context, tail fleet.Generation, wait time.Duration) error {
	client, err := e.small.get(ctx)
	if err != nil {
		return named(err)
	}
	waiting, cancel := e.waiting(ctx, wait)
	defer cancel()
	err = client.Do(waiting, client.B().Xread().Count(1).Block(milliseconds(wait)).
		Streams().Key(e.log).Id(lastOf(tail)).Build()).Error()
	switch {
	case err == nil, rueidis.IsRedisNil(err):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case e.life.Err() != nil:
		return errClosed
	}
	return named(err)
}

// lastOf is the id of the stream after which the next generation begins.
func lastOf(g fleet.Generation) string {
	return digits(g) + "-" + strconv.FormatUint(math.MaxUint64, 10)
}

func digits(g fleet.Generation) string { return strconv.FormatUint(uint64(g), 10) }

// longestID is how long the id of a record may be, as in ensure.lua. A longer one is none.
const longestID = 32

// recordsOf reads entries of the stream.
func recordsOf(reply *rueidis.RedisMessage) ([]fleet.Record, error) {
	entries, err := reply.ToArray()
	if err != nil {
		return nil, err
	}
	records := make([]fleet.Record, len(entries))
	for i := range entries {
		if records[i], err = recordOf(&entries[i]); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// recordOf reads {id, {field, value, …}}. One that has no field of Larder's says nothing.
func recordOf(entry *rueidis.RedisMessage) (r fleet.Record, err error) {
	parts, err := entry.ToArray()
	if err != nil {
		return r, err
	}
	if len(parts) != 2 {
		return r, errReply
	}
	at, err := parts[0].ToString()
	if err != nil {
		return r, err
	}
	generation, _, _ := strings.Cut(at, "-")
	number, err := strconv.ParseUint(generation, 10, 53)
	if err != nil {
		return r, fmt.Errorf("the log has a record %q: %w", at, err)
	}
	r.Generation = fleet.Generation(number)
	fields, err := parts[1].ToArray()
	if err != nil {
		return r, err
	}
	return r, setFields(&r, fields)
}

func setFields(r *fleet.Record, fields []rueidis.RedisMessage) error {
	for i := 0; i+1 < len(fields); i += 2 {
		name, err := fields[i].ToString()
		if err != nil {
			return err
		}
		value := &fields[i+1]
		switch name {
		case "mark":
			r.Mark = true
		case "data":
			r.Data, err = value.AsBytes()
		case "id":
			r.ID, err = value.ToString()
		}
		if err != nil {
			return err
		}
	}
	if r.Mark {
		r.Data = nil
	}
	if len(r.ID) > longestID {
		r.ID = ""
	}
	return nil
}

package redis

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/larder-cache/larder/fleet"
)

// Take implements fleet.Leases.
func (e *Engine) Take(ctx context.Context, key, token, node string, seen []byte, ttl time.Duration) (fleet.Lease, error) {
	keys := []string{e.leaseKey(key)}
	args := []string{token, node, string(seen), strconv.FormatInt(milliseconds(ttl), 10)}
	return call(ctx, e.small, func(c rueidis.Client) (fleet.Lease, error) {
		words, err := scriptTake.run(context.Background(), c, keys, args).AsStrSlice()
		if err != nil {
			return fleet.Lease{}, err
		}
		if len(words) != 3 {
			return fleet.Lease{}, errReply
		}
		return fleet.Lease{
			Taken: words[0] == "taken", Held: words[0] == "held", Facts: notEmpty(words[1]), Left: notEmpty(words[2]),
		}, nil
	})
}

// Hold implements fleet.Leases.
func (e *Engine) Hold(ctx context.Context, key, token string, facts []byte, ttl time.Duration) (bool, error) {
	return e.held(ctx, scriptHold, key, token, strconv.FormatInt(milliseconds(ttl), 10), facts)
}

// Release implements fleet.Leases.
func (e *Engine) Release(ctx context.Context, key, token string, message []byte, keep time.Duration) (bool, error) {
	stays := "0"
	if keep > 0 {
		stays = strconv.FormatInt(milliseconds(keep), 10)
	}
	return e.held(ctx, scriptRelease, key, token, stays, message)
}

func (e *Engine) held(ctx context.Context, s script, key, token, milliseconds string, text []byte) (bool, error) {
	keys, args := []string{e.leaseKey(key)}, []string{token, e.channels(), key, milliseconds, string(text)}
	return call(ctx, e.small, func(c rueidis.Client) (bool, error) {
		n, err := s.run(context.Background(), c, keys, args).AsInt64()
		return n == 1, err
	})
}

// Look implements fleet.Leases.
func (e *Engine) Look(ctx context.Context, key string) (fleet.Lease, error) {
	leaseKey := e.leaseKey(key)
	return call(ctx, e.small, func(c rueidis.Client) (fleet.Lease, error) {
		get := c.B().Hmget().Key(leaseKey).Field("token", "facts", "left").Build()
		words, err := c.Do(context.Background(), get).AsStrSlice()
		if err != nil {
			return fleet.Lease{}, err
		}
		if len(words) != 3 {
			return fleet.Lease{}, errReply
		}
		return fleet.Lease{Held: words[0] != "", Facts: notEmpty(words[1]), Left: notEmpty(words[2])}, nil
	})
}

// Listen implements fleet.Leases. It has a connection of its own, on which rueidis asks the server
// every second whether it is still there.
func (e *Engine) Listen(ctx context.Context, node string, ready func(), wake func(key string, message []byte)) error {
	client, err := e.small.get(ctx)
	if err != nil {
		return named(err)
	}
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	ended := make(chan error, 1)
	e.small.ending.Go(func() { ended <- listen(life, client, e.channels()+node, ready, wake) })
	select {
	case err = <-ended:
	case <-life.Done():
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case e.life.Err() != nil:
		return errClosed
	case err == nil:
		return errors.New("the connection was lost")
	}
	return named(err)
}

func listen(ctx context.Context, client rueidis.Client, channel string, ready func(), wake func(string, []byte)) error {
	d, release := client.Dedicate()
	defer release()
	defer d.Close()
	lost := d.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(m rueidis.PubSubMessage) {
		if key, message, ok := cutMessage(m.Message); ok && m.Channel == channel && ctx.Err() == nil {
			wake(key, message)
		}
	}})
	if err := d.Do(ctx, d.B().Subscribe().Channel(channel).Build()).Error(); err != nil {
		return err
	}
	ready()
	select {
	case err := <-lost:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cutMessage reads "length:key message", without the space.
func cutMessage(text string) (key string, message []byte, ok bool) {
	digits, rest, ok := strings.Cut(text, ":")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 0 || n > len(rest) {
		return "", nil, false
	}
	return rest[:n], []byte(rest[n:]), true
}

func notEmpty(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}

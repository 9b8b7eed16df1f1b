package redis

import (
	"context"
	"encoding/base64"
	"time"

	"github.com/larder-cache/larder/fleet"
)

// Engine is a fleet.Engine on Redis or Valkey, as one server, with Sentinels, or as a Cluster.
type Engine struct {
	history  int
	patience time.Duration // with a connection
	prefix   string        // of keys of entries, and of channels
	nodes    string        // the key of the hash with the list of nodes
	log      string        // the key of the stream

	end    context.CancelFunc
	life   context.Context
	small  *link // what is waited for
	bodies *link // large values have connections of their own, for small ones not to wait behind them
}

var _ fleet.Engine = (*Engine)(nil)

const (
	// protocol is a part of every key, so that another one does not meet this one's.
	protocol = "larder:1:"

	smallSlots = 512
	// bodySlots are as many bodies of 256 KiB as may be on their way.
	bodySlots = 32
	// large is the length of a record that goes the way of bodies.
	large = 16 << 10
	// rows is how many variants of a key the index has.
	rows = "100"
)

// New returns an Engine. It connects when it is first used, so a server that is away is no error;
// an error names what is wrong with the configuration.
func New(config Config) (*Engine, error) {
	option, err := config.option()
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background())
	tag := "{" + protocol + config.name() + "}"
	return &Engine{
		history: config.history(), patience: option.ConnWriteTimeout,
		prefix: protocol + config.name() + ":", nodes: tag + ":fleet", log: tag + ":log",
		life: life, end: end,
		small: newLink(life, option, smallSlots), bodies: newLink(life, option, bodySlots),
	}, nil
}

// Close implements fleet.Engine. What is under way ends at once; a server that does not answer has
// it take two seconds at most.
func (e *Engine) Close() error {
	e.end()
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.bodies.close()
	}()
	e.small.close()
	<-done
	return nil
}

// waiting is a context for what the server answers late by its own will, on a connection that
// nothing else uses: it ends with the engine too, and where the server is later than that.
func (e *Engine) waiting(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, wait+e.patience)
	stop := context.AfterFunc(e.life, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// slot is the part of a key of an entry by which a Cluster has them all on one server. What is
// between the braces must not be empty and must not have any.
func slot(key string) string {
	if key == "" {
		return "{-}"
	}
	return "{" + base64.RawURLEncoding.EncodeToString([]byte(key)) + "}"
}

func (e *Engine) recordKey(key, variant string) string {
	return e.prefix + "e:" + slot(key) + ":" + variant
}
func (e *Engine) indexKey(key string) string { return e.prefix + "i:" + slot(key) }
func (e *Engine) leaseKey(key string) string { return e.prefix + "l:" + slot(key) }
func (e *Engine) channels() string           { return e.prefix + "w:" }

// milliseconds of a time to live. 0 is none for Redis.
func milliseconds(d time.Duration) int64 { return max(1, d.Milliseconds()) }

package redis

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// link is a client, made when it is first needed and anew where it is of no more use.
//
// rueidis.NewClient dials and fails where no server answers, so a link tries again behind the
// calls. Once there is a client it dials by itself, with each command that has no connection.
type link struct {
	option rueidis.ClientOption
	life   context.Context
	slots  chan struct{}

	mu      sync.Mutex
	client  rueidis.Client
	made    time.Time
	dialing chan struct{} // closed when the attempt under way has ended
	err     error         // of the last attempt
	next    time.Time     // no attempt before
	pause   time.Duration
	ending  sync.WaitGroup
}

const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

var errClosed = errors.New("the engine is closed")

func newLink(life context.Context, option rueidis.ClientOption, slots int) *link {
	return &link{option: option, life: life, slots: make(chan struct{}, slots)}
}

// call has the link's client do something, and returns when that has been done or the call is over.
//
// What is done goes on after a call that was ended by its context, and has its slot until the
// server has replied or the connection is given up. rueidis keeps a place in a ring of 1,024 for
// each command until then, and who asks for one where there is none waits whatever his context
// says; the slots are fewer, and they are waited for with the context.
func call[T any](ctx context.Context, l *link, do func(rueidis.Client) (T, error)) (T, error) {
	var none T
	client, err := l.get(ctx)
	if err != nil {
		return none, named(err)
	}
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return none, ctx.Err()
	case <-l.life.Done():
		return none, errClosed
	}
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() { <-l.slots }()
		value, err := do(client)
		done <- outcome{value, err}
	}()
	select {
	case is := <-done:
		l.judge(client, is.err)
		return is.value, named(is.err)
	case <-ctx.Done():
		return none, ctx.Err()
	case <-l.life.Done():
		return none, errClosed
	}
}

// get returns the client. Where there is none it waits for an attempt to have one, or says how the
// last one ended, which was a moment ago.
func (l *link) get(ctx context.Context) (rueidis.Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	client, dialing, err := l.begin()
	l.mu.Unlock()
	if dialing == nil {
		return client, err
	}
	select {
	case <-dialing:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.life.Done():
		return nil, errClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client == nil {
		return nil, l.err
	}
	return l.client, nil
}

// begin returns the client, an attempt that is under way, or the error of the last one.
func (l *link) begin() (rueidis.Client, chan struct{}, error) {
	switch {
	case l.life.Err() != nil:
		return nil, nil, errClosed
	case l.client != nil:
		return l.client, nil, nil
	case l.dialing != nil:
	case time.Now().Before(l.next):
		return nil, nil, l.err
	default:
		l.dialing = make(chan struct{})
		l.ending.Go(l.dial)
	}
	return nil, l.dialing, nil
}

func (l *link) dial() {
	client, err := rueidis.NewClient(l.option)
	if begins(err, "NOAUTH") && l.option.Sentinel.MasterSet != "" && l.option.Password != "" {
		// A primary would call the password wrong, so it is a Sentinel that wants one. To send it
		// unasked is an error of those that have none.
		option := l.option
		option.Sentinel.Username, option.Sentinel.Password = option.Username, option.Password
		client, err = rueidis.NewClient(option)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.dialing)
	l.dialing = nil
	if err == nil && l.life.Err() != nil {
		l.ending.Go(client.Close)
		return
	}
	if l.err = err; err == nil {
		l.client, l.made, l.pause = client, time.Now(), 0
		return
	}
	l.pause = max(firstPause, min(2*l.pause, lastPause))
	l.next = time.Now().Add(l.pause)
}

// judge gives a client up whose server has become a replica: an address that has moved to the new
// primary in the meantime (DNS, a service of Kubernetes) is dialled by new connections alone, and
// the old ones stay open.
func (l *link) judge(client rueidis.Client, err error) {
	if !isReplica(err) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client == client && time.Since(l.made) > lastPause && l.life.Err() == nil {
		l.client = nil
		l.ending.Go(client.Close)
	}
}

// close ends the client. Its life has ended before.
func (l *link) close() {
	l.mu.Lock()
	client := l.client
	l.client = nil
	l.mu.Unlock()
	if client != nil {
		client.Close()
	}
	l.ending.Wait()
}

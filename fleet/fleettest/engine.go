package fleettest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/larder-cache/larder/fleet"
)

// Engine is a client of a Server.
type Engine struct {
	server *Server
	number int
	closed chan struct{}
	close  func()
}

var _ fleet.Engine = (*Engine)(nil)

var errClosed = errors.New("the engine is closed")

// NewEngine returns a client of a server of its own.
func NewEngine() *Engine { return NewServer().Clients(1)[0] }

// Clients returns clients of a server, numbered from 0.
func (s *Server) Clients(n int) []*Engine {
	clients := make([]*Engine, n)
	for i := range clients {
		closed := make(chan struct{})
		clients[i] = &Engine{server: s, number: i, closed: closed, close: sync.OnceFunc(func() { close(closed) })}
	}
	return clients
}

// Server returns the client's server.
func (e *Engine) Server() *Server { return e.server }

// Close implements fleet.Engine.
func (e *Engine) Close() error {
	e.close()
	return nil
}

// read has the server do a step that changes nothing.
func (e *Engine) read(ctx context.Context, method string, step func(*Server)) error {
	return e.call(ctx, method, func(s *Server) error {
		step(s)
		return nil
	})
}

// write has the server do a step that it may refuse.
func (e *Engine) write(ctx context.Context, method string, step func(*Server)) error {
	return e.call(ctx, method, func(s *Server) error {
		if s.readOnly {
			return fleet.ErrReadOnly
		}
		step(s)
		return nil
	})
}

// call takes a step to the server and back, with what happens on the way.
func (e *Engine) call(ctx context.Context, method string, step func(*Server) error) error {
	fault := e.faultOf(method)
	if err := e.pause(ctx, fault.Delay); err != nil {
		return err
	}
	if fault.Err != nil {
		return fault.Err
	}
	if err := e.step(step); err != nil {
		return err
	}
	if err := e.pause(ctx, fault.ReplyDelay); err != nil {
		return err
	}
	return fault.ReplyErr
}

// faultOf asks outside of the lock: who decides may look at the server, or wait.
func (e *Engine) faultOf(method string) Fault {
	e.server.mu.Lock()
	fault := e.server.fault
	e.server.mu.Unlock()
	return fault(Call{Client: e.number, Method: method})
}

func (e *Engine) step(step func(*Server) error) error {
	e.server.mu.Lock()
	defer e.server.mu.Unlock()
	return step(e.server)
}

// pause waits, and returns at once with an error where the call is over.
func (e *Engine) pause(ctx context.Context, d time.Duration) error {
	var timer <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	return e.wait(ctx, d <= 0, timer)
}

// wait waits for a timer, unless the call is over or need not wait.
func (e *Engine) wait(ctx context.Context, done bool, timer <-chan time.Time) error {
	if err := e.over(ctx); err != nil || done {
		return err
	}
	select {
	case <-timer:
		return nil
	case <-ctx.Done():
	case <-e.closed:
	}
	return e.over(ctx)
}

// over says why a call is.
func (e *Engine) over(ctx context.Context) error {
	select {
	case <-e.closed:
		return errClosed
	default:
		return ctx.Err()
	}
}

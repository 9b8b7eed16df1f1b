package fleettest

import (
	"bytes"
	"context"
	"time"

	"github.com/larder-cache/larder/fleet"
)

// lease is what a key has while one is held, or while a message stands in its place.
type lease struct {
	token   string // "" where there is a message
	facts   []byte
	left    []byte
	waiting map[string]bool
	end     time.Time
}

// Take implements fleet.Leases.
func (e *Engine) Take(ctx context.Context, key, token, node string, seen []byte, ttl time.Duration) (out fleet.Lease, err error) {
	err = e.write(ctx, "Take", func(s *Server) {
		l, found := s.lease(key)
		switch {
		case found && l.token == token:
			out = fleet.Lease{Taken: true, Facts: bytes.Clone(l.facts)}
			l.end = s.now().Add(ttl)
			s.data.leases[key] = l
		case l.token != "":
			out = l.seen()
			l.waiting[node] = true
			if end := s.now().Add(ttl); l.end.After(end) {
				l.end = end
			}
			s.data.leases[key] = l
		case bytes.Equal(l.left, seen):
			out.Taken = true
			s.data.leases[key] = lease{token: token, waiting: map[string]bool{}, end: s.now().Add(ttl)}
		default:
			out = l.seen()
		}
	})
	return out, err
}

// Hold implements fleet.Leases.
func (e *Engine) Hold(ctx context.Context, key, token string, facts []byte, ttl time.Duration) (ok bool, err error) {
	err = e.write(ctx, "Hold", func(s *Server) {
		l, found := s.lease(key)
		if ok = found && l.token == token; !ok {
			return
		}
		l.end = s.now().Add(ttl)
		if facts != nil && !bytes.Equal(facts, l.facts) {
			l.facts = bytes.Clone(facts)
			s.wake(key, l, facts)
		}
		s.data.leases[key] = l
	})
	return ok, err
}

// Release implements fleet.Leases.
func (e *Engine) Release(ctx context.Context, key, token string, message []byte, keep time.Duration) (ok bool, err error) {
	err = e.write(ctx, "Release", func(s *Server) {
		l, found := s.lease(key)
		if ok = found && l.token == token; !ok {
			return
		}
		delete(s.data.leases, key)
		if keep > 0 {
			s.data.leases[key] = lease{left: bytes.Clone(message), end: s.now().Add(keep)}
		}
		s.wake(key, l, message)
	})
	return ok, err
}

// Look implements fleet.Leases.
func (e *Engine) Look(ctx context.Context, key string) (out fleet.Lease, err error) {
	err = e.read(ctx, "Look", func(s *Server) {
		if l, found := s.lease(key); found {
			out = l.seen()
		}
	})
	return out, err
}

// Listen implements fleet.Leases.
func (e *Engine) Listen(ctx context.Context, node string, ready func(), wake func(key string, message []byte)) error {
	l := &listener{messages: make(chan message, 1000)}
	if err := e.read(ctx, "Listen", func(s *Server) { s.listeners[l] = node }); err != nil {
		return err
	}
	defer e.server.change(func() { delete(e.server.listeners, l) })
	ready()
	for {
		select {
		case m, heard := <-l.messages:
			if !heard {
				return ErrLost
			}
			wake(m.key, m.data)
		case <-ctx.Done():
			return ctx.Err()
		case <-e.closed:
			return errClosed
		}
	}
}

// lease returns what a key has, and forgets what has expired.
func (s *Server) lease(key string) (lease, bool) {
	l, found := s.data.leases[key]
	if found && !s.now().Before(l.end) {
		delete(s.data.leases, key)
		return lease{}, false
	}
	return l, found
}

func (l lease) seen() fleet.Lease {
	return fleet.Lease{Held: l.token != "", Facts: bytes.Clone(l.facts), Left: bytes.Clone(l.left)}
}

// wake sends a message to each node that waits. Who does not keep up loses the connection.
func (s *Server) wake(key string, of lease, text []byte) {
	for l, node := range s.listeners {
		if !of.waiting[node] {
			continue
		}
		select {
		case l.messages <- message{key: key, data: bytes.Clone(text)}:
		default:
			close(l.messages)
			delete(s.listeners, l)
		}
	}
}

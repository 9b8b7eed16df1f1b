//go:build unix

package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larder-cache/larder/fleet"
)

// briefly calls with a context that ends soon, and asks that the call does.
func briefly(t *testing.T, d time.Duration, call func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	begun := time.Now()
	err := call(ctx)
	if took := time.Since(begun); took > d+long/2 {
		t.Errorf("a call for %v has taken %v", d, took)
	}
	return err
}

func appendWith(e *Engine) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := e.Append(ctx, fleet.Place{}, []byte("x"), 0)
		return err
	}
}

// toReplica appends, and waits a moment for a replica that there may be. A busy machine may need
// more than a moment to append.
func toReplica(t *testing.T, e *Engine) error {
	t.Helper()
	for moment := time.Second; ; moment *= 2 {
		err := briefly(t, moment, func(ctx context.Context) error {
			_, err := e.Append(ctx, fleet.Place{}, []byte("x"), 1)
			return err
		})
		if !errors.Is(err, context.DeadlineExceeded) || moment > long {
			return err
		}
	}
}

// worksAgain asks until all sorts of calls do.
func worksAgain(t *testing.T, e *Engine) fleet.State {
	t.Helper()
	state := stateOfLog(t, e)
	var err error
	eventually(t, "all calls work", func() bool {
		if _, err = e.Append(within(t), fleet.Place{}, []byte("again"), 0); err != nil {
			return false
		}
		if err = toReplica(t, e); err != nil {
			return false
		}
		if err = e.PutChunk(within(t), "again", 0, make([]byte, 256<<10), time.Hour); err != nil {
			return false
		}
		if _, _, err = e.Find(within(t), "again", ""); err != nil {
			return false
		}
		_, _, err = e.Read(within(t), fleet.Place{}, state.Tail, 10, 0)
		return err == nil
	})
	return stateOfLog(t, e)
}

func TestKilledWithoutAFile(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.open(t)
	was := stateOfLog(t, e)
	reading := make(chan error, 1)
	go func() {
		_, _, err := e.Read(t.Context(), fleet.Place{}, was.Tail, 1, time.Hour)
		reading <- err
	}()
	listening, ready := make(chan error, 1), make(chan struct{})
	go func() {
		listening <- e.Listen(t.Context(), "n", func() { close(ready) }, func(string, []byte) {})
	}()
	<-ready
	s.kill()
	for what, ended := range map[string]chan error{"Read": reading, "Listen": listening} {
		if err := <-ended; err == nil {
			t.Errorf("%s ended without an error", what)
		}
	}
	for range 20 {
		if err := briefly(t, time.Second, appendWith(e)); err == nil {
			t.Error("appended to a server that is down")
		}
	}
	s.start()
	if is := worksAgain(t, e); is.Epoch == was.Epoch {
		t.Errorf("the epoch is %q still", is.Epoch)
	}
}

// A server that is down at first is no error of New.
func TestDownAtFirst(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.kill()
	e := s.open(t)
	for range 20 {
		if err := briefly(t, time.Second, appendWith(e)); err == nil {
			t.Error("appended to a server that is down")
		}
	}
	s.start()
	worksAgain(t, e)
}

// A server that reads its file is down for as long: its errors are those of one that does not
// answer, and it has lost nothing when it has read it.
func TestLoading(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--enable-debug-command", "yes", "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
	e := s.open(t)
	was := worksAgain(t, e)
	for i := range 1000 {
		s.do("SET", fmt.Sprint("filler ", i), strings.Repeat("x", 100))
	}
	loading, read := 0, make(chan error, 1)
	read <- nil
	eventually(t, "the file has been read", func() bool {
		select {
		case <-read: // again where no call has met it
			if loading == 0 {
				go func() { read <- s.try("DEBUG", "RELOAD") }()
			}
		default:
		}
		err := briefly(t, time.Second, appendWith(e))
		if err != nil && strings.HasPrefix(err.Error(), "LOADING ") {
			loading++
		}
		if errors.Is(err, fleet.ErrRefused) || errors.Is(err, fleet.ErrReadOnly) {
			t.Errorf("it is taken for another state: %v", err)
		}
		return err == nil && loading > 0
	})
	if is := worksAgain(t, e); is.Epoch != was.Epoch || is.Tail < was.Tail {
		t.Errorf("%+v, was %+v", is, was)
	}
}

// While a server is busy calls end with their contexts, many more of them than a connection of
// rueidis has room for, and none of them is in the way later.
func TestBusyServer(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]func(s *server){
		"DEBUG SLEEP":  func(s *server) { go func() { _ = s.try("DEBUG", "SLEEP", "1.5") }() },
		"CLIENT PAUSE": func(s *server) { s.do("CLIENT", "PAUSE", "1500", "ALL") },
		"SIGSTOP": func(s *server) {
			s.signal(syscall.SIGSTOP)
			time.AfterFunc(1500*time.Millisecond, func() { s.signal(syscall.SIGCONT) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "--enable-debug-command", "yes")
			e := s.open(t)
			was := worksAgain(t, e)
			busy(s)
			eventually(t, "the server is busy", func() bool { return briefly(t, 20*time.Millisecond, appendWith(e)) != nil })
			var group sync.WaitGroup
			for i := range 3000 {
				group.Go(func() {
					err := briefly(t, 100*time.Millisecond, func(ctx context.Context) error {
						_, err := e.Record(ctx, "key", fmt.Sprint(i))
						return err
					})
					var timeout net.Error // the context's, or that of a connection which is given up
					if err != nil && (!errors.As(err, &timeout) || !timeout.Timeout()) {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if is := worksAgain(t, e); is.Epoch != was.Epoch || is.Mark != was.Mark {
				t.Errorf("%+v, was %+v", is, was)
			}
		})
	}
}

// A server that does not answer for longer loses its connections, and gets new ones.
func TestStoppedForLong(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := open(t, Config{Addresses: []string{s.url()}, Timeout: quick})
	was := worksAgain(t, e)
	listening, ready := make(chan error, 1), make(chan struct{})
	go func() {
		listening <- e.Listen(t.Context(), "n", func() { close(ready) }, func(string, []byte) {})
	}()
	<-ready
	s.signal(syscall.SIGSTOP)
	begun := time.Now()
	_, _, err := e.Read(within(t), fleet.Place{}, was.Tail, 1, 100*time.Millisecond)
	if err == nil {
		t.Error("read from a server that is stopped")
	}
	if err := <-listening; err == nil {
		t.Error("listening ended without an error")
	}
	t.Logf("given up after %v", time.Since(begun))
	s.signal(syscall.SIGCONT)
	if is := worksAgain(t, e); is.Epoch != was.Epoch || is.Mark != was.Mark {
		t.Errorf("%+v, was %+v", is, was)
	}
}

func TestScriptsAreSentAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.open(t)
	worksAgain(t, e)
	for range 2 {
		s.do("SCRIPT", "FLUSH")
		must(t, toReplica(t, e))
		s.do("SCRIPT", "FLUSH")
		if l, err := e.Take(within(t), "key", "token", "n", nil, time.Hour); err != nil || !l.Taken {
			t.Error(l, err)
		}
		s.do("SCRIPT", "FLUSH")
		must(t, e.PutRecord(within(t), "key", "v", []byte("x"), nil, time.Hour))
	}
}

// endsOnItsWay has the context of a call end when the call is under way, and asks that it ends with
// it. It is sent by then, whatever its context says.
func endsOnItsWay(t *testing.T, p *proxy, call func(context.Context) error) {
	t.Helper()
	before := p.reads()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- call(ctx) }()
	eventually(t, "it is under way", func() bool { return p.reads() > before })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		p := newProxy(t, s.address())
		e := open(t, Config{Addresses: []string{p.url()}, Name: newName()})
		state := stateOfLog(t, e)
		p.silence(true, false)
		endsOnItsWay(t, p, appendWith(e))
		p.silence(false, false)
		// It was on its way, and it arrives: an error says that this is not known.
		eventually(t, "it is in the log", func() bool {
			records, _, err := e.Read(within(t), fleet.Place{}, state.Tail, 10, time.Second)
			return err == nil && len(records) == 1
		})
	})
	t.Run("no replies", func(t *testing.T) {
		t.Parallel()
		p := newProxy(t, s.address())
		e := open(t, Config{Addresses: []string{p.url()}, Name: newName()})
		state := stateOfLog(t, e)
		p.silence(false, true)
		endsOnItsWay(t, p, appendWith(e))
		p.silence(false, false)
		eventually(t, "what had no reply is in the log", func() bool {
			records, _, err := e.Read(within(t), fleet.Place{}, state.Tail, 10, time.Second)
			return err == nil && len(records) == 1
		})
	})
	t.Run("a black hole", func(t *testing.T) {
		t.Parallel()
		p := newProxy(t, s.address())
		e := open(t, Config{Addresses: []string{p.url()}, Name: newName(), Timeout: quick})
		worksAgain(t, e)
		p.silence(true, true)
		begun := time.Now()
		_, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0)
		if took := time.Since(begun); err == nil || took > long/2 {
			t.Errorf("%v after %v", err, took)
		}
		// New connections get through, while the old ones stay as they are.
		p2 := newProxy(t, s.address())
		p.lead(p2.listener.Addr().String())
		p.silence(false, false)
		worksAgain(t, e)
	})
	t.Run("resets", func(t *testing.T) {
		t.Parallel()
		p := newProxy(t, s.address())
		e := open(t, Config{Addresses: []string{p.url()}, Name: newName()})
		for range 4 {
			worksAgain(t, e)
			p.reset()
		}
		worksAgain(t, e)
	})
}

// The address of a primary that has been demoted and stays up leads to the new one: only new
// connections get there.
func TestAnAddressThatMoves(t *testing.T) {
	t.Parallel()
	old, next := newServer(t), newServer(t)
	p := newProxy(t, old.address())
	e := open(t, Config{Addresses: []string{p.url()}})
	worksAgain(t, e)
	p.lead(next.address())
	old.do("REPLICAOF", "127.0.0.1", fmt.Sprint(next.port))
	met := false
	eventually(t, "it gets to the new primary", func() bool {
		_, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0)
		met = met || errors.Is(err, fleet.ErrReadOnly)
		return err == nil
	})
	if !met {
		t.Error("it never met the replica")
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	s := newServer(t)
	before := goleak.IgnoreCurrent()
	e := s.open(t)
	worksAgain(t, e)
	ready := make(chan struct{})
	ended := make(chan struct{}, 2)
	go func() {
		_ = e.Listen(t.Context(), "n", func() { close(ready) }, func(string, []byte) {})
		ended <- struct{}{}
	}()
	go func() {
		_, _, _ = e.Read(t.Context(), fleet.Place{}, 1<<53-1, 1, time.Hour)
		ended <- struct{}{}
	}()
	<-ready
	must(t, e.Close())
	<-ended
	<-ended
	goleak.VerifyNone(t, before)
}

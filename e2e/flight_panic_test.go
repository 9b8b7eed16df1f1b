package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// What becomes of a flight when a handler within, the proxy's connection, or Larder itself breaks
// while others wait.

func init() {
	caddy.RegisterModule(breaker{})
	httpcaddyfile.RegisterHandlerDirective("test_breaker", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return breaker{}, nil
	})
}

// breaker is a handler that does what the test says.
type breaker struct{}

// breaking is what it does now.
var breaking atomic.Pointer[func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error]

func (breaker) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.larder_test_breaker", New: func() caddy.Module { return breaker{} }}
}

func (breaker) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return (*breaking.Load())(w, r, next)
}

// turnstile has the breaker announce each call and wait before it acts.
type turnstile struct{ arrived, proceed chan int }

func newTurnstile(t *testing.T, act func(number int, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error) *turnstile {
	t.Helper()
	ts := &turnstile{arrived: make(chan int, 100), proceed: make(chan int)}
	var number atomic.Int64
	fn := func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		n := int(number.Add(1))
		ts.arrived <- n
		select {
		case <-ts.proceed:
		case <-r.Context().Done():
			return r.Context().Err()
		}
		return act(n, w, r, next)
	}
	breaking.Store(&fn)
	return ts
}

// let waits for the next call and lets it act.
func (ts *turnstile) let(t *testing.T) {
	t.Helper()
	select {
	case n := <-ts.arrived:
		ts.proceed <- n
	case <-t.Context().Done():
		t.Fatal("no call came")
	}
}

func TestBreakWithFollowers(t *testing.T) {
	const followers = 10
	type call = func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error
	good := func(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
		w.Header().Set("Cache-Control", "max-age=60")
		_, err := io.WriteString(w, "good")
		return err
	}
	panics := func(http.ResponseWriter, *http.Request, caddyhttp.Handler) error { panic("a handler's own mistake") }
	ours := func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		w.Header().Set("Cache-Control", "max-age=60")
		// Larder asks for this when the handler has returned: a tag of the response it has not
		// written.
		r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Map(func(name string) (any, bool) {
			if name == "test.tag" {
				panic("a mistake within Larder's own call")
			}
			return nil, false
		})
		w.WriteHeader(http.StatusOK)
		return nil
	}
	dials := func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		return next.ServeHTTP(w, r)
	}
	timesOut := func(http.ResponseWriter, *http.Request, caddyhttp.Handler) error {
		// As reverse_proxy does.
		return caddyhttp.Error(http.StatusGatewayTimeout, context.DeadlineExceeded)
	}
	for name, tc := range map[string]struct {
		first, second  call
		leader, others string // status and body; "" for a connection that breaks
	}{
		"panic, then good":              {panics, good, "", "200 good"},
		"panic twice":                   {panics, panics, "", "502 handled"},
		"panic in Larder, then good":    {ours, good, "", "200 good"},
		"panic in Larder twice":         {ours, ours, "", "502 handled"},
		"refused connection, then good": {dials, good, "502 handled", "200 good"},
		"timeout, then good":            {timesOut, good, "504 handled", "200 good"},
		"timeout twice":                 {timesOut, timesOut, "504 handled", "504 handled"},
		"refused connection twice":      {dials, dials, "502 handled", "502 handled"},
	} {
		t.Run(name, func(t *testing.T) {
			ts := newTurnstile(t, func(number int, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
				if number == 1 {
					return tc.first(w, r, next)
				}
				return tc.second(w, r, next)
			})
			in := start(t, setup{site: fmt.Sprintf(`route {
				larder {
					tags {
						add {test.tag}
					}
				}
				test_breaker
				reverse_proxy localhost:%d
			}
			handle_errors {
				respond handled
			}`, freePort(t))}, nil)
			leader := gather(t, in, 1, http.MethodGet, "/", nil)
			parked(t, 1)
			c := gather(t, in, followers, http.MethodGet, "/", nil)
			parked(t, 1+followers)
			ts.let(t)
			leader.clients.Wait()
			if got := sketch(leader.answers[0], leader.errs[0]); got != tc.leader {
				t.Errorf("the leader got %q, want %q", got, tc.leader)
			}
			parked(t, followers) // all gather on the second fetch
			ts.let(t)
			for i, a := range c.all() {
				if got := sketch(a, nil); got != tc.others {
					t.Errorf("follower %d got %q, want %q", i, got, tc.others)
				}
			}
			settled(t, in)
		})
	}
}

// The handlers of a second attempt that fails may go on when its leader has been told so.
func TestSecondFailureWhileHandlersRun(t *testing.T) {
	answered := make(chan struct{})
	ts := newTurnstile(t, func(number int, w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		w.WriteHeader(http.StatusInternalServerError)
		for number == 2 {
			caddyhttp.SetVar(r.Context(), "busy", true)
			select {
			case <-answered:
				return nil
			default:
			}
		}
		return nil
	})
	in := start(t, setup{site: "route {\nlarder\ntest_breaker\n}"}, nil)
	leader := gather(t, in, 1, http.MethodGet, "/", nil)
	parked(t, 1)
	follower := gather(t, in, 1, http.MethodGet, "/", nil)
	parked(t, 2)
	ts.let(t)
	leader.all()[0].want(t, 500, "", "")
	parked(t, 1)
	ts.let(t)
	follower.clients.Wait()
	close(answered)
	follower.all()[0].want(t, 500, "", "")
	settled(t, in)
}

// sketch is an answer in short, "" if its connection broke.
func sketch(a *answer, err error) string {
	if err != nil || a.err != nil {
		return ""
	}
	return fmt.Sprint(a.StatusCode, " ", a.body)
}

// A panic in mid-body breaks every reader's connection, and nothing is stored.
func TestPanicInMidBody(t *testing.T) {
	const followers = 10
	sent := make(chan struct{})
	ts := newTurnstile(t, func(number int, w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
		w.Header().Set("Cache-Control", "max-age=60")
		if number > 1 {
			_, err := io.WriteString(w, "whole")
			return err
		}
		if _, err := io.WriteString(w, "half"); err != nil {
			return err
		}
		<-sent
		panic("a handler's own mistake")
	})
	in := start(t, setup{site: "route {\nlarder\ntest_breaker\n}"}, nil)
	c := gather(t, in, 1+followers, http.MethodGet, "/", nil)
	parked(t, 1+followers)
	ts.let(t)
	eventually(t, "all read the body", func() bool { return goroutinesIn(readingAFlight) == 1+followers })
	close(sent)
	c.clients.Wait()
	for i := range c.answers {
		if got := sketch(c.answers[i], c.errs[i]); got != "" {
			t.Errorf("client %d got %q of a body that broke off", i, got)
		}
	}
	settled(t, in)
	again := gather(t, in, 1, http.MethodGet, "/", nil)
	ts.let(t)
	again.all()[0].want(t, 200, "whole", "Larder; fwd=uri-miss; stored")
}

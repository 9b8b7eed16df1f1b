package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A fetch outlives the client that started it.
func TestLeaderLeaves(t *testing.T) {
	const followers = 5
	for _, when := range []string{"before the header", "in mid-body"} {
		t.Run(when, func(t *testing.T) {
			rest := make(chan struct{})
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				w.Header().Set("Cache-Control", "max-age=60")
				twoParts(w, v, rest)
			})
			in := start(t, proxied(patientFlights), g.origin)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			gone := make(chan error, 1)
			reading := make(chan struct{})
			go func() {
				r, _ := http.NewRequestWithContext(ctx, http.MethodGet, in.url("/"), nil)
				resp, err := in.client.Do(r)
				if err == nil {
					defer resp.Body.Close()
					_, _ = io.ReadFull(resp.Body, make([]byte, len("first ")))
					close(reading)
					_, err = io.ReadAll(resp.Body)
				}
				gone <- err
			}()
			v := g.next(t, 1)
			c := gather(t, in, followers, http.MethodGet, "/", nil)
			parked(t, 1+followers)
			if when == "in mid-body" {
				open(v...)
				<-reading
			}
			leave()
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Errorf("the leader's client ended with %v", err)
			}
			if when == "before the header" {
				parked(t, followers)
				open(v...)
			}
			close(rest)
			for _, a := range c.all() {
				a.want(t, 200, "first last", "Larder; fwd=uri-miss; fwd-status=200; collapsed")
			}
			settled(t, in)
			if hit := in.get("/"); !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") || hit.body != "first last" {
				t.Errorf("afterwards: %q %q", hit.cacheStatus(), hit.body)
			}
			g.noMore(t)
		})
	}
}

// A leader that leaves alone: what can be stored is fetched to the end, what cannot is cancelled.
func TestLeaderAloneLeaves(t *testing.T) {
	for name, tc := range map[string]struct {
		directive string
		early     bool // before the header
		stored    bool
	}{
		"storable, before the header":     {"max-age=60", true, true},
		"storable, in mid-body":           {"max-age=60", false, true},
		"not storable, before the header": {"no-store", true, false},
		"not storable, in mid-body":       {"no-store", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			rest, cancelled := make(chan struct{}), make(chan struct{})
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				w.Header().Set("Cache-Control", tc.directive)
				if whole := twoParts(w, v, rest); !whole {
					close(cancelled)
				}
			})
			in := start(t, proxied(patientFlights), g.origin)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			gone, reading := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(gone)
				r, _ := http.NewRequestWithContext(ctx, http.MethodGet, in.url("/"), nil)
				resp, err := in.client.Do(r)
				if err == nil {
					_, _ = io.ReadFull(resp.Body, make([]byte, len("first ")))
					close(reading)
					_, _ = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
				}
			}()
			v := g.next(t, 1)
			parked(t, 1)
			if !tc.early {
				open(v...)
				<-reading
			}
			leave()
			<-gone
			if tc.early {
				parked(t, 0)
				open(v...)
			}
			if !tc.stored {
				<-cancelled
				settled(t, in)
				return
			}
			close(rest)
			settled(t, in)
			if hit := in.get("/"); !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") || hit.body != "first last" {
				t.Errorf("afterwards: %q %q", hit.cacheStatus(), hit.body)
			}
		})
	}
}

func TestSlowLeaderSlowsNobody(t *testing.T) {
	const size = 32 << 20 // far more than the kernel's socket buffers hold
	block := strings.Repeat("0123456789abcdef", 4096)
	g := newGate(t, func(w http.ResponseWriter, _ *visit) {
		w.Header().Set("Cache-Control", "max-age=60")
		for range size / len(block) {
			_, _ = io.WriteString(w, block)
		}
	})
	in := start(t, proxied(patientFlights), g.origin)
	c := in.dial()
	// And reads nothing.
	c.send("GET / HTTP/1.1\r\nHost: localhost:" + fmt.Sprint(in.port) + "\r\n\r\n")
	v := g.next(t, 1)
	followers := gather(t, in, 3, http.MethodGet, "/", nil)
	parked(t, 4)
	open(v...)
	for _, a := range followers.all() {
		if a.err != nil || len(a.body) != size || !strings.HasSuffix(a.cacheStatus(), "collapsed") {
			t.Errorf("%d bytes, %v, %q", len(a.body), a.err, a.cacheStatus())
		}
	}
	_ = c.Close()
	settled(t, in)
	hit := in.get("/")
	if !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") || len(hit.body) != size {
		t.Errorf("afterwards: %q, %d bytes", hit.cacheStatus(), len(hit.body))
	}
}

// A client that closes its writing side when it has sent its request counts as gone, but still
// reads. It and the access log see what they see without Larder: 499 before the header, a body that
// breaks off after it.
func TestHalfClosedClient(t *testing.T) {
	for name, tc := range map[string]struct {
		directive string
		follows   bool
		early     bool   // it closes before the header
		reason    string // in the access log
	}{
		"without Larder, before the header": {"", false, true, ""},
		"without Larder, in mid-body":       {"", false, false, ""},
		"leader, before the header":         {"larder", false, true, "client-gone"},
		"leader, in mid-body":               {"larder", false, false, ""},
		"follower, before the header":       {"larder", true, true, "client-gone"},
		"follower, in mid-body":             {"larder", true, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			rest := make(chan struct{})
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				w.Header().Set("Cache-Control", "max-age=60")
				twoParts(w, v, rest)
			})
			log := newAccessLog(t)
			s := proxied(tc.directive)
			s.site = log.directive() + s.site
			in := start(t, s, g.origin)
			ask := func() *connection {
				c := in.dial()
				c.send(fmt.Sprintf("GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n", in.port))
				return c
			}
			c := ask()
			v := g.next(t, 1)
			if tc.follows {
				parked(t, 1)
				c = ask()
				parked(t, 2)
			}
			status := statusOfHalfClosed(t, c, tc.early, func() { open(v...) })
			if entry := log.entry(t, http.MethodGet, "/"); entry["status"] != float64(status) || tc.reason != "" && entry["larder_reason"] != tc.reason {
				t.Errorf("access log: status %v, reason %v; want %d, %q", entry["status"], entry["larder_reason"], status, tc.reason)
			}
			if tc.early {
				open(v...)
			}
			close(rest)
			settled(t, in)
		})
	}
}

// statusOfHalfClosed closes the client's side before the header, or when it has read a part of the
// body that answer lets go, and returns the status that it read.
func statusOfHalfClosed(t *testing.T, c *connection, early bool, answer func()) int {
	t.Helper()
	half := func() {
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	if early {
		half()
		resp := c.response(http.MethodGet)
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode != 499 || len(body) > 0 || err != nil {
			t.Errorf("status %d, body %q, %v; want 499 and no body", resp.StatusCode, body, err)
		}
		return 499
	}
	answer()
	resp := c.response(http.MethodGet)
	part := make([]byte, len("first "))
	if _, err := io.ReadFull(resp.Body, part); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %q, %v", resp.StatusCode, part, err)
	}
	half()
	if more, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || len(more) > 0 {
		t.Errorf("after a part of the body: %q, %v; want it to break off", more, err)
	}
	return http.StatusOK
}

// A leader that takes nothing does not hold up the fetch by the 1xx that come before the header:
// these go to it alone.
func TestInformationalResponsesToALeaderThatReadsNothing(t *testing.T) {
	link := "<" + strings.Repeat("x", 256<<10) + ">; rel=preload"
	ts := newTurnstile(t, func(_ int, w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
		w.Header().Set("Link", link)
		for range 256 { // 64 MiB, far more than the kernel's socket buffers hold
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.Header().Del("Link")
		w.Header().Set("Cache-Control", "max-age=60")
		_, err := io.WriteString(w, "body")
		return err
	})
	in := start(t, setup{site: "route {\nlarder\ntest_breaker\n}"}, nil)
	leader := in.dial()
	leader.send("GET / HTTP/1.1\r\nHost: localhost:" + fmt.Sprint(in.port) + "\r\n\r\n")
	parked(t, 1)
	followers := gather(t, in, 3, http.MethodGet, "/", nil)
	parked(t, 4)
	ts.let(t)
	for _, a := range followers.all() {
		a.want(t, 200, "body", "Larder; fwd=uri-miss; fwd-status=200; collapsed")
	}
	if hit := in.get("/"); !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
		t.Errorf("afterwards: %q", hit.cacheStatus())
	}
	_ = leader.Close()
	settled(t, in)
}

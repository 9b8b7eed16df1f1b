package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Answers that are for one client only: who waits for whom, before one is known and after.

// Answers that are for one client each: every client gets its own, and as soon as the first header
// has shown that, none waits.
func TestWhatIsNotShared(t *testing.T) {
	const n = 20
	user := func(name string) func(int) []string {
		return func(i int) []string { return []string{name, fmt.Sprintf("user=%d", i), "X-User", fmt.Sprint(i)} }
	}
	for name, tc := range map[string]struct {
		header func(i int) []string
		// Cache-Control of the response; or another of its fields, named before a colon.
		directive string
		status    int
	}{
		"Set-Cookie":                        {user("X-Any"), "Set-Cookie: a=b", 200},
		"Vary: *":                           {user("X-Any"), "Vary: *", 200},
		"Authorization":                     {user("Authorization"), "", 200},
		"Authorization, with a lifetime":    {user("Authorization"), "max-age=60", 200},
		"cookies":                           {user("Cookie"), "", 200},
		"no-store":                          {user("X-Any"), "no-store", 200},
		"private":                           {user("X-Any"), "private, max-age=60", 200},
		"not found":                         {user("X-Any"), "", 404},
		"forbidden":                         {user("X-Any"), "", 403},
		"redirect that is not to be cached": {user("X-Any"), "", 302},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				if name, value, other := strings.Cut(tc.directive, ": "); other {
					w.Header().Set("Cache-Control", "max-age=60")
					w.Header().Set(name, value)
				} else if tc.directive != "" {
					w.Header().Set("Cache-Control", tc.directive)
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, "for "+v.Header.Get("X-User"))
			})
			in := start(t, proxied(patientFlights), g.origin)
			c := gather(t, in, n, http.MethodGet, "/", tc.header)
			parked(t, n)
			leader := g.next(t, 1)
			g.noMore(t)
			open(leader...)
			open(g.next(t, n-1)...) // all at once: none of these is answered yet
			for i, a := range c.all() {
				a.want(t, tc.status, fmt.Sprint("for ", i), "")
				if strings.Contains(a.cacheStatus(), "collapsed") || strings.Contains(a.cacheStatus(), "stored") {
					t.Errorf("client %d: %q", i, a.cacheStatus())
				}
			}
			// The key is remembered now: not even one waits for another.
			c = gather(t, in, n, http.MethodGet, "/", tc.header)
			open(g.next(t, n)...)
			for i, a := range c.all() {
				a.want(t, tc.status, fmt.Sprint("for ", i), "Larder; fwd=miss")
			}
			settled(t, in)
		})
	}
}

func TestHitForMissForgets(t *testing.T) {
	var storable atomic.Bool
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if storable.Load() {
			w.Header().Set("Cache-Control", "max-age=60")
		}
		_, _ = io.WriteString(w, "body")
	})
	in := start(t, proxied(patientFlights), o)
	in.get("/").want(t, 200, "body", "Larder; fwd=uri-miss")
	in.get("/").want(t, 200, "body", "Larder; fwd=miss")
	storable.Store(true)
	in.get("/").want(t, 200, "body", "Larder; fwd=miss") // the one that finds out
	in.get("/").want(t, 200, "body", "Larder; fwd=uri-miss; stored")
	settled(t, in)
	if hit := in.get("/"); !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
		t.Errorf("Cache-Status %q", hit.cacheStatus())
	}
}

// What is for one client goes to its real writer, whose connection an inner handler may take over.
func TestHijackOfWhatIsNotShared(t *testing.T) {
	ts := newTurnstile(t, func(_ int, w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
		w.Header().Set("Upgrade", "echo")
		w.Header().Set("Connection", "Upgrade")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return fmt.Errorf("hijacking: %w", err)
		}
		defer conn.Close()
		line, err := rw.ReadString('\n')
		if err != nil {
			return err
		}
		_, _ = rw.WriteString("echo " + line)
		return rw.Flush()
	})
	in := start(t, setup{site: "route {\nlarder\ntest_breaker\n}"}, nil)
	c := in.dial()
	// Without Upgrade, with which it would bypass.
	c.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	parked(t, 1)
	ts.let(t)
	if resp := c.response(http.MethodGet); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	c.send("hello\n")
	if got, err := c.r.ReadString('\n'); err != nil || got != "echo hello\n" {
		t.Errorf("%q, %v", got, err)
	}
	_ = c.Close()
	settled(t, in)
}

// Five clients that wait for a message each have a request of their own at the origin, also those
// that come while the others' is open.
func TestLongPollsWaitForNobody(t *testing.T) {
	const n = 5
	g := newGate(t, func(w http.ResponseWriter, _ *visit) {
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, "message")
	})
	in := start(t, proxied(patientFlights), g.origin)
	g.letThrough(t, in, "/poll")
	polls := gather(t, in, n, http.MethodGet, "/poll", nil)
	all := g.next(t, n)
	open(all...)
	for _, a := range polls.all() {
		a.want(t, 200, "message", "Larder; fwd=miss")
	}
	g.noMore(t)
}

// A request of an EventSource neither waits nor is waited for: neither on a cold key nor where a
// stale response is to be validated.
func TestEventStreamsWaitForNobody(t *testing.T) {
	const n = 5
	accept := func(int) []string { return []string{"Accept", "text/event-stream"} }
	for name, then := range map[string]http.HandlerFunc{
		"cold":  answering(200, "Content-Type", "text/event-stream", "Cache-Control", "no-cache"),
		"stale": answering(503),
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				if name == "stale" && v.number == 1 {
					w.Header().Set("Cache-Control", "max-age=60")
					w.Header().Set("Age", "100")
					_, _ = io.WriteString(w, "old")
					return
				}
				then(w, v.Request)
			})
			in := start(t, proxied(block("stale_if_error 1h")), g.origin)
			if name == "stale" {
				fill(t, in, g, "/")
			}
			ordinary := gather(t, in, 1, http.MethodGet, "/", nil)
			leader := g.next(t, 1)
			streams := gather(t, in, n, http.MethodGet, "/", accept)
			open(g.next(t, n)...)
			for _, a := range streams.all() {
				if name == "stale" { // the failure is answered with it all the same
					if a.want(t, 200, "old", ""); !strings.HasSuffix(a.cacheStatus(), "detail=sie") {
						t.Errorf("Cache-Status %q", a.cacheStatus())
					}
					continue
				}
				a.want(t, 200, "", "Larder; fwd=uri-miss")
			}
			open(leader...)
			ordinary.all()
			settled(t, in)
		})
	}
}

// personalRequests have answers of their own by what they carry.
var personalRequests = map[string][]string{
	"Authorization and no-cache":  {"Authorization", "x", "Cache-Control", "no-cache"},
	"Authorization and max-age=0": {"Authorization", "x", "Cache-Control", "max-age=0"},
	"a cookie":                    {"Cookie", "session=x"},
	"a cookie and no-cache":       {"Cookie", "session=x", "Cache-Control", "no-cache"},
	"no-cache":                    {"Cache-Control", "no-cache"},
	"Pragma":                      {"Pragma", "no-cache"},
	"max-age=0":                   {"Cache-Control", "max-age=0"},
	"an odd field":                {"X-Odd", "x"},
}

// personally answers requests of personalRequests each in another way, and everybody else with what
// is for all.
func personally(w http.ResponseWriter, v *visit) {
	switch {
	case v.Header.Get("X-Odd") != "":
		w.WriteHeader(http.StatusBadRequest)
	case v.Header.Get("Cookie") != "":
		w.Header().Set("Location", "/login")
		w.WriteHeader(http.StatusFound)
	case v.Header.Get("Authorization") != "":
		w.Header().Set("Cache-Control", "private")
	case v.Header.Get("Cache-Control") != "" || v.Header.Get("Pragma") != "":
		w.Header().Set("Set-Cookie", "new=visitor")
	default:
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "for all")
	}
}

// One personal request before a hundred ordinary ones had each of those ask the origin.
func TestPersonalAnswerIsNotRememberedForOthers(t *testing.T) {
	for name, header := range personalRequests {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, personally)
			in := start(t, proxied(patientFlights), g.origin)
			for range 2 {
				g.letThrough(t, in, "/", header...)
			}
			crowd := gather(t, in, 100, http.MethodGet, "/", nil)
			parked(t, 100)
			open(g.next(t, 1)...)
			for _, a := range crowd.all() {
				a.want(t, 200, "for all", "")
			}
			g.noMore(t)
		})
	}
}

// The same while the ordinary ones wait for the personal one: its answer is not for them, but the
// next is for all of them.
func TestFollowersOfAPersonalRequestGather(t *testing.T) {
	for name, header := range personalRequests {
		if header[0] == "Authorization" {
			continue // it leads only requests with the same Authorization
		}
		t.Run(name, func(t *testing.T) {
			const n = 50
			g := newGate(t, personally)
			in := start(t, proxied(patientFlights), g.origin)
			personal := gather(t, in, 1, http.MethodGet, "/", func(int) []string { return header })
			leader := g.next(t, 1)
			crowd := gather(t, in, n, http.MethodGet, "/", nil)
			parked(t, n+1)
			open(leader...)
			personal.all()
			second := g.next(t, 1)
			parked(t, n)
			open(second...)
			for _, a := range crowd.all() {
				a.want(t, 200, "for all", "")
			}
			g.noMore(t)
		})
	}
}

// Members, whose answers are their own, do not wait for each other once that is known, also where a
// visitors' copy is there and stale.
func TestMembersWaitForNobody(t *testing.T) {
	const n = 10
	g := newGate(t, func(w http.ResponseWriter, v *visit) {
		if cookie := v.Header.Get("Cookie"); cookie != "" {
			w.Header().Set("Cache-Control", "private")
			w.WriteHeader(http.StatusForbidden) // which leaves the copy where it is
			_, _ = io.WriteString(w, cookie)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Age", "100")
		_, _ = io.WriteString(w, "for all")
	})
	in := start(t, proxied(patientFlights), g.origin)
	fill(t, in, g, "/")
	member := func(i int) []string { return []string{"Cookie", fmt.Sprint("session=", i)} }
	g.letThrough(t, in, "/", member(0)...)
	crowd := gather(t, in, n, http.MethodGet, "/", member)
	open(g.next(t, n)...)
	for i, a := range crowd.all() {
		a.want(t, 403, fmt.Sprint("session=", i), "")
	}
	visitors := gather(t, in, n, http.MethodGet, "/", nil)
	parked(t, n)
	open(g.next(t, 1)...)
	for _, a := range visitors.all() {
		a.want(t, 200, "for all", "")
	}
	g.noMore(t)
}

// What the old rules called not shareable was remembered through a reload: the first hit under the
// new ones was the third request.
func TestReloadBeginsWithItsOwnRules(t *testing.T) {
	o := newOrigin(t, answering(200))
	in := start(t, proxied(patientFlights), o)
	in.get("/").want(t, 200, "", "Larder; fwd=uri-miss")
	for i, tc := range []struct{ name, directive, want string }{
		{"the same rules", "larder", "Larder; fwd=miss"},
		{"another way to tell", block("status off"), ""},
		{"the same rules again", "larder", "Larder; fwd=miss"},
		{"rules that let it in", block("ttl 1m"), "Larder; fwd=uri-miss; stored"},
		{"and those kept", block("ttl 1m"), "Larder; hit; ttl="},
	} {
		in.load(proxied(fmt.Sprintf("header X-Load %d\n%s", i, tc.directive)), o)
		var first *answer
		eventually(t, "the old server takes no request any more", func() bool {
			first = in.get("/")
			return first.Header.Get("X-Load") == fmt.Sprint(i)
		})
		if got := first.cacheStatus(); !strings.HasPrefix(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// What many concurrent requests for one thing cost, and what they see. The origin holds its answers until the test lets them go, so
// that every interleaving here is made, not hoped for.

// gate is an origin whose every request shows up in arrived and then waits.
type gate struct {
	*origin
	arrived chan *visit
}

// visit is a request that has come to a gate. Its handler goes on when the test closes proceed.
type visit struct {
	*http.Request
	number  int // 1 for the first
	proceed chan struct{}
}

// newGate starts an origin that answers by handler once the test lets it.
func newGate(t *testing.T, handler func(w http.ResponseWriter, v *visit)) *gate {
	t.Helper()
	g := &gate{arrived: make(chan *visit, 1000)}
	var number atomic.Int64
	over := make(chan struct{})
	g.origin = newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		v := &visit{Request: r, number: int(number.Add(1)), proceed: make(chan struct{})}
		g.arrived <- v
		select {
		case <-v.proceed:
			handler(w, v)
		case <-r.Context().Done():
		case <-over:
		}
	})
	t.Cleanup(func() { close(over) }) // before the server is closed, which waits for its handlers
	return g
}

// next waits for n requests.
func (g *gate) next(t *testing.T, n int) []*visit {
	t.Helper()
	all := make([]*visit, 0, n)
	for len(all) < n {
		select {
		case v := <-g.arrived:
			all = append(all, v)
		case <-t.Context().Done():
			t.Fatalf("%d of %d requests came to the origin", len(all), n)
		}
	}
	return all
}

// nobody fails the test if a request has come that was not asked for.
func (g *gate) nobody(t *testing.T) {
	t.Helper()
	select {
	case v := <-g.arrived:
		t.Errorf("one request too many came to the origin: %s %s %v", v.Method, v.URL, v.Header)
	default:
	}
}

// open lets a visit go on.
func open(visits ...*visit) {
	for _, v := range visits {
		close(v.proceed)
	}
}

// twoParts answers with "first ", and with "last" when rest is closed; not whole if the one who asked goes before.
func twoParts(w http.ResponseWriter, v *visit, rest <-chan struct{}) (whole bool) {
	_, _ = io.WriteString(w, "first ")
	_ = http.NewResponseController(w).Flush()
	select {
	case <-rest:
		_, _ = io.WriteString(w, "last")
		return true
	case <-v.Context().Done():
		return false
	}
}

// crowd is a number of clients at work.
type crowd struct {
	t       *testing.T
	clients sync.WaitGroup
	answers []*answer
	errs    []error
}

// gather sends n requests at once; header gives each client's own fields.
func gather(t *testing.T, in *instance, n int, method, path string, header func(i int) []string) *crowd {
	t.Helper()
	c := &crowd{t: t, answers: make([]*answer, n), errs: make([]error, n)}
	for i := range n {
		var fields []string
		if header != nil {
			fields = header(i)
		}
		c.clients.Go(func() { c.answers[i], c.errs[i] = in.try(t.Context(), method, path, "", fields...) })
	}
	return c
}

// all waits for the answers, every one of which must have a header.
func (c *crowd) all() []*answer {
	c.t.Helper()
	c.clients.Wait()
	for i, err := range c.errs {
		if err != nil {
			c.t.Fatalf("client %d: %v", i, err)
		}
	}
	return c.answers
}

// statuses counts the answers by their member of Cache-Status.
func statuses(answers []*answer) map[string]int {
	count := make(map[string]int)
	for _, a := range answers {
		count[a.cacheStatus()]++
	}
	return count
}

func TestOneFetchForFiftyAndAllStream(t *testing.T) {
	const n = 50
	second := make(chan struct{})
	g := newGate(t, func(w http.ResponseWriter, v *visit) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"rows":[`)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-second:
		case <-v.Context().Done():
		}
		_, _ = io.WriteString(w, `1]}`)
	})
	in := start(t, proxied("larder"), g.origin)
	firsts := make(chan string, n)
	var clients sync.WaitGroup
	answers := make([]*answer, n)
	for i := range n {
		clients.Go(func() {
			resp, err := in.client.Get(in.url("/"))
			if err != nil {
				t.Error(err)
				firsts <- ""
				return
			}
			defer resp.Body.Close()
			first := make([]byte, len(`{"rows":[`))
			_, _ = io.ReadFull(resp.Body, first)
			firsts <- string(first)
			rest, err := io.ReadAll(resp.Body)
			answers[i] = &answer{Response: resp, body: string(first) + string(rest), err: err}
		})
	}
	parked(t, n)
	open(g.next(t, 1)...)
	for range n {
		if got := <-firsts; got != `{"rows":[` {
			t.Errorf("before the origin went on there was %q", got)
		}
	}
	close(second)
	clients.Wait()
	if t.Failed() {
		return
	}
	for _, a := range answers {
		a.want(t, 200, `{"rows":[1]}`, "")
	}
	got := statuses(answers)
	if got["Larder; fwd=uri-miss; stored"] != 1 || got["Larder; fwd=uri-miss; fwd-status=200; collapsed"] != n-1 {
		t.Errorf("Cache-Status: %v", got)
	}
	g.nobody(t)
	settled(t, in)
	if hit := in.get("/"); !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") || hit.body != `{"rows":[1]}` {
		t.Errorf("afterwards: %q %q", hit.cacheStatus(), hit.body)
	}
}

// A client that has the whole of an answer finds it stored: its next request is a hit, its purge counts it.
func TestWhoHasTheWholeFindsItStored(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 4096)
	for name, answer := range map[string]func(w http.ResponseWriter){
		"with Content-Length": func(w http.ResponseWriter) { _, _ = io.WriteString(w, "short") },
		"chunked": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, body)
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, body)
		},
		"empty": func(http.ResponseWriter) {},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				answer(w)
			})
			in := start(t, proxied("larder"), o)
			for i := range 50 {
				path := fmt.Sprint("/", i)
				in.get(path)
				if hit := in.get(path); !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
					t.Errorf("%s: the second request: %q", path, hit.cacheStatus())
				}
				path = fmt.Sprint("/purged/", i)
				in.get(path)
				if n := in.purge(`{"urls":["` + in.url(path) + `"]}`); n != 1 {
					t.Errorf("%s: the purge matched %d", path, n)
				}
			}
			o.asked(t, 100)
		})
	}
}

// Answers that are for one client each: everybody gets their own, and as soon as the first header has shown that, nobody waits.
func TestWhatIsNotShared(t *testing.T) {
	const n = 20
	user := func(name string) func(int) []string {
		return func(i int) []string { return []string{name, fmt.Sprintf("user=%d", i), "X-User", fmt.Sprint(i)} }
	}
	for name, tc := range map[string]struct {
		header    func(i int) []string
		directive string // Cache-Control of the response; or another of its fields, named before a colon
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
			in := start(t, proxied("larder"), g.origin)
			c := gather(t, in, n, http.MethodGet, "/", tc.header)
			parked(t, n)
			leader := g.next(t, 1)
			g.nobody(t)
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

func TestCoalesceOff(t *testing.T) {
	const n = 10
	g := newGate(t, func(w http.ResponseWriter, _ *visit) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "body")
	})
	in := start(t, proxied("larder {\ncoalesce off\n}"), g.origin)
	c := gather(t, in, n, http.MethodGet, "/", nil)
	open(g.next(t, n)...)
	for _, a := range c.all() {
		a.want(t, 200, "body", "Larder; fwd=uri-miss; stored")
	}
	settled(t, in)
	if hit := in.get("/"); !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
		t.Errorf("afterwards: %q", hit.cacheStatus())
	}
}

func TestCoalesceWait(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, v *visit) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = fmt.Fprint(w, v.number)
	})
	in := start(t, proxied("larder {\ncoalesce wait 1s\n}"), g.origin) // so long that the second comes aboard in time
	first := gather(t, in, 1, http.MethodGet, "/", nil)
	leader := g.next(t, 1)
	second := gather(t, in, 1, http.MethodGet, "/", nil)
	parked(t, 2)
	open(g.next(t, 1)...) // it comes although the leader has no answer yet
	second.all()[0].want(t, 200, "2", "Larder; fwd=bypass; detail=coalesce-wait")
	open(leader...)
	first.all()[0].want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	settled(t, in)
}

// The fetch is nobody's: its leader's client may go whenever it likes.
func TestLeaderLeaves(t *testing.T) {
	const followers = 5
	for _, when := range []string{"before the header", "in mid-body"} {
		t.Run(when, func(t *testing.T) {
			rest := make(chan struct{})
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				w.Header().Set("Cache-Control", "max-age=60")
				twoParts(w, v, rest)
			})
			in := start(t, proxied("larder"), g.origin)
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
			g.nobody(t)
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
			in := start(t, proxied("larder"), g.origin)
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
	in := start(t, proxied("larder"), g.origin)
	c := in.dial()
	c.send("GET / HTTP/1.1\r\nHost: localhost:" + fmt.Sprint(in.port) + "\r\n\r\n") // and reads nothing
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

// A body that breaks off breaks every reader's connection, is not stored, and the next request begins anew.
func TestBrokenBody(t *testing.T) {
	const n = 10
	for name, declared := range map[string]string{"Content-Length too long": "100", "chunked, connection cut": ""} {
		t.Run(name, func(t *testing.T) {
			cut := make(chan struct{})
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				w.Header().Set("Cache-Control", "max-age=60")
				if v.number > 1 {
					_, _ = io.WriteString(w, "whole")
					return
				}
				if declared != "" {
					w.Header().Set("Content-Length", declared)
				}
				_, _ = io.WriteString(w, "a part")
				_ = http.NewResponseController(w).Flush()
				<-cut
				panic(http.ErrAbortHandler)
			})
			// With a Content-Length reverse_proxy keeps small bodies back.
			in := start(t, setup{site: "larder\nreverse_proxy {{origin}} {\nflush_interval -1\n}"}, g.origin)
			var clients sync.WaitGroup
			headers := make(chan struct{}, n)
			for range n {
				clients.Go(func() {
					resp, err := in.client.Get(in.url("/"))
					headers <- struct{}{}
					if err != nil {
						t.Errorf("no header: %v", err)
						return
					}
					defer resp.Body.Close()
					if body, err := io.ReadAll(resp.Body); err == nil {
						t.Errorf("the body ended cleanly: %d %q", resp.StatusCode, body)
					}
				})
			}
			parked(t, n)
			open(g.next(t, 1)...)
			for range n {
				<-headers
			}
			close(cut)
			clients.Wait()
			g.nobody(t)
			again := gather(t, in, 1, http.MethodGet, "/", nil)
			open(g.next(t, 1)...)
			again.all()[0].want(t, 200, "whole", "Larder; fwd=uri-miss; stored")
			settled(t, in)
		})
	}
}

// A failure costs two fetches, however many wait: the leader's client has its own as it came, the others have the second's.
func TestFailureWithFollowers(t *testing.T) {
	const followers = 10
	fail := func(w http.ResponseWriter, number int) {
		w.Header().Set("Retry-After", fmt.Sprint(number))
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "the origin's own words")
	}
	abort := func(http.ResponseWriter, int) { panic(http.ErrAbortHandler) }
	for name, tc := range map[string]struct {
		first, second func(w http.ResponseWriter, number int)
		leader        string // status and body
		others        string
		fetches       int
	}{
		"503 twice":       {fail, fail, "503 the origin's own words", "503 handled: miss status", 2},
		"no answer twice": {abort, abort, "502 handled: miss error", "502 handled: miss error", 2},
		"503, then good": {fail, func(w http.ResponseWriter, _ int) {
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, "good")
		}, "503 the origin's own words", "200 good", 2},
		"no answer, then good": {abort, func(w http.ResponseWriter, _ int) {
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, "good")
		}, "502 handled: miss error", "200 good", 2},
		"503, then not to be stored": {fail, func(w http.ResponseWriter, _ int) {
			w.Header().Set("Cache-Control", "no-store")
			_, _ = io.WriteString(w, "single")
		}, "503 the origin's own words", "200 single", 1 + followers},
		"503, then not found": {fail, func(w http.ResponseWriter, _ int) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "none")
		}, "503 the origin's own words", "404 none", 1 + followers},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				if v.number == 1 {
					tc.first(w, v.number)
					return
				}
				tc.second(w, v.number)
			})
			in := start(t, setup{site: `larder
				reverse_proxy {{origin}} {
					transport http {
						keepalive off
					}
				}
				handle_errors {
					respond "handled: {http.larder.status} {http.larder.reason}"
				}`}, g.origin)
			leader := gather(t, in, 1, http.MethodGet, "/", nil)
			v := g.next(t, 1)
			c := gather(t, in, followers, http.MethodGet, "/", nil)
			parked(t, 1+followers)
			open(v...)
			first := leader.all()[0]
			if got := fmt.Sprint(first.StatusCode, " ", first.body); got != tc.leader {
				t.Errorf("the leader got %s, want %s", got, tc.leader)
			}
			v = g.next(t, 1)
			parked(t, followers) // all gather on the second fetch
			g.nobody(t)
			open(v...)
			if more := tc.fetches - 2; more > 0 {
				open(g.next(t, more)...)
			}
			for i, a := range c.all() {
				if got := fmt.Sprint(a.StatusCode, " ", a.body); got != tc.others {
					t.Errorf("follower %d got %s, want %s", i, got, tc.others)
				}
				if want := "2"; a.StatusCode == 503 && a.Header.Get("Retry-After") != want {
					t.Errorf("follower %d: Retry-After %q, want %q", i, a.Header.Get("Retry-After"), want)
				}
			}
			g.nobody(t)
			settled(t, in)
		})
	}
}

// Where a stale answer is allowed, a failure costs one fetch and nobody sees it.
func TestStaleAnswerForAllWhoWait(t *testing.T) {
	const n = 20
	for name, answer := range map[string]func(w http.ResponseWriter){
		"503":       func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"no answer": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"header alone, chunked": func(w http.ResponseWriter) {
			w.Header().Set("Cache-Control", "max-age=60")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"header alone, with Content-Length": func(w http.ResponseWriter) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Length", "100")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"header alone, of what is for one client": func(w http.ResponseWriter) {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Content-Length", "100")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"header alone, of what states no lifetime": func(w http.ResponseWriter) {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"header alone, of a failure that no stale response stands in for": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusNotImplemented)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				if v.number > 1 {
					answer(w)
					return
				}
				w.Header().Set("Cache-Control", "max-age=60, stale-if-error=600")
				w.Header().Set("Age", "100")
				_, _ = io.WriteString(w, "old but good")
			})
			in := start(t, setup{site: "larder\nreverse_proxy {{origin}} {\ntransport http {\nkeepalive off\n}\n}"}, g.origin)
			fill(t, in, g, "/")
			c := gather(t, in, n, http.MethodGet, "/", nil)
			parked(t, n)
			open(g.next(t, 1)...)
			for _, a := range c.all() {
				a.want(t, 200, "old but good", "")
				if !strings.HasPrefix(a.cacheStatus(), "Larder; hit; ttl=-") || !strings.HasSuffix(a.cacheStatus(), "; detail=sie") {
					t.Errorf("Cache-Status %q", a.cacheStatus())
				}
			}
			g.nobody(t)
			settled(t, in)
		})
	}
}

func TestEachVariantIsFetchedOnce(t *testing.T) {
	const n, languages = 30, 3
	g := newGate(t, func(w http.ResponseWriter, v *visit) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "X-Lang")
		_, _ = io.WriteString(w, "in "+v.Header.Get("X-Lang"))
	})
	in := start(t, proxied("larder"), g.origin)
	language := func(i int) []string { return []string{"X-Lang", fmt.Sprint("l", i%languages)} }
	c := gather(t, in, n, http.MethodGet, "/", language)
	parked(t, n)
	open(g.next(t, 1)...)
	open(g.next(t, languages-1)...) // in parallel: neither is answered yet
	for i, a := range c.all() {
		a.want(t, 200, fmt.Sprint("in l", i%languages), "")
	}
	g.nobody(t)
	settled(t, in)
	for i := range languages {
		hit := in.get("/", language(i)...)
		if hit.want(t, 200, fmt.Sprint("in l", i), ""); !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
			t.Errorf("variant %d: %q", i, hit.cacheStatus())
		}
	}
}

func TestBodyOverMaxBody(t *testing.T) {
	const n = 5
	body := strings.Repeat("0123456789abcdef", 16<<10) // 256 KiB
	for name, length := range map[string]string{"with Content-Length": fmt.Sprint(len(body)), "without": ""} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, _ *visit) {
				w.Header().Set("Cache-Control", "max-age=60")
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				_, _ = io.WriteString(w, body)
			})
			in := start(t, proxied("larder {\nmax_body 64KiB\nstatus full\n}"), g.origin)
			c := gather(t, in, n, http.MethodGet, "/", nil)
			parked(t, n)
			open(g.next(t, 1)...)
			if length != "" { // known at the header: not shared
				open(g.next(t, n-1)...)
			}
			for _, a := range c.all() {
				if a.err != nil || a.body != body {
					t.Errorf("%d bytes, %v", len(a.body), a.err)
				}
				if length != "" && (strings.Contains(a.cacheStatus(), "stored") || !strings.HasSuffix(a.cacheStatus(), "detail=too-large")) {
					t.Errorf("Cache-Status %q", a.cacheStatus())
				}
			}
			settled(t, in)
			again := gather(t, in, 1, http.MethodGet, "/", nil)
			open(g.next(t, 1)...)
			if a := again.all()[0]; a.body != body || strings.HasPrefix(a.cacheStatus(), "Larder; hit") {
				t.Errorf("afterwards: %d bytes, %q", len(a.body), a.cacheStatus())
			}
			if stats := in.stats(); stats.Memory.Entries != 0 {
				t.Errorf("%d entries are stored", stats.Memory.Entries)
			}
		})
	}
}

// 64 MiB go through a window of 4 MiB; a reader that takes nothing is dropped after a while and keeps nobody else from the whole.
func TestWindow(t *testing.T) {
	const size = 64 << 20
	block := strings.Repeat("0123456789abcdef", 4096)
	for _, dead := range []bool{false, true} {
		t.Run(fmt.Sprintf("dead reader %v", dead), func(t *testing.T) {
			if dead && testing.Short() {
				t.Skip("a dead reader is waited for 10 s")
			}
			g := newGate(t, func(w http.ResponseWriter, _ *visit) {
				w.Header().Set("Cache-Control", "max-age=60")
				for range size / len(block) {
					if _, err := io.WriteString(w, block); err != nil {
						return
					}
				}
			})
			in := start(t, proxied("larder {\nmax_body 1MiB\n}"), g.origin)
			followers := 2
			var c *connection
			if dead {
				c = in.dial()
				c.send("GET / HTTP/1.1\r\nHost: localhost:" + fmt.Sprint(in.port) + "\r\n\r\n")
				followers++
			}
			readers := gather(t, in, 2, http.MethodGet, "/", nil)
			parked(t, followers)
			open(g.next(t, 1)...)
			for _, a := range readers.all() {
				if a.err != nil || len(a.body) != size {
					t.Errorf("%d bytes, %v", len(a.body), a.err)
				}
			}
			if dead {
				if whole, err := io.ReadAll(c.r); err == nil && len(whole) >= size {
					t.Error("the dead reader had the whole all the same")
				}
			}
			settled(t, in)
			g.nobody(t)
			if stats := in.stats(); stats.Memory.Entries != 0 {
				t.Errorf("%d entries are stored", stats.Memory.Entries)
			}
		})
	}
}

// staleOrigin is a gate whose first answer, let through by itself, is stale as soon as it comes; then it answers conditionals with 304.
func staleOrigin(t *testing.T, directive string) *gate {
	return newGate(t, func(w http.ResponseWriter, v *visit) {
		w.Header().Set("Cache-Control", directive)
		w.Header().Set("Etag", `"v1"`)
		if v.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if v.number == 1 {
			w.Header().Set("Age", "100")
		}
		_, _ = io.WriteString(w, "body")
	})
}

// fill makes the first request and lets it through.
func fill(t *testing.T, in *instance, g *gate, path string) {
	t.Helper()
	c := gather(t, in, 1, http.MethodGet, path, nil)
	open(g.next(t, 1)...)
	c.all()[0].want(t, 200, "", "Larder; fwd=uri-miss; stored")
	settled(t, in)
}

func TestOneValidationForFifty(t *testing.T) {
	const n = 50
	g := staleOrigin(t, "max-age=60")
	in := start(t, proxied("larder"), g.origin)
	fill(t, in, g, "/")
	c := gather(t, in, n, http.MethodGet, "/", func(i int) []string {
		switch i % 3 {
		case 0:
			return []string{"If-None-Match", `"v1"`}
		case 1:
			return []string{"Range", "bytes=0-1"}
		}
		return []string{"If-None-Match", `"v0"`}
	})
	parked(t, n)
	v := g.next(t, 1)
	if got := v[0].Header["If-None-Match"]; len(got) != 1 || got[0] != `"v1"` || v[0].Header.Get("Range") != "" {
		t.Errorf("the validation is If-None-Match %q, Range %q", got, v[0].Header.Get("Range"))
	}
	open(v...)
	leaders := 0
	for i, a := range c.all() {
		switch i % 3 {
		case 0:
			a.want(t, 304, "", "")
		case 1:
			a.want(t, 206, "bo", "")
		default:
			a.want(t, 200, "body", "")
		}
		switch a.cacheStatus() {
		case "Larder; fwd=stale; fwd-status=304; stored":
			leaders++
		case "Larder; fwd=stale; fwd-status=304; collapsed":
		default:
			t.Errorf("client %d: %q", i, a.cacheStatus())
		}
	}
	if leaders != 1 {
		t.Errorf("%d requests say they stored the answer", leaders)
	}
	g.nobody(t)
	settled(t, in)
}

func TestOneBackgroundFetchWhileStale(t *testing.T) {
	const n = 50
	g := staleOrigin(t, "max-age=60, stale-while-revalidate=600")
	in := start(t, proxied("larder"), g.origin)
	fill(t, in, g, "/")
	for _, a := range gather(t, in, n, http.MethodGet, "/", nil).all() { // all are answered while the origin still thinks
		a.want(t, 200, "body", "")
		if !strings.HasPrefix(a.cacheStatus(), "Larder; hit; ttl=-") || !strings.HasSuffix(a.cacheStatus(), "; detail=swr") {
			t.Errorf("Cache-Status %q", a.cacheStatus())
		}
	}
	v := g.next(t, 1)
	g.nobody(t)
	open(v...)
	settled(t, in)
	fresh := in.get("/")
	if fresh.want(t, 200, "body", ""); !strings.HasPrefix(fresh.cacheStatus(), "Larder; hit; ttl=") || strings.Contains(fresh.cacheStatus(), "swr") {
		t.Errorf("after the refresh: %q", fresh.cacheStatus())
	}
	g.nobody(t)
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
	in := start(t, proxied("larder"), o)
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

func TestHeadJoinsARunningGet(t *testing.T) {
	for _, when := range []string{"before the header", "in mid-body"} {
		t.Run(when, func(t *testing.T) {
			rest := make(chan struct{})
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Etag", `"v1"`)
				twoParts(w, v, rest)
			})
			in := start(t, proxied("larder"), g.origin)
			get := gather(t, in, 1, http.MethodGet, "/", nil)
			v := g.next(t, 1)
			if when == "in mid-body" {
				open(v...)
				parked(t, 0)
			}
			head := gather(t, in, 3, http.MethodHead, "/", nil)
			if when == "before the header" {
				parked(t, 4)
				open(v...)
			}
			for _, a := range head.all() { // while the body is still on its way
				a.want(t, 200, "", "Larder; fwd=uri-miss; fwd-status=200; collapsed")
				if a.Header.Get("Etag") != `"v1"` {
					t.Errorf("HEAD: %v", a.Header)
				}
			}
			close(rest)
			get.all()[0].want(t, 200, "first last", "Larder; fwd=uri-miss; stored")
			g.nobody(t)
			settled(t, in)
		})
	}
}

// A fetch that began before a purge is of no use to requests that start after it, and is not stored.
func TestPurgeOfAFetchUnderWay(t *testing.T) {
	for _, when := range []string{"before the header", "in mid-body"} {
		for name, selector := range map[string]string{
			"tag": `{"tags":["page"]}`, "url": `{"urls":["%s/"]}`, "prefix": `{"prefixes":["%s/"]}`, "all": `{"all":true}`, "host": `{"hosts":["%h"]}`,
			"soft": `{"tags":["page"],"soft":true}`,
		} {
			t.Run(name+" "+when, func(t *testing.T) {
				rest := make(chan struct{})
				g := newGate(t, func(w http.ResponseWriter, v *visit) {
					w.Header().Set("Cache-Control", "max-age=60")
					w.Header().Set("Surrogate-Key", "page")
					if v.number > 1 {
						_, _ = io.WriteString(w, "new")
						return
					}
					_, _ = io.WriteString(w, "o")
					_ = http.NewResponseController(w).Flush()
					<-rest
					_, _ = io.WriteString(w, "ld")
				})
				in := start(t, proxied("larder"), g.origin)
				before := gather(t, in, 1, http.MethodGet, "/", nil)
				v := g.next(t, 1)
				if when == "in mid-body" {
					open(v...)
					parked(t, 0)
				}
				host := strings.TrimPrefix(in.url(""), "http://")
				in.purge(strings.NewReplacer("%s", in.url(""), "%h", host).Replace(selector))
				after := gather(t, in, 1, http.MethodGet, "/", nil)
				if when == "before the header" {
					if name == "tag" || name == "soft" { // what tags it has is known at the header only
						parked(t, 2)
						open(v...)
					} else {
						second := g.next(t, 1)
						open(v...)
						open(second...)
					}
				}
				if when == "in mid-body" || name == "tag" || name == "soft" {
					open(g.next(t, 1)...)
				}
				after.all()[0].want(t, 200, "new", "")
				close(rest)
				before.all()[0].want(t, 200, "old", "")
				settled(t, in)
				in.get("/").want(t, 200, "new", "")
				g.nobody(t)
			})
		}
	}
}

// Nothing is left of flights when they are over: neither goroutines nor bytes.
func TestNothingIsLeftOfFlights(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("kind") {
		case "0":
			w.Header().Set("Cache-Control", "max-age=60")
		case "1":
			w.WriteHeader(http.StatusBadGateway)
		case "2":
			w.Header().Set("Content-Length", "100")
			w.Header().Set("Cache-Control", "max-age=60")
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 50))
	})
	in := start(t, proxied("larder"), o)
	in.get("/warm")
	settled(t, in)
	in.purge(`{"all":true}`)
	before := in.stats().Memory.Bytes
	for round := range 10 {
		var clients sync.WaitGroup
		for i := range 20 {
			clients.Go(func() {
				_, _ = in.try(t.Context(), http.MethodGet, fmt.Sprintf("/%d?kind=%d", round, i%4), "")
			})
		}
		clients.Wait()
	}
	settled(t, in)
	in.purge(`{"all":true}`)
	eventually(t, fmt.Sprintf("bytes are back at %d", before), func() bool { return in.stats().Memory.Bytes <= before })
	for _, code := range []string{module + ".", module + "/coalesce."} {
		eventually(t, "no goroutine is in "+code, func() bool { return goroutinesUnder(code) == 0 })
	}
}

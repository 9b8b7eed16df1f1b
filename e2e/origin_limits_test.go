package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// moody is an origin whose first answer to a path is a page that is stale when it arrives, and that
// answers as its mood says from then on.
type moody struct {
	*origin
	mood atomic.Pointer[http.HandlerFunc]
}

func newMoody(t *testing.T) *moody {
	t.Helper()
	m := new(moody)
	m.be(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Age", "100")
		w.Header().Set("Etag", `"v1"`)
		_, _ = io.WriteString(w, "old")
	})
	m.origin = newOrigin(t, func(w http.ResponseWriter, r *http.Request) { (*m.mood.Load())(w, r) })
	return m
}

func (m *moody) be(h http.HandlerFunc) { m.mood.Store(&h) }

// An origin that fails, in every way in which it can, is asked once: thirty requests get the stale
// page at once. When it has answered one that had nothing else, it is asked again.
func TestFailingOriginIsSpared(t *testing.T) {
	const patient = "larder {\nstale_if_error 1d\n}"
	limited := "larder {\nstale_if_error 1d\norigin {\nbackoff 1h\n}\n}"
	never := make(chan struct{})
	for name, tc := range map[string]struct {
		directive string
		fails     http.HandlerFunc
	}{
		"429, Retry-After in seconds": {patient, answering(429, "Retry-After", "3600")},
		"503, Retry-After by date":    {patient, answering(503, "Retry-After", httpDate(time.Hour))},
		"500":                         {limited, answering(500)},
		"hangs": {limited, func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-never:
			case <-r.Context().Done():
			}
		}},
		"resets": {limited, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		"breaks off": {limited, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newMoody(t)
			in := start(t, setup{site: tc.directive + "\nreverse_proxy {{origin}} {\ntransport http {\nkeepalive off\nresponse_header_timeout 300ms\n}\n}"}, o.origin)
			in.get("/").want(t, 200, "old", "")
			o.be(tc.fails)
			in.get("/") // which brings it to light
			o.asked(t, 2)
			var all sync.WaitGroup
			for range 30 {
				all.Go(func() {
					a, err := in.try(context.Background(), http.MethodGet, "/", "")
					if err != nil {
						t.Error(err)
						return
					}
					a.want(t, 200, "old", "")
					a.wantStatus(t, "Larder; hit; ttl=-N; detail=sie")
				})
			}
			all.Wait()
			o.asked(t, 2)
			if got := in.metric("caddy_larder_origin_refused_total", `origin="",why="failing"`); got < 30 {
				t.Errorf("%v were refused as it fails", got)
			}
			o.be(answering(200, "Cache-Control", "max-age=60"))
			in.get("/other").want(t, 200, "1", "")
			in.get("/").want(t, 200, "2", "Larder; fwd=stale; fwd-status=200; stored")
			in.get("/").want(t, 200, "2", "")
			o.asked(t, 4)
			settled(t, in)
		})
	}
}

// An origin for which no process listens, and that comes back.
func TestOriginGoesAndComesBack(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60, stale-if-error=600", "Age", "100"))
	in := start(t, proxied("larder {\norigin {\nbackoff 1h\n}\n}"), o)
	in.get("/").want(t, 200, "1", "")
	o.Close()
	for range 5 {
		in.get("/").wantStatus(t, "Larder; hit; ttl=-N; detail=sie")
	}
	in.get("/other").want(t, 502, "", "")
	again := newOriginAt(t, strings.TrimPrefix(o.URL, "http://"), answering(200, "Cache-Control", "max-age=60"))
	in.get("/").wantStatus(t, "Larder; hit; ttl=-N; detail=sie")
	in.get("/other").want(t, 200, "1", "")
	in.get("/").want(t, 200, "2", "Larder; fwd=stale; fwd-status=200; stored")
	again.asked(t, 2)
}

// Retry-After pauses an origin with limits for all that have its name: who may have the stale page
// has it, others are told when to come again.
func TestPausedOriginOfTwoSites(t *testing.T) {
	o := newMoody(t)
	other := freePort(t)
	limits := "larder {\nstale_if_error 1d\norigin paused {\nmax_concurrent 5\n}\n}\n"
	in := start(t, setup{
		site: limits + "reverse_proxy {{origin}}",
		more: fmt.Sprintf("http://localhost:%d {\nlarder {\norigin paused\n}\nreverse_proxy {{origin}}\nhandle_errors 503 {\nrespond `come again`\n}\n}", other),
	}, o.origin)
	in.get("/").want(t, 200, "old", "")
	o.be(answering(429, "Retry-After", "3600"))
	in.get("/none").want(t, 429, "", "")
	for range 30 {
		a := in.get("/")
		a.want(t, 200, "old", "")
		a.wantStatus(t, "Larder; hit; ttl=-N; detail=origin-busy")
	}
	elsewhere := *in
	elsewhere.port = other
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		a := elsewhere.do(method, "/", "")
		a.want(t, 503, "come again", "Larder; detail=origin-busy")
		a.wantParsed(t)
		if after := a.Header.Get("Retry-After"); len(after) != 4 || after > "3600" || after < "3500" {
			t.Errorf("Retry-After: %s", after)
		}
	}
	o.asked(t, 2)
	in.series(`caddy_larder_origin_waiting{origin="paused"}`)
	if got := in.metric("caddy_larder_origin_refused_total", `origin="paused",why="paused"`); got < 32 {
		t.Errorf("%v were refused by the pause", got)
	}
}

// Two hundred requests at once see an origin that takes ten, and all are answered. What goes to it
// is counted by the origin.
func TestOriginSeesNoMoreThanItTakes(t *testing.T) {
	const most, n = 10, 200
	var under, peak atomic.Int64
	proceed := make(chan struct{})
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		defer under.Add(-1)
		for now := under.Add(1); ; {
			if before := peak.Load(); now <= before || peak.CompareAndSwap(before, now) {
				break
			}
		}
		<-proceed
		w.Header().Set("Cache-Control", "max-age=60")
	})
	in := start(t, proxied(fmt.Sprintf("larder {\norigin busy {\nmax_concurrent %d\nqueue 1000 1m\n}\n}", most)), o)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			method := http.MethodGet
			if i%4 == 0 {
				method = http.MethodPost
			}
			a, err := in.try(context.Background(), method, fmt.Sprintf("/%d", i), "")
			if err != nil {
				t.Error(err)
				return
			}
			a.want(t, 200, "", "")
		})
	}
	eventually(t, "all but ten wait", func() bool {
		return in.metric("caddy_larder_origin_waiting", `origin="busy"`) == n-most && under.Load() == most
	})
	close(proceed)
	all.Wait()
	if peak.Load() != most {
		t.Errorf("the origin saw %d at once, want %d", peak.Load(), most)
	}
	o.asked(t, n)
	settled(t, in)
}

// A reload changes the limits of an origin that is at work, and forgets nothing of what is under
// way.
func TestReloadChangesLimits(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, _ *visit) { w.Header().Set("Cache-Control", "max-age=60") })
	site := func(most int) setup {
		return proxied(fmt.Sprintf("larder {\norigin reloaded {\nmax_concurrent %d\nqueue 0\n}\n}", most))
	}
	in := start(t, site(1), g.origin)
	first := gather(t, in, 1, http.MethodGet, "/1", nil)
	held := g.next(t, 1)
	in.get("/2").want(t, 503, "", "Larder; detail=origin-busy")
	in.load(site(2), g.origin)
	second := gather(t, in, 1, http.MethodGet, "/2", nil)
	held = append(held, g.next(t, 1)...)
	in.get("/3").want(t, 503, "", "Larder; detail=origin-busy")
	if err := in.tryLoad(setup{site: "larder {\norigin reloaded {\nmax_concurrent 9\n}\n}\nreverse_proxy {\nto nonsense://\n}"}, g.origin); err == nil {
		t.Fatal("a configuration that cannot be loaded was")
	}
	in.get("/3").want(t, 503, "", "Larder; detail=origin-busy")
	open(held...)
	for _, a := range append(first.all(), second.all()...) {
		a.want(t, 200, "", "")
	}
	settled(t, in)
}

// The log and the placeholder say why a request was not let through.
func TestRefusalInTheLog(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, _ *visit) { w.Header().Set("Cache-Control", "max-age=60") })
	log := newAccessLog(t)
	in := start(t, setup{site: log.directive() + "header X-Reason {http.larder.reason}\nlarder {\norigin logged {\nmax_concurrent 1\nqueue 0\n}\n}\nreverse_proxy {{origin}}"}, g.origin)
	c := gather(t, in, 1, http.MethodGet, "/1", nil)
	held := g.next(t, 1)
	in.get("/2").want(t, 503, "", "Larder; detail=origin-busy")
	entry := log.entry(t, http.MethodGet, "/2")
	if entry["larder_status"] != "miss" || entry["larder_reason"] != "origin-busy" || entry["status"] != 503.0 {
		t.Errorf("%v", entry)
	}
	open(held...)
	c.all()
	settled(t, in)
}

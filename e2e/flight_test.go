package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// What many concurrent requests for one thing cost, and what they see. The origin holds its answers
// until the test lets them go, so that every interleaving here is made, not hoped for.

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
	g.noMore(t)
	settled(t, in)
	if hit := in.get("/"); !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") || hit.body != `{"rows":[1]}` {
		t.Errorf("afterwards: %q %q", hit.cacheStatus(), hit.body)
	}
}

// A client that has the whole of an answer finds it stored: its next request is a hit, its purge
// counts it.
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
	in := start(t, proxied("larder {\ncoalesce wait 1s\n}"), g.origin)
	first := gather(t, in, 1, http.MethodGet, "/", nil)
	leader := g.next(t, 1)
	second := gather(t, in, 1, http.MethodGet, "/", nil)
	open(g.next(t, 1)...) // it comes although the leader has no answer yet
	second.all()[0].want(t, 200, "2", "Larder; fwd=bypass; detail=coalesce-wait")
	open(leader...)
	first.all()[0].want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	settled(t, in)
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
	g.noMore(t)
	settled(t, in)
	for i := range languages {
		hit := in.get("/", language(i)...)
		if hit.want(t, 200, fmt.Sprint("in l", i), ""); !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
			t.Errorf("variant %d: %q", i, hit.cacheStatus())
		}
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
			g.noMore(t)
			settled(t, in)
		})
	}
}

// A fetch that began before a purge is of no use to requests that start after it, and is not
// stored.
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
					// What tags it has is known at the header only.
					if name == "tag" || name == "soft" {
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
				g.noMore(t)
			})
		}
	}
}

// staleOrigin is a gate whose first answer, let through by itself, is stale as soon as it comes;
// then it answers conditionals with 304.
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
	g.letThrough(t, in, path).want(t, 200, "", "Larder; fwd=uri-miss; stored")
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
	g.noMore(t)
	settled(t, in)
}

func TestOneBackgroundFetchWhileStale(t *testing.T) {
	const n = 50
	g := staleOrigin(t, "max-age=60, stale-while-revalidate=600")
	in := start(t, proxied("larder"), g.origin)
	fill(t, in, g, "/")
	// All are answered while the origin still thinks.
	for _, a := range gather(t, in, n, http.MethodGet, "/", nil).all() {
		a.want(t, 200, "body", "")
		if !strings.HasPrefix(a.cacheStatus(), "Larder; hit; ttl=-") || !strings.HasSuffix(a.cacheStatus(), "; detail=swr") {
			t.Errorf("Cache-Status %q", a.cacheStatus())
		}
	}
	v := g.next(t, 1)
	g.noMore(t)
	open(v...)
	settled(t, in)
	fresh := in.get("/")
	if fresh.want(t, 200, "body", ""); !strings.HasPrefix(fresh.cacheStatus(), "Larder; hit; ttl=") || strings.Contains(fresh.cacheStatus(), "swr") {
		t.Errorf("after the refresh: %q", fresh.cacheStatus())
	}
	g.noMore(t)
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

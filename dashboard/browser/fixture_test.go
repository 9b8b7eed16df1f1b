package browser

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// object is a JSON object.
type object = map[string]any

// fixture is an admin API with made-up figures in the shapes of the real one, of a Larder with all
// that the page can show. It notes what it is sent.
type fixture struct {
	address string
	missing map[string]bool // paths that this Larder does not have
	started time.Time
	figures map[string]map[string][]float64 // of history, by step

	slow chan struct{} // holds the listing of the tag "slow" until it is received from, twice

	mu    sync.Mutex
	sent  []string       // method and path, of what may change something
	calls map[string]int // by path
}

const hostile = `https://shop.example/search?q="><img src=x onerror=alert(1)><script>alert(1)</script>`

func newFixture(t *testing.T, missing ...string) *fixture {
	t.Helper()
	f := &fixture{missing: map[string]bool{}, started: time.Now(), figures: map[string]map[string][]float64{}, calls: map[string]int{}}
	for _, path := range missing {
		f.missing[path] = true
	}
	for step, n := range map[string]int{"10s": 360, "1m": 1440, "15m": 1344} {
		f.figures[step] = history(n)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /larder/stats", f.answer(f.stats))
	mux.HandleFunc("GET /larder/history", f.answer(f.history))
	mux.HandleFunc("GET /larder/top", f.answer(f.top))
	mux.HandleFunc("GET /larder/entries", f.answer(f.entries))
	mux.HandleFunc("GET /larder/entries/{id}", f.answer(f.entry))
	mux.HandleFunc("GET /larder/fleet", f.answer(f.fleet))
	mux.HandleFunc("POST /larder/purge", f.answer(f.purge))
	mux.HandleFunc("POST /larder/explain", f.answer(f.explain))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { f.note(r.Method + " " + r.URL.Path) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	f.address = strings.TrimPrefix(server.URL, "http://")
	return f
}

func (f *fixture) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, what)
}

// count returns how often a path was called.
func (f *fixture) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[path]
}

func (f *fixture) answer(body func(*http.Request) object) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.calls[r.URL.Path]++
		f.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if f.missing[r.URL.Path] {
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(object{"error": "there is no " + r.URL.Path})
			return
		}
		_ = json.NewEncoder(w).Encode(body(r))
	}
}

// history is a day like any other, with an outage of the origin in the middle of it.
func history(n int) map[string][]float64 {
	random := rand.New(rand.NewPCG(19, uint64(n)))
	series := map[string][]float64{}
	for i := range n {
		at := float64(i) / float64(n)
		hits := math.Round(10 * (900 + 220*math.Sin(at*8) + 22*random.NormFloat64()))
		missed, stale, took := 0.05, 0.003, 62+4*random.NormFloat64()
		if at > 0.55 && at < 0.6 {
			missed, stale, took = 0.16, 0.05, took+90
		}
		fetches := math.Round(hits * (missed + 0.02))
		for name, value := range map[string]float64{
			"requests_hit": hits, "requests_collapsed": math.Round(hits * 0.012), "requests_stale": math.Round(hits * stale),
			"requests_revalidated": math.Round(hits * 0.02), "requests_miss": math.Round(hits * missed), "requests_bypass": math.Round(hits * 0.03),
			"bytes_served": hits * 24e3, "bytes_saved": hits * (22.4e3 - 20e3*missed), "hits_timed": hits, "hit_ms": hits * (0.21 + 0.01*random.NormFloat64()),
			"fetches": fetches, "fetch_ms": fetches * took,
			"memory_bytes": 231e6 - 50e6*math.Exp(-8*at), "disk_bytes": 712e6 - 200e6*(1-at), "memory_entries": 18320, "disk_entries": 60412,
		} {
			series[name] = append(series[name], value)
		}
	}
	return series
}

func (f *fixture) stats(*http.Request) object {
	tier := func(entries, bytes, budget int) object {
		return object{"entries": entries, "bytes": bytes, "budget": budget, "state": "open"}
	}
	requests := object{}
	for outcome, rate := range map[string]float64{"hit": 900, "stale": 4, "revalidated": 20, "miss": 55, "collapsed": 11, "bypass": 28} {
		requests[outcome] = int(rate * (100000 + time.Since(f.started).Seconds()))
	}
	return object{
		"memory": tier(18320, 231e6, 256<<20), "disk": tier(60412, 712e6, 1<<30), "requests": requests,
		"not_stored": object{"private": 2912044, "no-lifetime": 1620101, "set-cookie": 600212, "no-store": 120332, "too-large": 12}, "in_flight": 3,
		"queue_bytes": 120000, "disk_writes_skipped": 0, "purges_pending": 1, "errors": object{"memory": 0, "disk": 0},
		"shared": object{"state": "held", "nodes": 3, "breaker": "closed", "upload_bytes": 88000},
		"zones": object{
			"default": object{"memory": tier(18000, 200e6, 192<<20), "disk": tier(60000, 700e6, 768<<20), "requests": object{"hit": 812, "miss": 41}},
			"shop":    object{"memory": tier(320, 31e6, 64<<20), "disk": tier(412, 12e6, 256<<20), "requests": object{"hit": 300, "miss": 120}},
		},
		"origins": object{
			"api":    object{"state": "paused", "taken": 4, "max_concurrent": 10, "waiting": 17, "refused": object{"busy": 120, "queue-full": 3}},
			"assets": object{"state": "", "taken": 1, "max_concurrent": 0, "waiting": 0, "refused": object{}},
		},
	}
}

func (f *fixture) history(r *http.Request) object {
	step := r.FormValue("step")
	seconds := map[string]int64{"10s": 10, "1m": 60, "15m": 900}[step]
	series := f.figures[step]
	now := time.Now().Unix()
	return object{"step": step, "from": (now/seconds - int64(len(series["requests_hit"])) + 1) * seconds, "series": series}
}

func (f *fixture) top(r *http.Request) object {
	row := func(url string, count int, reason string) object {
		return object{"url": url, "count": count, "share": float64(count) / 25000, "reason": reason}
	}
	return object{"by": r.FormValue("by"), "rows": []object{
		row("https://shop.example/api/cart", 9120, "private"), row(hostile, 6210, "no-lifetime"), row("https://shop.example/products/4711", 3100, ""),
		row("https://shop.example/account/orders?page=2&filter=open&sort=newest&columns=date,number,total,state,carrier,tracking", 2003, "set-cookie"),
		row("https://www.example/blog/2026/11/how-a-cache-decides", 410, "vary-star"), row("https://www.example/"+strings.Repeat("long/", 100)+"…", 212, ""),
	}}
}

func (f *fixture) entries(r *http.Request) object {
	if r.FormValue("tag") == "slow" {
		<-f.slow
		<-f.slow
	}
	var list []object
	for i := range 12 {
		url := fmt.Sprintf("https://shop.example/products/%d", 4700+i)
		if i == 2 {
			url = hostile
		}
		list = append(list, object{
			"id": fmt.Sprintf("e%d", i), "url": url, "status": 200, "size": int(1200 * math.Pow(1.7, float64(i))), "age": 17 * i * i, "ttl": 1200 - 17*i*i,
			"tier": []string{"memory", "disk", "both"}[i%3], "tags": []string{"<img/src=x/onerror=alert(1)>", fmt.Sprintf("product-%d", 4700+i)}, "fetch_ms": 12.5,
		})
	}
	next := "more"
	if r.FormValue("cursor") == next {
		next = ""
	}
	return object{"entries": list, "next": next}
}

func (f *fixture) entry(r *http.Request) object {
	return object{"id": r.PathValue("id"), "url": hostile, "times": object{"stored": "2026-11-28T23:59:59.5Z"}, "header": object{"Content-Type": []string{"text/html"}, "X": []string{"<script>alert(1)</script>"}}}
}

func (f *fixture) fleet(*http.Request) object {
	var nodes []object
	for i := range 3 {
		nodes = append(nodes, object{
			"id": fmt.Sprint(i), "name": fmt.Sprintf("edge-%d", i+1), "version": "v1.0.0", "address": fmt.Sprintf("10.0.0.%d", i+1), "state": "held",
			"this": i == 0, "silent_ms": 300 * i, "applied": 8, "lag": 0,
		})
	}
	return object{"name": "larder", "epoch": "x", "tail": 8, "nodes": nodes}
}

func (f *fixture) purge(r *http.Request) object {
	var s struct {
		Soft   bool `json:"soft"`
		DryRun bool `json:"dry_run"`
	}
	_ = json.NewDecoder(r.Body).Decode(&s)
	if !s.DryRun {
		f.note("purge")
	}
	return object{"matched": 12, "soft": s.Soft, "dry_run": s.DryRun, "nodes": 3, "fenced": []string{}, "uncertain": []string{}}
}

func (f *fixture) explain(r *http.Request) object {
	var asked struct{ URL string }
	_ = json.NewDecoder(r.Body).Decode(&asked)
	return object{
		"verdict": "It is not stored, because the response says private; send public where every client may have it.",
		"steps": []object{
			{"question": "Which handler answers?", "answer": "the larder of the server at :443, route 2"},
			{"question": "May it be stored?", "answer": "no: private", "clause": "RFC 9111, section 5.2.2.7"},
		},
		"key": object{"hash": "9f2c", "parts": []object{{"part": "method", "values": []string{"GET"}}, {"part": "path", "values": []string{asked.URL}}}}, "entry": nil,
	}
}

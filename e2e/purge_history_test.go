package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPurgeHistory checks the promise of purges on the real Caddy: clients, new versions at the
// origin, purges of every kind and mode, invalidations and reloads run side by side, and once a
// purge has answered, no request that starts later may see an older version. Softly purged
// responses may still be served inside their window, marked as stale; without one they must be
// validated. It runs for three seconds, or for as long as LARDER_HISTORY says (a duration):
//
//	LARDER_HISTORY=10m go test -race -run TestPurgeHistory -timeout 30m ./e2e
func TestPurgeHistory(t *testing.T) {
	length := historyLength(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)

	world := newHistoryWorld()
	o := newQuietOrigin(t, world.serve)
	site := `larder {
		invalidate /edit/* {
			tags page-{http.request.uri.path.1}
		}
		invalidate /soften/* {
			tags page-{http.request.uri.path.1}
			soft
		}
	}
	reverse_proxy {{origin}}`
	// Less than there is: much is read from disk.
	s := setup{site: site, disk: t.TempDir(), options: "memory 2MiB"}
	in := start(t, s, o)
	s.more = fmt.Sprintf("http://other.localhost:%d {\n%s\n}", in.port, site)
	in.load(s, o)

	ctx, cancel := context.WithTimeout(t.Context(), length+time.Minute)
	defer cancel()
	var load sync.WaitGroup
	for c := range 12 {
		load.Go(func() { world.reader(ctx, t, in, rand.New(rand.NewPCG(seed, uint64(c)))) })
	}
	for c := range 3 {
		load.Go(func() { world.purger(ctx, t, in, rand.New(rand.NewPCG(seed, uint64(100+c)))) })
	}
	reloads := 0
	// On a slow machine it goes on until something has been tried.
	for begun := time.Now(); ctx.Err() == nil && (time.Since(begun) < length || world.untried()); reloads++ {
		s.options = fmt.Sprintf("memory %dMiB\neviction %s", 1+reloads%3, []string{"lru", "lfu", "fifo"}[reloads%3])
		in.load(s, o)
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
	cancel()
	load.Wait()
	world.report(t, reloads)
	t.Logf("outcomes %v, disk %+v", in.stats().Requests, in.stats().Disk)
}

// historyLength is how long a history runs.
func historyLength(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("LARDER_HISTORY")
	if text == "" {
		return 3 * time.Second
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("LARDER_HISTORY: %v", err)
	}
	return length
}

const (
	historyPages  = 14
	historyGroups = 3
)

// historyKinds are what responses allow: nothing beyond freshness, a window, a validator.
var historyKinds = []string{"plain", "window", "tagged"}

var historyHosts = []string{"localhost", "other.localhost"}

// historyPage is one URL, in all its variants.
type historyPage struct {
	host, kind string
	n          int

	version atomic.Int64
	// The versions at the last purges that have answered.
	hard, soft atomic.Int64
}

func (p *historyPage) path() string { return fmt.Sprintf("/%s/%d", p.kind, p.n) }

// historyWorld is an origin with versions, and what its readers and purgers know of it.
type historyWorld struct {
	pages []*historyPage
	byURL map[string]*historyPage // host and path

	checked, stale, failed atomic.Int64
	mu                     sync.Mutex
	purges                 map[string]int // by kind
}

func newHistoryWorld() *historyWorld {
	w := &historyWorld{byURL: make(map[string]*historyPage), purges: make(map[string]int)}
	for n := range historyPages {
		for _, kind := range historyKinds {
			for _, host := range historyHosts {
				p := &historyPage{host: host, kind: kind, n: n}
				w.pages = append(w.pages, p)
				w.byURL[host+p.path()] = p
			}
		}
	}
	return w
}

// serve is the origin. It takes its time between reading a version and answering, so that purges
// come in between.
func (w *historyWorld) serve(rw http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(r.Host, ":")
	h := rw.Header()
	if r.Method == http.MethodPost {
		if group := r.URL.Query().Get("group"); group != "" {
			h.Set("Cache-Group-Invalidation", fmt.Sprintf(`"none", "group-%s"`, group))
		}
		rw.WriteHeader(http.StatusNoContent)
		return
	}
	p := w.byURL[host+r.URL.Path]
	if p == nil {
		http.NotFound(rw, r)
		return
	}
	version := p.version.Load()
	time.Sleep(time.Duration(rand.IntN(2_000)) * time.Microsecond)
	h.Set("Cache-Control", map[string]string{
		"plain": "max-age=60", "tagged": "max-age=60", "window": "max-age=60, stale-while-revalidate=60",
	}[p.kind])
	h.Set("Surrogate-Key", fmt.Sprintf("page-%d mod-%d kind-%s", p.n, p.n%5, p.kind))
	h.Set("Cache-Groups", fmt.Sprintf(`"group-%d"`, p.n%historyGroups))
	if p.n%4 == 0 {
		h.Set("Vary", "Accept-Language")
	}
	if p.kind != "plain" {
		h.Set("Etag", fmt.Sprintf(`"%d"`, version))
		if r.Header.Get("If-None-Match") == h.Get("Etag") {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
	}
	_, _ = fmt.Fprintf(rw, "%d ", version)
	if p.n%3 == 0 { // a body that grows while it is read
		_ = http.NewResponseController(rw).Flush()
		time.Sleep(time.Duration(rand.IntN(2_000)) * time.Microsecond)
	}
	_, _ = io.WriteString(rw, strings.Repeat("x", 6_000))
}

// reader asks for pages and checks their versions.
func (w *historyWorld) reader(ctx context.Context, t *testing.T, in *instance, random *rand.Rand) {
	for ctx.Err() == nil {
		p := w.pages[random.IntN(len(w.pages))]
		hard, soft := p.hard.Load(), p.soft.Load()
		a, err := in.try(ctx, http.MethodGet, p.path(), "",
			"Host", fmt.Sprintf("%s:%d", p.host, in.port), "Accept-Language", []string{"de", "fr"}[random.IntN(2)])
		if err != nil || a.err != nil || a.StatusCode != http.StatusOK {
			w.failed.Add(1) // a reload closes connections
			continue
		}
		text, _, _ := strings.Cut(a.body, " ")
		version, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Errorf("%s%s: body %.20q", p.host, p.path(), a.body)
			continue
		}
		w.checked.Add(1)
		marked := strings.Contains(a.cacheStatus(), "detail=swr")
		if marked {
			w.stale.Add(1)
		}
		switch {
		case version < hard:
			t.Errorf("%s%s: version %d after a purge at %d (%s)", p.host, p.path(), version, hard, a.cacheStatus())
		case version < soft && (p.kind != "window" || !marked):
			t.Errorf("%s%s: version %d after a soft purge at %d (%s)", p.host, p.path(), version, soft, a.cacheStatus())
		}
	}
}

// purger makes pages anew and purges old versions, in every way there is.
func (w *historyWorld) purger(ctx context.Context, t *testing.T, in *instance, random *rand.Rand) {
	for ctx.Err() == nil {
		for range random.IntN(8) {
			w.pages[random.IntN(len(w.pages))].version.Add(1) // what is not purged may be old
		}
		p := w.pages[random.IntN(len(w.pages))]
		p.version.Add(1)
		act := w.choose(in, p, random)
		versions := make([]int64, len(w.pages))
		for i, q := range w.pages {
			versions[i] = q.version.Load()
		}
		if !act.do(ctx, t, in) {
			continue
		}
		w.mu.Lock()
		w.purges[act.name()]++
		w.mu.Unlock()
		for i, q := range w.pages {
			if act.hits(q) && !act.dryRun {
				if act.soft {
					raise(&q.soft, versions[i])
				} else {
					raise(&q.hard, versions[i])
				}
			}
		}
		time.Sleep(time.Duration(random.IntN(4_000)) * time.Microsecond)
	}
}

func raise(to *atomic.Int64, version int64) {
	for {
		was := to.Load()
		if was >= version || to.CompareAndSwap(was, version) {
			return
		}
	}
}

// historyPurge is one purge: a call of the admin API, or an unsafe request.
type historyPurge struct {
	kind         string
	soft, dryRun bool
	selectors    map[string]any // of the admin API
	path, host   string         // of an unsafe request
	hits         func(*historyPage) bool
}

func (a *historyPurge) name() string {
	switch {
	case a.dryRun:
		return "dry " + a.kind
	case a.soft:
		return "soft " + a.kind
	}
	return a.kind
}

// choose makes up a purge that hits p.
func (w *historyWorld) choose(in *instance, p *historyPage, random *rand.Rand) *historyPurge {
	a := &historyPurge{soft: random.IntN(3) == 0, host: fmt.Sprintf("%s:%d", p.host, in.port)}
	base := "http://" + a.host
	admin := func(kind, field string, value any, hits func(*historyPage) bool) {
		a.kind, a.selectors, a.hits = kind, map[string]any{field: value}, hits
		a.dryRun = random.IntN(10) == 0
	}
	unsafe := func(kind, path string, hits func(*historyPage) bool) {
		a.kind, a.path, a.hits = kind, path, hits
		a.soft = false
	}
	samePage := func(q *historyPage) bool { return q == p }
	sameNumber := func(q *historyPage) bool { return q.n == p.n }
	switch n := random.IntN(100); {
	case n < 20:
		admin("tag", "tags", []string{fmt.Sprintf("page-%d", p.n)}, sameNumber)
	case n < 25:
		admin("common tag", "tags", []string{"kind-" + p.kind, "nothing"}, func(q *historyPage) bool { return q.kind == p.kind })
	case n < 40:
		admin("url", "urls", []string{base + p.path()}, samePage)
	case n < 45:
		admin("prefix", "prefixes", []string{base + p.path()}, func(q *historyPage) bool {
			return q.host == p.host && strings.HasPrefix(q.path(), p.path())
		})
	case n < 48:
		admin("host", "hosts", []string{a.host}, func(q *historyPage) bool { return q.host == p.host })
	case n < 50:
		admin("all", "all", true, func(*historyPage) bool { return true })
	case n < 55:
		admin("tag or url", "tags", []string{fmt.Sprintf("mod-%d", p.n%5)}, func(q *historyPage) bool { return q == p || q.n%5 == p.n%5 })
		a.selectors["urls"] = []string{base + p.path()}
	case n < 70:
		unsafe("post", p.path(), samePage)
	case n < 80:
		unsafe("group", fmt.Sprintf("/form?group=%d", p.n%historyGroups), func(q *historyPage) bool {
			return q.host == p.host && q.n%historyGroups == p.n%historyGroups
		})
	case n < 90:
		unsafe("invalidate", fmt.Sprintf("/edit/%d", p.n), sameNumber)
	default:
		unsafe("invalidate", fmt.Sprintf("/soften/%d", p.n), sameNumber)
		a.soft = true
	}
	return a
}

// do purges; false when there was no answer, so that nothing is promised.
func (a *historyPurge) do(ctx context.Context, t *testing.T, in *instance) bool {
	if a.selectors == nil {
		answer, err := in.try(ctx, http.MethodPost, a.path, "x", "Host", a.host)
		return err == nil && answer.StatusCode == http.StatusNoContent
	}
	a.selectors["soft"], a.selectors["dry_run"] = a.soft, a.dryRun
	body, err := json.Marshal(a.selectors)
	if err != nil {
		t.Error(err)
		return false
	}
	return in.tryPurge(ctx, string(body))
}

// tryPurge purges from any goroutine; false when there was no answer, which is so while the admin
// endpoint restarts at a reload.
func (in *instance) tryPurge(ctx context.Context, body string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+in.admin+"/larder/purge", strings.NewReader(body))
	if err != nil {
		in.t.Error(err)
		return false
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		in.t.Errorf("purge %s: %d %s", body, resp.StatusCode, answer)
	}
	return err == nil && resp.StatusCode == http.StatusOK
}

func (w *historyWorld) report(t *testing.T, reloads int) {
	t.Helper()
	total := 0
	for _, n := range w.purges {
		total += n
	}
	t.Logf("%d responses checked, %d of them stale, %d without answer; %d purges %v, %d reloads",
		w.checked.Load(), w.stale.Load(), w.failed.Load(), total, w.purges, reloads)
	if w.untried() {
		t.Error("the load did nothing")
	}
}

// untried reports whether no response has been checked yet, or none that was stale.
func (w *historyWorld) untried() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.checked.Load() == 0 || len(w.purges) == 0 || w.stale.Load() == 0
}

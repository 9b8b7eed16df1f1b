package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPurgeOutlivesKill kills a Caddy under load at random moments and starts it again on the same
// file. After a purge has answered, no request that starts later may see an older version: neither
// in the same life of the process nor in a later one. It goes a few rounds, or for as long as
// LARDER_HISTORY says (a duration):
//
//	LARDER_HISTORY=10m go test -run TestPurgeOutlivesKill -timeout 30m ./e2e
func TestPurgeOutlivesKill(t *testing.T) {
	t.Parallel()
	rounds, until := 4, time.Time{}
	if text := os.Getenv("LARDER_HISTORY"); text != "" {
		length, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("LARDER_HISTORY: %v", err)
		}
		rounds, until = 1<<20, time.Now().Add(length)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	w := &killWorld{purges: make(map[string]int)}
	origin := httptest.NewServer(w)
	defer origin.Close()
	c := newProcess(t)
	w.host, w.nodes = c.site, []*caddyProcess{c}
	if err := os.WriteFile(c.config, []byte(w.caddyfile(c, origin.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	defer c.kill()
	round := 0
	for ; round < rounds && (until.IsZero() || time.Now().Before(until)) || w.untried() && round < 100; round++ {
		c.start()
		ctx, cancel := context.WithCancel(t.Context())
		var load sync.WaitGroup
		for i := range 6 {
			load.Go(func() { w.reader(ctx, t, rand.New(rand.NewPCG(seed, uint64(round*10+i+1)))) })
		}
		load.Go(func() { w.purger(ctx, t, rand.New(rand.NewPCG(seed, uint64(round*10+9)))) })
		time.Sleep(time.Duration(200+random.IntN(600)) * time.Millisecond)
		c.kill()
		cancel()
		load.Wait()
	}
	t.Logf("%d rounds", round)
	w.report(t)
}

const killPages = 60

// killWorld is an origin with versions, the processes in front of it, and what its readers and its
// purger know of it.
type killWorld struct {
	host          string // of its URLs
	nodes         []*caddyProcess
	options       string // more lines of the global option
	versions      [killPages]atomic.Int64
	floors        [killPages]atomic.Int64 // the versions at the last purges that have answered
	checked, hits atomic.Int64
	fetches       atomic.Int64
	answered      atomic.Int64   // purges that hold
	undone        atomic.Int64   // purges that were answered with an error
	purges        map[string]int // by kind; the purger's
}

// caddyfile has so little memory that most is read from disk.
func (w *killWorld) caddyfile(c *caddyProcess, origin string) string {
	address, _, _ := strings.Cut(c.site, ":")
	return fmt.Sprintf(`{
	admin %s
	auto_https off
	persist_config off
	log {
		level ERROR
	}
	larder {
		memory 128KiB
		disk %s/store 256MiB
		%s
	}
}
http://%s {
	bind %s
	larder
	reverse_proxy %s
}
`, c.admin, c.dir, w.options, w.host, address, strings.TrimPrefix(origin, "http://"))
}

// ServeHTTP is the origin.
func (w *killWorld) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
	if err != nil || n >= killPages {
		http.NotFound(rw, r)
		return
	}
	w.fetches.Add(1)
	version := w.versions[n].Load()
	time.Sleep(time.Duration(rand.IntN(2_000)) * time.Microsecond)
	rw.Header().Set("Cache-Control", "max-age=600")
	rw.Header().Set("Surrogate-Key", fmt.Sprintf("page-%d mod-%d", n, n%7))
	rw.Header().Set("Etag", fmt.Sprintf(`"%d"`, version))
	if r.Header.Get("If-None-Match") == rw.Header().Get("Etag") {
		rw.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = fmt.Fprint(rw, killBody(n, version))
}

// killBody is the body of a page, whose text is that of no other page and of no other version.
func killBody(n int, version int64) string {
	sum := sha256.Sum256(fmt.Append(nil, n, version))
	return fmt.Sprintf("%d %s", version, strings.Repeat(hex.EncodeToString(sum[:]), 80))
}

// any returns one of the processes.
func (w *killWorld) any(random *rand.Rand) *caddyProcess { return w.nodes[random.IntN(len(w.nodes))] }

// page is the URL at which a process answers for a page.
func (c *caddyProcess) page(n int) string { return fmt.Sprintf("http://%s/%d", c.site, n) }

func (w *killWorld) reader(ctx context.Context, t *testing.T, random *rand.Rand) {
	for ctx.Err() == nil {
		n := random.IntN(killPages)
		floor := w.floors[n].Load()
		status, cacheStatus, body := w.call(ctx, http.MethodGet, w.any(random).page(n), "")
		if status != http.StatusOK {
			continue // killed
		}
		text, _, _ := strings.Cut(body, " ")
		version, err := strconv.ParseInt(text, 10, 64)
		if err != nil || version < floor {
			t.Errorf("/%d: version %.20q after a purge at %d (%s)", n, text, floor, cacheStatus)
		} else if body != killBody(n, version) {
			t.Errorf("/%d: a body of %d bytes is not that of version %d (%s)", n, len(body), version, cacheStatus)
		}
		w.checked.Add(1)
		if strings.HasPrefix(cacheStatus, "Larder; hit") {
			w.hits.Add(1)
		}
	}
}

func (w *killWorld) purger(ctx context.Context, t *testing.T, random *rand.Rand) {
	for ctx.Err() == nil {
		n := random.IntN(killPages)
		w.versions[n].Add(1)
		kind, hits := "tag", func(m int) bool { return m == n }
		node := w.any(random)
		method, url, body := http.MethodPost, "http://"+node.admin+"/larder/purge", fmt.Sprintf(`{"tags":["page-%d"]}`, n)
		switch random.IntN(20) {
		case 0:
			kind, hits, body = "all", func(int) bool { return true }, `{"all":true}`
		case 1, 2:
			kind, hits, body = "mod", func(m int) bool { return m%7 == n%7 }, fmt.Sprintf(`{"tags":["mod-%d"]}`, n%7)
		case 3, 4:
			kind, body = "url", fmt.Sprintf(`{"urls":["http://%s/%d"]}`, w.host, n)
		case 5:
			kind, hits = "prefix", func(m int) bool { return strings.HasPrefix(strconv.Itoa(m), strconv.Itoa(n)) }
			body = fmt.Sprintf(`{"prefixes":["http://%s/%d"]}`, w.host, n)
		case 12:
			kind, hits, body = "host", func(int) bool { return true }, fmt.Sprintf(`{"hosts":["%s"]}`, w.host)
		case 6, 7, 8:
			// Without a window it must be validated.
			kind, body = "soft tag", fmt.Sprintf(`{"tags":["page-%d"],"soft":true}`, n)
		case 9:
			kind, hits = "soft mod", func(m int) bool { return m%7 == n%7 }
			body = fmt.Sprintf(`{"tags":["mod-%d"],"soft":true}`, n%7)
		case 10, 11:
			if len(w.nodes) == 1 { // on other nodes it holds soon after, which is no promise
				kind, method, url, body = "delete", http.MethodDelete, node.page(n), ""
			}
		}
		var versions [killPages]int64
		for m := range versions {
			versions[m] = w.versions[m].Load()
		}
		switch status, _, answer := w.call(ctx, method, url, body); {
		case status == http.StatusOK:
		case status == 0, status == http.StatusBadGateway, strings.Contains(answer, "no cache is running"):
			continue // killed, or only just started: nothing is promised
		case status == http.StatusServiceUnavailable && len(w.nodes) > 1:
			w.undone.Add(1) // it may not hold on other nodes: Redis is gone
			time.Sleep(10 * time.Millisecond)
			continue
		default:
			t.Errorf("%s %s %s: %d %s", method, url, body, status, answer)
			continue
		}
		w.purges[kind]++
		w.answered.Add(1)
		for m := range versions {
			if hits(m) {
				w.floors[m].Store(versions[m]) // there is one purger
			}
		}
		time.Sleep(time.Duration(random.IntN(20_000)) * time.Microsecond)
	}
}

// report says what was tried. A load that did nothing is an error.
func (w *killWorld) report(t *testing.T) {
	t.Helper()
	total := 0
	for _, n := range w.purges {
		total += n
	}
	t.Logf("%d responses checked, %d of them hits; %d purges %v, %d more that failed",
		w.checked.Load(), w.hits.Load(), total, w.purges, w.undone.Load())
	if w.untried() {
		t.Error("the load did nothing")
	}
}

// untried reports whether there was no hit yet, or no purge.
func (w *killWorld) untried() bool {
	return w.checked.Load() == 0 || w.hits.Load() == 0 || w.answered.Load() == 0
}

// call sends a request; the status is 0 when there is no whole answer.
func (w *killWorld) call(ctx context.Context, method, url, body string) (status int, cacheStatus, text string) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", ""
	}
	if !strings.Contains(url, "/larder/") && w.host != "" {
		r.Host = w.host
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", ""
	}
	return resp.StatusCode, resp.Header.Get("Cache-Status"), string(b)
}

// TestStoredUnderPurgesOutlivesKill: what is stored while purges and invalidating POSTs come
// without a gap, from several clients at once, comes to the disk all the same, and is there after
// kill -9.
func TestStoredUnderPurgesOutlivesKill(t *testing.T) {
	t.Parallel()
	const kept, clients = 40, 16
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Surrogate-Key", "tag"+strings.ReplaceAll(r.URL.Path, "/", "-"))
		size := 5_000
		if strings.HasPrefix(r.URL.Path, "/kept/") {
			// Too large for the memory of this store: such a page waits for the disk, or is there.
			size = 300_000
		}
		_, _ = fmt.Fprint(w, strings.Repeat("x", size))
	}))
	defer origin.Close()
	c := newProcess(t)
	w := &killWorld{host: c.site}
	if err := os.WriteFile(c.config, []byte(strings.Replace(w.caddyfile(c, origin.URL), "128KiB", "1MiB", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start()
	defer c.kill()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var storm sync.WaitGroup
	var posts, purges atomic.Int64
	for client := range clients {
		storm.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				page := fmt.Sprintf("http://%s/storm/%d-%d", c.site, client, i%50)
				switch {
				case client%2 == 0:
					w.call(ctx, http.MethodPost, "http://"+c.admin+"/larder/purge", fmt.Sprintf(`{"tags":["tag-storm-%d"]}`, rand.IntN(50)))
					purges.Add(1)
				case i%100 == 0:
					w.call(ctx, http.MethodGet, page, "")
					fallthrough
				default:
					if status, _, _ := w.call(ctx, http.MethodPost, page, ""); status == http.StatusOK {
						posts.Add(1)
					}
				}
			}
		})
	}
	page := func(n int) string { return fmt.Sprintf("http://%s/kept/%d", c.site, n) }
	eventually(t, "the storm begins", func() bool { return posts.Load() > 100 && purges.Load() > 100 })
	eventually(t, "what is stored comes to the disk", func() bool {
		for n := range kept { // again where there was no room in memory
			w.call(ctx, http.MethodGet, page(n), "")
		}
		return onDisk(ctx, w, c.admin, "http://"+c.site+"/kept/") == kept
	})
	c.kill()
	cancel()
	storm.Wait()
	t.Logf("%d POSTs, %d purges", posts.Load(), purges.Load())
	c.start()
	for n := range kept {
		if _, how, _ := w.call(t.Context(), http.MethodGet, page(n), ""); !strings.HasPrefix(how, "Larder; hit") {
			t.Errorf("%s after kill -9: %q", page(n), how)
		}
	}
}

// onDisk is how many of the stored responses with a prefix are on disk and not in memory.
func onDisk(ctx context.Context, w *killWorld, admin, prefix string) (n int) {
	_, _, text := w.call(ctx, http.MethodGet, "http://"+admin+"/larder/entries?limit=1000&prefix="+prefix, "")
	var listing struct {
		Entries []struct {
			Tier string `json:"tier"`
		} `json:"entries"`
	}
	if err := json.Unmarshal([]byte(text), &listing); err != nil {
		return 0
	}
	for _, e := range listing.Entries {
		if e.Tier == "disk" {
			n++
		}
	}
	return n
}

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// C13: a response that varies by what clients make up has a bounded number of variants, and one
// that varies by everything none.
func TestVaryFlood(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", r.URL.Query().Get("vary"))
		_, _ = io.WriteString(w, r.Header.Get("User-Agent"))
	})
	in := start(t, proxied("larder {\nmax_variants 8\n}"), o)
	for i := range 200 {
		agent := fmt.Sprintf("agent %d", i)
		in.get("/?vary=User-Agent", "User-Agent", agent).want(t, 200, agent, "")
		in.get("/?vary=*", "User-Agent", agent).want(t, 200, agent, "")
	}
	if n := in.stats().Memory.Entries; n != 8 {
		t.Errorf("%d entries, want 8", n)
	}
	if a := in.get("/?vary=User-Agent", "User-Agent", "agent 199"); !a.isHit() {
		t.Errorf("the last variant: %q", a.cacheStatus())
	}
}

// C14: the origin hangs on the first request. Everybody else is answered when their wait is over,
// and nothing is left behind.
func TestHangingOrigin(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, v *visit) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "the page")
	})
	in := start(t, proxied("larder {\ncoalesce wait 50ms\n}"), g.origin)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	gone := make(chan error, 1)
	go func() {
		_, err := in.try(ctx, "GET", "/", "")
		gone <- err
	}()
	first := g.next(t, 1)
	const others = 200
	waiting := gather(t, in, others, "GET", "/", func(int) []string { return nil })
	answered := make(chan struct{})
	// Those who have waited fetch for themselves; who comes later than that begins a fetch for all.
	go func() {
		for {
			select {
			case v := <-g.arrived:
				open(v)
			case <-answered:
				return
			}
		}
	}()
	for _, a := range waiting.all() {
		a.want(t, 200, "the page", "")
	}
	close(answered)
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the first client: %v", err)
	}
	open(first...) // its fetch might still have been worth storing
	settled(t, in)
}

// C108: the first answer of the origin comes byte by byte, and all later ones at once. Newcomers
// got that first one.
func TestDribblingOrigin(t *testing.T) {
	const page = "the page"
	var asked atomic.Int32
	slow, over := make(chan struct{}), make(chan struct{})
	o := newQuietOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if asked.Add(1) > 1 {
			_, _ = io.WriteString(w, page)
			return
		}
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-tick.C:
			case <-over:
				return
			}
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			if n == 20 { // by then it is behind by more than the wait
				close(slow)
			}
		}
	})
	in := start(t, proxied("larder {\ncoalesce wait 50ms\n}"), o)
	var first sync.WaitGroup
	first.Go(func() { _, _ = in.try(t.Context(), "GET", "/", "") })
	<-slow
	for range 3 {
		within, cancel := context.WithTimeout(t.Context(), time.Minute) // it has no end yet
		a, err := in.try(within, "GET", "/", "")
		if err != nil || a.err != nil || a.body != page {
			t.Errorf("a newcomer: %q, %v", a.body, err)
		}
		cancel()
	}
	close(over)
	first.Wait()
	settled(t, in)
}

// C22: bodies whose size is not announced, more of them at once than there is memory. All
// arrive, none takes more than its share.
func TestSizeBombs(t *testing.T) {
	const size = 1 << 20
	chunk := []byte(strings.Repeat("x", 32<<10))
	o := newQuietOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		for range size / len(chunk) {
			_, _ = w.Write(chunk)
			_ = http.NewResponseController(w).Flush()
		}
	})
	s := proxied("larder {\nmax_body 512KiB\n}\n")
	s.options = "memory 8MiB"
	in := start(t, s, o)
	var clients sync.WaitGroup
	for i := range 40 {
		clients.Go(func() {
			a, err := in.try(t.Context(), "GET", fmt.Sprintf("/%d", i), "")
			if err != nil || a.err != nil || len(a.body) != size {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	clients.Wait()
	st := in.stats()
	if st.Memory.Entries != 0 || st.Memory.Bytes > st.Memory.Budget {
		t.Errorf("memory: %+v", st.Memory)
	}
	settled(t, in)
}

// TestFlood is C13, C14 and C22 together, at full speed: distinct URLs, variants, followers, slow
// readers and header fields as large as the server takes them, in front of a small memory tier,
// while ordinary clients ask for a hot set. It runs for two seconds, or for as long as LARDER_FLOOD
// says:
//
//	LARDER_FLOOD=5m go test -run TestFlood -timeout 30m ./e2e
//
// In five minutes that is a million URLs, a hundred thousand variants, ten thousand followers at
// once every minute and a thousand slow readers. How much of it gets through in a second, and so
// how many hits the hot set keeps, depends on the machine: the short form prints that, the long one
// judges it, and on a slow machine goes on until as much has come as is asked for.
// LARDER_FLOOD_OPTION is a line of the global option, as `eviction lfu`.
func TestFlood(t *testing.T) {
	f := &flood{length: 2 * time.Second, followers: 200, slow: 20, memory: 32}
	text := os.Getenv("LARDER_FLOOD")
	if text != "" {
		length, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("LARDER_FLOOD: %v", err)
		}
		share := min(1, float64(length)/float64(5*time.Minute)) // of the whole flood
		f.length, f.memory = length, 64
		f.followers, f.slow = max(f.followers, int(share*10_000)), max(f.slow, int(share*1000))
		f.wantDistinct, f.wantVariants = int64(share*1e6), int64(share*1e5)
	}
	f.seed = uint64(time.Now().UnixNano())
	t.Logf("seed %d", f.seed)
	s := proxied("larder")
	// The followers share connections: there are not enough files for ten thousand.
	s.global = "servers {\nprotocols h1 h2 h2c\n}"
	s.options = fmt.Sprintf("memory %dMiB\n%s", f.memory, os.Getenv("LARDER_FLOOD_OPTION"))
	o := newQuietOrigin(t, floodOrigin)
	in := start(t, s, o)
	for i := range hotPages {
		in.get(fmt.Sprintf("/hot/%d", i)).want(t, 200, "", "")
	}
	before, heapBefore := runtime.NumGoroutine(), liveHeap()
	f.run(t, in)

	share := float64(f.hits.Load()) / float64(max(f.hot.Load(), 1))
	t.Logf("%v; hot: %d requests, %.1f %% hits; %d distinct URLs, %d variants, %d followers, %d slow readers, %d large headers; at most %.1f of %d MiB",
		f.took.Round(time.Second), f.hot.Load(), 100*share, f.distinct.Load(), f.variants.Load(), f.followed.Load(), f.slowed.Load(), f.large.Load(),
		float64(f.peak.Load())/(1<<20), f.memory)
	if text != "" {
		f.judge(t, share)
	}
	// The store counts what it is about to take before it evicts for it, so a reading may be over
	// by what is on its way in.
	if budget := int64(f.memory) << 20; f.peak.Load() > budget+budget/64 {
		t.Errorf("%d bytes in memory, over the budget", f.peak.Load())
	}
	f.backToBase(t, in, o, before, heapBefore)
	if err := caddy.Stop(); err != nil {
		t.Error(err)
	}
}

// judge holds the long form to what it is to bring and to stand.
func (f *flood) judge(t *testing.T, share float64) {
	if f.distinct.Load() < f.wantDistinct || f.variants.Load() < f.wantVariants || f.followed.Load() < int64(f.followers) || f.slowed.Load() < int64(f.slow) {
		t.Errorf("the load was too small: want %d distinct URLs, %d variants, %d followers, %d slow readers", f.wantDistinct, f.wantVariants, f.followers, f.slow)
	}
	if f.refused.Load() > max(1, f.large.Load()/100) {
		t.Errorf("%d connections closed of %d with large headers", f.refused.Load(), f.large.Load())
	}
	if share < 0.9 {
		t.Errorf("the hot set keeps %.1f %% of its hits, want 90", 100*share)
	}
}

// backToBase: no goroutine is left at work, and what a purge of everything leaves on the heap is
// what was there before.
func (f *flood) backToBase(t *testing.T, in *instance, o *origin, goroutines int, heap uint64) {
	settled(t, in)
	o.CloseClientConnections()
	if !within(patience, func() bool { return runtime.NumGoroutine() < goroutines+30 }) {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), goroutines, stacks[:runtime.Stack(stacks, true)])
	}
	in.purge(`{"all":true}`)
	eventually(t, "the memory tier is swept", func() bool { return in.stats().Memory.Entries == 0 })
	// The store keeps the bookkeeping of as many entries as there were (store/doc.go): of small
	// ones some 64 bytes in 400.
	slack := uint64(16<<20) + uint64(f.memory)<<20/6
	if !within(patience, func() bool { return liveHeap() < heap+slack }) {
		t.Errorf("%d MiB of live heap, %d before", liveHeap()>>20, heap>>20)
	}
}

// liveHeap is what a collection leaves. What pools keep goes with the second.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

const (
	hotPages = 500
	// hotPause is what a hot client rests between two requests: the hot set is asked for as a
	// site's visitors do, not as a benchmark does.
	hotPause = time.Millisecond
	// sipPause keeps a slow reader at 2 KiB a second, so that a thousand of them take connections
	// and not the processor.
	sipPause = 500 * time.Millisecond
	// largePause leaves the other attackers something of the machine: a megabyte of header costs
	// more than a thousand small requests.
	largePause = 100 * time.Millisecond
)

// floodOrigin answers by the first word of the path.
func floodOrigin(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=3600")
	body := 2 << 10
	switch kind, _, _ := strings.Cut(r.URL.Path[1:], "/"); kind {
	case "variant":
		w.Header().Set("Vary", "User-Agent")
	case "follow":
		time.Sleep(20 * time.Millisecond)
	case "slow":
		body = 1 << 20
	case "large":
		w.Header().Set("X-Large", strings.Repeat("x", 64<<10))
	}
	_, _ = io.WriteString(w, strings.Repeat("b", body))
}

// flood is the load and what is seen of it.
type flood struct {
	length          time.Duration
	followers, slow int
	memory          int // MiB
	seed            uint64
	took            time.Duration

	wantDistinct, wantVariants int64 // the load goes on until they are reached

	hot, hits, distinct, variants, followed, slowed, large, refused, peak atomic.Int64
}

// run loads the cache until the time is over and all that is wanted has come, or four times as
// long.
func (f *flood) run(t *testing.T, in *instance) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 4*f.length)
	defer cancel()
	var load sync.WaitGroup
	var stream uint64
	each := func(n int, counter *atomic.Int64, ask func(random *rand.Rand) (path string, header []string)) {
		for range n {
			stream++
			random := rand.New(rand.NewPCG(f.seed, stream))
			load.Go(func() {
				for ctx.Err() == nil {
					path, header := ask(random)
					f.ask(ctx, t, in, path, header...)
					counter.Add(1)
				}
			})
		}
	}
	crawlers := func(n int, counter *atomic.Int64, ask func(random *rand.Rand) (path, agent string)) {
		for range n {
			stream++
			random := rand.New(rand.NewPCG(f.seed, stream))
			load.Go(func() { f.crawl(ctx, t, in, counter, func() (string, string) { return ask(random) }) })
		}
	}
	crawlers(8, &f.distinct, func(r *rand.Rand) (string, string) { return fmt.Sprintf("/distinct/%x", r.Uint64()), "crawler" })
	crawlers(2, &f.variants, func(r *rand.Rand) (string, string) {
		return fmt.Sprintf("/variant/%d", r.IntN(4)), fmt.Sprint(r.Uint64())
	})
	each(1, &f.large, func(r *rand.Rand) (string, []string) {
		time.Sleep(largePause)
		return fmt.Sprintf("/large/%x", r.Uint64()), []string{"X-Large", strings.Repeat("x", 900<<10)}
	})
	each(2, &f.hot, func(r *rand.Rand) (string, []string) {
		time.Sleep(hotPause)
		return fmt.Sprintf("/hot/%d", r.IntN(hotPages)), nil
	})
	load.Go(func() { f.follow(ctx, t, in) })
	for i := range f.slow {
		load.Go(func() { f.readSlowly(ctx, t, in, i) })
	}
	load.Go(func() { // the budget holds at every moment
		for ctx.Err() == nil {
			f.peak.Store(max(f.peak.Load(), in.stats().Memory.Bytes))
			if time.Since(began) >= f.length && f.distinct.Load() >= f.wantDistinct && f.variants.Load() >= f.wantVariants {
				cancel()
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	load.Wait()
	f.took = time.Since(began)
}

// crawl asks for one thing after the other on a connection of its own, written by hand: net/http's
// client would take more of the machine than the server.
func (f *flood) crawl(ctx context.Context, t *testing.T, in *instance, counter *atomic.Int64, ask func() (path, agent string)) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("localhost:%d", in.port))
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("crawler: %v", err)
		}
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	for reader := bufio.NewReader(conn); ; {
		path, agent := ask()
		err := crawlOne(conn, reader, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: localhost:%d\r\nUser-Agent: %s\r\n\r\n", path, in.port, agent))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			t.Errorf("crawler: %s: %v", path, err)
			return
		}
		counter.Add(1)
	}
}

func crawlOne(conn net.Conn, reader *bufio.Reader, request string) error {
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d (%s)", resp.StatusCode, resp.Header.Get("Cache-Status"))
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// ask asks for path. No load is an excuse for an error of ours.
func (f *flood) ask(ctx context.Context, t *testing.T, in *instance, path string, header ...string) {
	a, err := in.try(ctx, http.MethodGet, path, "", header...)
	switch {
	case ctx.Err() != nil:
	case err != nil && len(header) > 0 && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)):
		// A connection that was closed under a megabyte of header; net/http repeats small requests
		// only.
		f.refused.Add(1)
	case err != nil || a.err != nil:
		t.Errorf("%s: %v", path, errors.Join(err, a.errOrNil()))
	case a.StatusCode >= 500:
		t.Errorf("%s: %d (%s)", path, a.StatusCode, a.cacheStatus())
	case strings.HasPrefix(path, "/hot/") && a.isHit():
		f.hits.Add(1)
	}
}

func (a *answer) errOrNil() error {
	if a == nil {
		return nil
	}
	return a.err
}

// followersEach share an HTTP/2 connection: fewer than the streams that one may have.
const followersEach = 200

// follow sends one wave of followers after the other, each to a URL of its own.
func (f *flood) follow(ctx context.Context, t *testing.T, in *instance) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	groups := make([]*instance, (f.followers+followersEach-1)/followersEach)
	for i := range groups {
		transport := &http.Transport{Protocols: &protocols}
		defer transport.CloseIdleConnections()
		shared := *in
		shared.client = &http.Client{Transport: transport}
		groups[i] = &shared
		// Opens the connection: all at once would each open one.
		f.ask(ctx, t, groups[i], "/follow/first")
	}
	for wave := 0; ctx.Err() == nil; wave++ {
		var clients sync.WaitGroup
		for i := range f.followers {
			clients.Go(func() {
				f.ask(ctx, t, groups[i/followersEach], fmt.Sprintf("/follow/%d", wave))
				f.followed.Add(1)
			})
		}
		clients.Wait()
		select {
		case <-ctx.Done():
		case <-time.After(f.length / 6):
		}
	}
}

// readSlowly takes a body in small sips until the time is over.
func (f *flood) readSlowly(ctx context.Context, t *testing.T, in *instance, i int) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("localhost:%d", in.port))
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("slow reader %d: %v", i, err)
		}
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "GET /slow/%d HTTP/1.1\r\nHost: localhost:%d\r\nConnection: close\r\n\r\n", i%10, in.port)
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 4096), nil)
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("slow reader %d: %v", i, err)
		}
		return
	}
	defer resp.Body.Close()
	f.slowed.Add(1)
	sip := make([]byte, 1024)
	for ctx.Err() == nil {
		if _, err := io.ReadFull(resp.Body, sip); err != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(sipPause):
		}
	}
}

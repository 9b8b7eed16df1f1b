package e2e

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestSoak keeps a Caddy under mixed load: hits, misses, validations, variants, private and broken
// responses, large bodies, slow and cancelling clients, purges of every kind, reloads. Every body
// says what it is and carries a checksum, and after a purge has answered no request that starts
// later may see what was there before. It runs for two seconds, or for as long as LARDER_SOAK says
// (a duration):
//
//	LARDER_SOAK=10m go test -race -run TestSoak -timeout 30m ./e2e
func TestSoak(t *testing.T) {
	length := 2 * time.Second
	if text := os.Getenv("LARDER_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("LARDER_SOAK: %v", err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)

	world := &soakWorld{}
	o := newQuietOrigin(t, world.serve)
	s := withDisk(t, "larder {\nmax_body 1MiB\nstale_while_revalidate 1s\nstale_if_error 2s\n}")
	s.options = "memory 8MiB"
	in := start(t, s, o)
	in.get("/page/0")
	before := runtime.NumGoroutine()

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var load sync.WaitGroup
	for c := range 16 {
		load.Go(func() { world.client(ctx, t, in, rand.New(rand.NewPCG(seed, uint64(c)))) })
	}
	load.Go(func() { world.purger(ctx, t, in, rand.New(rand.NewPCG(seed, 1000))) })
	for i := 0; ctx.Err() == nil; i++ {
		s.options = fmt.Sprintf("memory %dMiB\neviction %s", 6+i%4, []string{"lru", "lfu", "fifo"}[i%3])
		in.load(s, o)
		select {
		case <-ctx.Done():
		case <-time.After(max(200*time.Millisecond, length/600)):
		}
	}
	load.Wait()
	t.Logf("%d responses checked, %d purges, %d cancelled, %d broken off; outcomes %v",
		world.checked.Load(), world.purged.Load(), world.cancelled.Load(), world.broken.Load(), in.stats().Requests)
	if world.checked.Load() == 0 || world.purged.Load() == 0 {
		t.Error("the load did nothing")
	}

	in.client.CloseIdleConnections()
	eventually(t, "fetches have ended", func() bool { return in.stats().InFlight == 0 })
	// A proxy keeps idle ones for two minutes, also those of configurations that are gone.
	o.CloseClientConnections()
	if !within(patience, func() bool { return runtime.NumGoroutine() < before+30 }) {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
	}
	if err := caddy.Stop(); err != nil {
		t.Error(err)
	}
}

// soakWorld is an origin with versions, and the load on the cache before it.
type soakWorld struct {
	versions [soakPages]atomic.Int64
	floors   [soakPages]atomic.Int64 // the version at the last purge that has answered
	checked  atomic.Int64
	purged   atomic.Int64

	cancelled, broken atomic.Int64
}

const soakPages = 200

// serve answers /kind/N. The body is "kind N version user checksum" and padding.
func (w *soakWorld) serve(rw http.ResponseWriter, r *http.Request) {
	kind, n := soakPath(r.URL.Path)
	version := w.versions[n].Load()
	h := rw.Header()
	h.Set("Surrogate-Key", fmt.Sprintf("n%d mod%d", n, n%7))
	user, size := "-", 100+n*37
	switch kind {
	case "page":
		h.Set("Cache-Control", "max-age=60")
	case "short":
		h.Set("Cache-Control", "max-age=1")
		h.Set("Etag", fmt.Sprintf(`"%d"`, version))
		if r.Header.Get("If-None-Match") == h.Get("Etag") {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
	case "user":
		user = r.Header.Get("Authorization")
	case "lang":
		h.Set("Cache-Control", "max-age=60")
		h.Set("Vary", "Accept-Language")
		user = r.Header.Get("Accept-Language")
	case "big":
		h.Set("Cache-Control", "max-age=60")
		size = 200_000 + n*8_000 // some beyond max_body
	case "broken":
		h.Set("Cache-Control", "max-age=60")
		h.Set("Content-Length", "100000")
		_, _ = io.WriteString(rw, strings.Repeat("x", 10_000))
		panic(http.ErrAbortHandler)
	case "down":
		rw.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	text := fmt.Sprintf("%s %d %d %s ", kind, n, version, user)
	padding := bytes.Repeat([]byte{byte('a' + n%26)}, size)
	_, _ = fmt.Fprintf(rw, "%s%08x ", text, crc32.ChecksumIEEE(append([]byte(text), padding...)))
	_, _ = rw.Write(padding)
}

func soakPath(path string) (kind string, n int) {
	parts := strings.Split(path, "/")
	n, _ = strconv.Atoi(parts[2])
	return parts[1], n
}

// client asks for anything and checks what it gets.
func (w *soakWorld) client(ctx context.Context, t *testing.T, in *instance, random *rand.Rand) {
	kinds := []string{"page", "page", "page", "page", "page", "page", "page", "short", "short", "short", "user", "lang", "lang", "big", "broken", "down"}
	for ctx.Err() == nil {
		kind, n := kinds[random.IntN(len(kinds))], random.IntN(soakPages)
		user := fmt.Sprintf("u%d", random.IntN(4))
		header := []string{"Accept-Language", user}
		if kind == "user" {
			header = []string{"Authorization", user}
		}
		call, leave := context.WithCancel(ctx)
		if random.IntN(10) == 0 {
			time.AfterFunc(time.Duration(random.IntN(3_000))*time.Microsecond, leave)
		}
		floor := w.floors[n].Load()
		a, err := in.try(call, http.MethodGet, fmt.Sprintf("/%s/%d", kind, n), "", header...)
		left := call.Err() != nil
		leave()
		switch {
		case err != nil || a.err != nil:
			if left {
				w.cancelled.Add(1)
			} else {
				w.broken.Add(1) // a broken origin, or an old listener's idle connection at a reload
			}
			continue
		case kind == "broken":
			if a.StatusCode == http.StatusOK {
				t.Errorf("a body that broke off came as whole: %d bytes", len(a.body))
			}
			continue
		case kind == "down":
			continue
		}
		w.check(t, a, kind, n, user, floor)
	}
}

// check judges a whole response: the right page, for the right user, undamaged, and not from before
// the last purge.
func (w *soakWorld) check(t *testing.T, a *answer, kind string, n int, user string, floor int64) {
	if a.StatusCode != http.StatusOK {
		t.Errorf("/%s/%d: status %d", kind, n, a.StatusCode)
		return
	}
	parts := strings.SplitN(a.body, " ", 6)
	if len(parts) != 6 {
		t.Errorf("/%s/%d: body of %d bytes is none of ours", kind, n, len(a.body))
		return
	}
	sum := crc32.ChecksumIEEE([]byte(strings.Join(parts[:4], " ") + " " + parts[5]))
	version, _ := strconv.ParseInt(parts[2], 10, 64)
	wantUser := "-"
	if kind == "user" || kind == "lang" {
		wantUser = user
	}
	switch {
	case fmt.Sprintf("%08x", sum) != parts[4]:
		t.Errorf("/%s/%d: checksum of %d bytes is wrong (%s)", kind, n, len(a.body), a.cacheStatus())
	case parts[0] != kind || parts[1] != strconv.Itoa(n) || parts[3] != wantUser:
		t.Errorf("/%s/%d for %s got %v (%s)", kind, n, wantUser, parts[:4], a.cacheStatus())
	case version < floor:
		t.Errorf("/%s/%d: version %d after a purge at %d (%s)", kind, n, version, floor, a.cacheStatus())
	}
	w.checked.Add(1)
}

// purger makes pages anew and purges the old ones.
func (w *soakWorld) purger(ctx context.Context, t *testing.T, in *instance, random *rand.Rand) {
	for ctx.Err() == nil {
		n := random.IntN(soakPages)
		version := w.versions[n].Add(1)
		body := fmt.Sprintf(`{"tags":["n%d"]}`, n)
		switch random.IntN(100) {
		case 0:
			body = `{"all":true}`
		case 1, 2, 3, 4, 5:
			body = fmt.Sprintf(`{"tags":["mod%d"]}`, n%7)
		case 6:
			body = fmt.Sprintf(`{"prefixes":[%q]}`, in.url("/"))
		}
		if !in.tryPurge(ctx, body) {
			continue
		}
		w.floors[n].Store(version)
		w.purged.Add(1)
		time.Sleep(time.Duration(random.IntN(20_000)) * time.Microsecond)
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStoredUnderPurgesOutlivesKill: what is stored while purges and invalidating POSTs come
// without a gap, from several clients at once, comes to the disk all the same, and is there after
// kill -9.
func TestStoredUnderPurgesOutlivesKill(t *testing.T) {
	const kept, clients = 40, 16
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Surrogate-Key", "tag"+strings.ReplaceAll(r.URL.Path, "/", "-"))
		size := 5_000
		if strings.HasPrefix(r.URL.Path, "/kept/") {
			size = 300_000 // too large for the memory of this store: such a page waits for the disk, or is there
		}
		_, _ = fmt.Fprint(w, strings.Repeat("x", size))
	}))
	defer origin.Close()
	c := build(t)
	w := &killWorld{site: c.site, admin: c.admin}
	if err := os.WriteFile(c.config, []byte(strings.Replace(w.caddyfile(c.dir, origin.URL), "128KiB", "1MiB", 1)), 0o600); err != nil {
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
	poll(t, "the storm begins", func() bool { return posts.Load() > 100 && purges.Load() > 100 })
	poll(t, "what is stored comes to the disk", func() bool {
		for n := range kept { // again where there was no room in memory
			w.call(ctx, http.MethodGet, page(n), "")
		}
		return onDisk(ctx, w, "http://"+c.site+"/kept/") == kept
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
func onDisk(ctx context.Context, w *killWorld, prefix string) (n int) {
	_, _, text := w.call(ctx, http.MethodGet, "http://"+w.admin+"/larder/entries?limit=1000&prefix="+prefix, "")
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

// poll waits until something is so, for a minute at most.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute in vain: %s", what)
		}
	}
}

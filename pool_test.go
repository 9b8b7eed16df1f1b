package larder

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/store"
)

// TestReopenedPathWaitsForItsFile: the store that has the file is still being closed, which may
// take longer than the lock is waited for, when a configuration names its path again. That one was
// refused, as if by another process.
func TestReopenedPathWaitsForItsFile(t *testing.T) {
	folder := t.TempDir()
	take := func() *pooled { return takeTestCache(t, folder) }
	closeOne(t, folder)
	closing := &(&pooled{key: poolKey("default", folder)}).predecessor().closing
	closing.Lock() // as returnToPool does
	old, err := bbolt.Open(filepath.Join(folder, store.FileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	second := take()
	opened := make(chan error)
	go func() { opened <- second.open() }()
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	closing.Unlock()
	if err := <-opened; err != nil {
		t.Errorf("the path is refused while its own store is being closed: %v", err)
	}
	if err := second.returnToPool(); err != nil {
		t.Error(err)
	}
}

// A path that comes back serves nothing that was purged while no store had its file. It did where a
// configuration with the path had failed in between, whose store was never opened: that counted as
// having heard of the purges. And it did where the purge had listed the stores before there was one
// for the path, and was counted after that one had been opened.
func TestReopenedPathHasMissedNoPurge(t *testing.T) {
	for name, purged := range map[string]func(p *pooled, folder string){
		"before a configuration that failed": func(p *pooled, folder string) {
			if _, err := p.Purge(t.Context(), store.Selectors{All: true}, httpcache.PurgeOptions{}); err != nil {
				t.Error(err)
			}
			if err := takeTestCache(t, folder).returnToPool(); err != nil {
				t.Error(err)
			}
		},
		"listed before it is opened": func(p *pooled, _ string) { p.withOthers(nil) },
		"not at all":                 func(*pooled, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			closeOne(t, folder)
			other := takeTestCache(t, t.TempDir())
			if err := other.open(); err != nil {
				t.Fatal(err)
			}
			purged(other, folder)
			again := takeTestCache(t, folder)
			if err := again.open(); err != nil {
				t.Fatal(err)
			}
			if n := again.Store().Stats().Disk.Entries; n == 0 != (name != "not at all") {
				t.Errorf("%d entries are there", n)
			}
			for _, p := range []*pooled{again, other} {
				if err := p.returnToPool(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A file that an earlier process has left serves nothing that this one has purged before it opened
// the file. It did where the configuration whose store had heard of the purge failed before that
// was opened, and where no configuration had named the path when the purge came.
func TestFileOfAnEarlierProcessHasMissedPurges(t *testing.T) {
	purgeAll := func(p *pooled) {
		if _, err := p.Purge(t.Context(), store.Selectors{All: true}, httpcache.PurgeOptions{}); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct {
		name   string
		purged func(other *pooled, folder string)
		left   int64
	}{
		{"by a configuration that failed", func(other *pooled, folder string) {
			failed := takeTestCache(t, folder)
			begun := beginPurge(everyCache(), nil, store.Selectors{All: true}, store.PurgeOptions{})
			if err := failed.returnToPool(); err != nil {
				t.Error(err)
			}
			if _, err := begun.wait(); !errors.Is(err, store.ErrNotDurable) {
				t.Errorf("the purge: %v", err)
			}
		}, 0},
		{"before the path was named", func(other *pooled, _ string) { purgeAll(other) }, 0},
		{"not at all", func(*pooled, string) {}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			closeOne(t, folder)
			other := takeTestCache(t, t.TempDir())
			if err := other.open(); err != nil {
				t.Fatal(err)
			}
			// As in another process, which has purged nothing yet and does not know the path.
			purges.count.Store(0)
			predecessors.Delete(poolKey("default", folder))
			tt.purged(other, folder)
			again := takeTestCache(t, folder)
			if err := again.open(); err != nil {
				t.Fatal(err)
			}
			if n := again.Store().Stats().Disk.Entries; n != tt.left {
				t.Errorf("%d entries are there, want %d", n, tt.left)
			}
			for _, p := range []*pooled{again, other} {
				if err := p.returnToPool(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestUnsafeRequestDuringAReloadThatFails: what a POST by way of the new configuration changed was
// served from the cache of the old one: nothing was invalidated while a store was not open, and
// none but its own cache once that had been closed.
func TestUnsafeRequestDuringAReloadThatFails(t *testing.T) {
	t.Run("before it is given up", func(t *testing.T) { testUnsafeRequestOfAFailure(t, false) })
	t.Run("afterwards", func(t *testing.T) { testUnsafeRequestOfAFailure(t, true) })
}

func testUnsafeRequestOfAFailure(t *testing.T, givenUp bool) {
	old := takeTestCache(t, t.TempDir())
	if err := old.open(); err != nil {
		t.Fatal(err)
	}
	noFolder := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(noFolder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	failing := takeTestCache(t, filepath.Join(noFolder, "larder"))
	if err := failing.open(); err == nil {
		t.Fatal("it can be opened")
	}
	origin := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.WriteHeader(http.StatusOK)
	})
	ask := func(p *pooled, method string) string {
		w := httptest.NewRecorder()
		httpcache.Middleware(p.NewRoute(httpcache.Rules{}, nil))(origin).ServeHTTP(w, httptest.NewRequest(method, "http://example.com/", nil))
		return w.Header().Get("Cache-Status")
	}
	const fetched = "Larder; fwd=uri-miss; stored"
	if got := ask(old, http.MethodGet); got != fetched {
		t.Errorf("at first: %q", got)
	}
	left := []*pooled{failing, old}
	if givenUp {
		if err := failing.returnToPool(); err != nil {
			t.Error(err)
		}
		left = left[1:]
	}
	ask(failing, http.MethodPost)
	if got := ask(old, http.MethodGet); got != fetched {
		t.Errorf("after the POST: %q", got)
	}
	for _, p := range left {
		if err := p.returnToPool(); err != nil {
			t.Error(err)
		}
	}
}

// TestUnsafeRequestByTheRulesOfTheOtherCache: while a reload switches the disk path, an unsafe
// request purges the caches of both configurations, and named in the other only what it could by
// the query rules that its own cache had heard of.
func TestUnsafeRequestByTheRulesOfTheOtherCache(t *testing.T) {
	old, other := takeTestCache(t, t.TempDir()), takeTestCache(t, t.TempDir())
	for _, p := range []*pooled{old, other} {
		if err := p.open(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := p.returnToPool(); err != nil {
				t.Error(err)
			}
		}()
	}
	origin := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.WriteHeader(http.StatusOK)
	})
	ask := func(p *pooled, rules httpcache.QueryRules, method, target string) string {
		w := httptest.NewRecorder()
		route := p.NewRoute(httpcache.Rules{Key: httpcache.KeyRules{Query: rules}}, nil)
		httpcache.Middleware(route)(origin).ServeHTTP(w, httptest.NewRequest(method, target, nil))
		return w.Header().Get("Cache-Status")
	}
	for _, leftOut := range []string{"a", "b"} { // the second one is new to what is known of the first
		rules, target := httpcache.QueryRules{Ignore: []string{leftOut}}, "http://example.com/"+leftOut+"?"+leftOut+"=1"
		ask(old, rules, http.MethodGet, target)
		ask(other, httpcache.QueryRules{}, http.MethodPost, target)
		if got := ask(old, rules, http.MethodGet, target); got != "Larder; fwd=uri-miss; stored" {
			t.Errorf("%s left out: after the POST %q", leftOut, got)
		}
	}
}

func takeTestCache(t *testing.T, folder string) *pooled {
	t.Helper()
	settings := store.Settings{Memory: 1 << 20, Disk: 8 << 20, MaxBody: 1 << 20}
	p, err := fromPool("default", folder, true, settings, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// closeOne leaves a file with one entry behind, of a store that is closed.
func closeOne(t *testing.T, folder string) {
	t.Helper()
	p := takeTestCache(t, folder)
	if err := p.open(); err != nil {
		t.Fatal(err)
	}
	hour := time.Now().Add(time.Hour)
	entry := &store.Entry{
		URL: store.URLAt("http://example.com/", "80"), Method: http.MethodGet, Status: http.StatusOK,
		FreshUntil: hour, KeepUntil: hour, Body: store.NewBody([][]byte{[]byte("body")}),
	}
	if result := p.Store().Put(entry, 1); result != store.Stored {
		t.Fatal(result)
	}
	if err := p.returnToPool(); err != nil {
		t.Fatal(err)
	}
}

// TestPurgeOfAPathThatIsReopened: the store that a purge is about to reach is closed, and another
// one has opened its file, with all that is in it, before the purge comes to it.
func TestPurgeOfAPathThatIsReopened(t *testing.T) {
	folder := t.TempDir()
	closeOne(t, folder)
	other, first := takeTestCache(t, t.TempDir()), takeTestCache(t, folder)
	for _, p := range []*pooled{other, first} {
		if err := p.open(); err != nil {
			t.Fatal(err)
		}
	}
	listed := other.withOthers(nil)
	if err := first.returnToPool(); err != nil {
		t.Fatal(err)
	}
	second := takeTestCache(t, folder)
	if err := second.open(); err != nil {
		t.Fatal(err)
	}
	begun := beginPurge(listed, other, store.Selectors{All: true}, store.PurgeOptions{})
	n, err := begun.wait()
	if n != 1 || err != nil {
		t.Errorf("matched %d, %v; want the one that is in the file", n, err)
	}
	for _, p := range []*pooled{second, other} {
		if err := p.returnToPool(); err != nil {
			t.Error(err)
		}
	}
}

// TestPurgeOfAZoneThatIsRenamed: while a reload gives the file of a zone to another one, a purge of
// either reaches it, and after that a purge of the new one. A purge of the zone that still answers
// requests matched nothing, and was answered as if it held.
func TestPurgeOfAZoneThatIsRenamed(t *testing.T) {
	folder := t.TempDir()
	purge := func(zone string) int {
		t.Helper()
		all := httpcache.PurgeOptions{PurgeOptions: store.PurgeOptions{DryRun: true}}
		n, err := purgeZones([]string{zone}, store.Selectors{All: true}, all)
		if err != nil {
			t.Error(err)
		}
		return n
	}
	closeOne(t, folder)
	claimed := func(zone string) (*pooled, *claim) {
		t.Helper()
		settings := store.Settings{Memory: 1 << 20, Disk: 8 << 20, MaxBody: 1 << 20}
		p, err := fromPool(zone, folder, true, settings, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		c := &claim{zone, new(httpcache.Siblings), settings, nil}
		p.add(c)
		return p, c
	}
	old, before := claimed("before")
	if err := old.open(); err != nil {
		t.Fatal(err)
	}
	renamed, after := claimed("after")
	if n := purge("before"); n != 1 {
		t.Errorf("a purge of the zone that answers requests matches %d", n)
	}
	if n := purge("after"); n != 1 {
		t.Errorf("a purge of the zone that will have the file matches %d", n)
	}
	old.remove(before)
	if was, is := purge("before"), purge("after"); was != 0 || is != 1 {
		t.Errorf("after the reload purges match %d and %d", was, is)
	}
	renamed.remove(after)
}

// TestPositionWithoutAFile: a file that cannot be opened yet may come back with what has missed
// purges of the fleet, so the position of another zone's file is not that of all. It was taken for
// it, and what came back was served.
func TestPositionWithoutAFile(t *testing.T) {
	folder := t.TempDir()
	closeOne(t, folder)
	p := takeTestCache(t, folder)
	if err := p.open(); err != nil {
		t.Fatal(err)
	}
	processCaches{}.SetPosition("epoch", 7)
	if epoch, applied := (processCaches{}).Position(); epoch != "epoch" || applied != 7 {
		t.Errorf("the position is %q %d", epoch, applied)
	}
	noFolder := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(noFolder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	late, err := fromPool("late", filepath.Join(noFolder, "late"), false, p.Store().Settings(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := late.open(); err != nil {
		t.Fatal(err)
	}
	if epoch, applied := (processCaches{}).Position(); epoch != "" || applied != 0 {
		t.Errorf("with a file that is not open the position is %q %d", epoch, applied)
	}
	for _, p := range []*pooled{late, p} {
		if err := p.returnToPool(); err != nil {
			t.Error(err)
		}
	}
}

package store

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// watcher notes what it is told.
type watcher struct {
	mu           sync.Mutex
	began, ended []string
	dropped      map[string]bool // tag and URL
	awaited      string          // a tag
}

func (w *watcher) SweepBegan(tags []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = append(w.began, tags...)
}

func (w *watcher) Dropped(tag, url string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dropped == nil {
		w.dropped = make(map[string]bool)
	}
	w.dropped[tag+" "+url] = true
}

func (w *watcher) SweepEnded(tags []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = append(w.ended, tags...)
}

func (w *watcher) IsAwaited(tags []string) bool { return slices.Contains(tags, w.awaited) }

// took returns what was told since the last call, once as many sweeps have ended as have begun.
func (w *watcher) took(t *testing.T) (began, dropped []string) {
	t.Helper()
	waitFor(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.began) == len(w.ended)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for what := range w.dropped {
		dropped = append(dropped, what)
	}
	slices.Sort(dropped)
	began = w.began
	w.began, w.ended, w.dropped = nil, nil, nil
	return began, dropped
}

// TestPurgeWatcher: each purge by a tag tells the URLs that it has dropped, from memory and from
// disk, and no other purge tells any.
func TestPurgeWatcher(t *testing.T) {
	for _, path := range []string{"", t.TempDir()} {
		t.Run("disk "+fmt.Sprint(path != ""), func(t *testing.T) {
			w := new(watcher)
			settings := bothTiers
			if path == "" {
				settings.Disk = 0
			}
			s := openStore(t, Config{Path: path, Watcher: w}, settings)
			put := func(name string, tags ...string) {
				e := testEntry(s, URLAt("http://example.com/"+name, "127.0.0.1:80"), []byte(name), tags...)
				if r := s.Put(e, 0); r != Stored {
					t.Fatalf("Put = %v", r)
				}
			}
			put("1", "a")
			put("2", "a", "b")
			put("3", "b", "\x00group")
			put("4", "c")
			must(t, s.Sync())
			fetch := s.Begin() // which keeps the records in force, and not the sweeps from being told
			defer fetch.End()
			for _, tc := range []struct {
				sel            Selectors
				opts           PurgeOptions
				began, dropped string
			}{
				{Selectors{Tags: []string{"a", "b"}}, PurgeOptions{DryRun: true}, "", ""},
				{Selectors{Tags: []string{"b"}}, PurgeOptions{Severity: Soft}, "b", "b http://example.com/2,b http://example.com/3"},
				{Selectors{Tags: []string{"a", "unknown"}}, PurgeOptions{}, "a,unknown", "a http://example.com/1,a http://example.com/2"},
				{Selectors{Tags: []string{"a"}}, PurgeOptions{}, "a", ""},
				{Selectors{Tags: []string{"\x00group"}}, PurgeOptions{}, "", ""},
				{Selectors{URLs: []string{"http://example.com/4"}}, PurgeOptions{}, "", ""},
			} {
				if _, err := s.Purge(tc.sel, tc.opts); err != nil {
					t.Fatal(err)
				}
				w.mu.Lock()
				announced := len(w.began)
				w.mu.Unlock()
				if want := strings.Count(tc.began, ",") + 1; tc.began != "" && announced != want {
					t.Errorf("%q: %d tags are announced when it answers, want %d", tc.sel.Tags, announced, want)
				}
				began, dropped := w.took(t)
				if strings.Join(began, ",") != tc.began || strings.Join(dropped, ",") != tc.dropped {
					t.Errorf("%q: %q began, %q dropped; want %s, %s", tc.sel.Tags, began, dropped, tc.began, tc.dropped)
				}
			}
		})
	}
}

// TestPurgeWatcherOfWhatIsOnDisk: what is on disk alone, as after a restart, is told too.
func TestPurgeWatcherOfWhatIsOnDisk(t *testing.T) {
	dir, w := t.TempDir(), new(watcher)
	s := openStore(t, Config{Path: dir}, bothTiers)
	for i := range 300 {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), []byte("x"), "a"), 0)
	}
	must(t, s.Sync())
	must(t, s.Close())
	s = openStore(t, Config{Path: dir, Watcher: w}, bothTiers)
	if n, err := s.Purge(Selectors{Tags: []string{"a"}}, PurgeOptions{}); n != 300 || err != nil {
		t.Fatalf("Purge = %d, %v", n, err)
	}
	if began, dropped := w.took(t); len(began) != 1 || len(dropped) != 300 {
		t.Errorf("%q began, %d dropped", began, len(dropped))
	}
}

// TestPurgeWatcherOfAStoreThatCloses: no sweep is left announced.
func TestPurgeWatcherOfAStoreThatCloses(t *testing.T) {
	w := new(watcher)
	s := openStore(t, Config{Path: t.TempDir(), Watcher: w}, bothTiers)
	for i := range 2000 {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), []byte("x"), "a"), 0)
	}
	if _, err := s.Purge(Selectors{Tags: []string{"a"}}, PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	must(t, s.Close())
	if began, _ := w.took(t); len(began) != 1 {
		t.Errorf("%q began", began)
	}
}

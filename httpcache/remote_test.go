package httpcache

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/larder-cache/larder/store"
)

// sharedMap is a Remote in memory.
type sharedMap struct {
	mu      sync.Mutex
	entries map[store.Key]*store.Entry
	asked   int
	fails   error
	during  func() // called within Get
}

func (m *sharedMap) Get(_ context.Context, key store.Key, selects func(*store.Variant) int) (*store.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.during != nil {
		m.during()
	}
	e := m.entries[key]
	if m.fails != nil || e == nil || selects(&e.Variant) == 0 {
		return nil, m.fails
	}
	return e.Clone(), nil
}

func (m *sharedMap) Put(e *store.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries[e.Key] = e
}

// machines returns handlers with a store each and one Remote.
func machines(t *testing.T) (one, two *testHandler, remote *sharedMap) {
	remote = &sharedMap{entries: make(map[store.Key]*store.Entry)}
	one, two = newTestHandler(t), newTestHandler(t)
	one.cache.remote, two.cache.remote = remote, remote
	two.cache.logger = slog.New(slog.DiscardHandler)
	return one, two, remote
}

func answeringVary(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("Vary", "X-Lang")
	_, err := w.Write([]byte("in " + r.Header.Get("X-Lang")))
	return err
}

// What one machine has fetched the other answers with, and does not ask the origin.
func TestRemoteAnswersForTheOrigin(t *testing.T) {
	one, two, remote := machines(t)
	next, calls := counting(answeringVary)
	if w := ask(t, one, next); !strings.HasSuffix(w.Header().Get("Cache-Status"), "stored") {
		t.Fatalf("not stored: %q", w.Header())
	}
	w := ask(t, two, next)
	if got := w.Header().Get("Cache-Status"); *calls != 1 || w.Body.String() != "in " || !strings.HasPrefix(got, "Larder; hit") {
		t.Errorf("%d calls of the origin, %q, %q", *calls, w.Body, got)
	}
	asked := remote.asked
	if ask(t, two, next); remote.asked != asked {
		t.Error("a hit asks the remote store")
	}
}

// A response for others, one that is purged while it comes, and a failure are no answer.
func TestRemoteIsNoAnswer(t *testing.T) {
	for name, spoil := range map[string]func(two *testHandler, remote *sharedMap){
		"another variant": func(_ *testHandler, remote *sharedMap) {
			for _, e := range remote.entries {
				e.Variant.Values = []string{"de"}
			}
		},
		"purged": func(two *testHandler, remote *sharedMap) {
			remote.during = func() {
				_, _ = two.cache.Purge(context.Background(), store.Selectors{All: true}, PurgeOptions{})
			}
		},
		"a failure": func(_ *testHandler, remote *sharedMap) { remote.fails = errors.New("no connection") },
	} {
		t.Run(name, func(t *testing.T) {
			one, two, remote := machines(t)
			next, calls := counting(answeringVary)
			ask(t, one, next)
			spoil(two, remote)
			if w := ask(t, two, next); *calls != 2 || w.Body.String() != "in " {
				t.Errorf("%d calls of the origin, %q", *calls, w.Body)
			}
		})
	}
}

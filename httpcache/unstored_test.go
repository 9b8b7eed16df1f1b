package httpcache

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

// stalledWriter is a client that takes the header, and of the body nothing until it is let go.
type stalledWriter struct {
	*httptest.ResponseRecorder
	stalled chan struct{} // closed when it has been sent some
	goOn    <-chan struct{}
	told    bool
}

func (w *stalledWriter) Write(p []byte) (int, error) {
	if !w.told {
		w.told = true
		close(w.stalled)
	}
	<-w.goOn
	return w.ResponseRecorder.Write(p)
}

// TestUnstoredBodiesOnDisk: a body that went to disk while it came, and is not stored, counts like
// a deleted one for as long as a client reads it: others are not evicted for it, and a body that
// would have a quarter of the budget with it is not taken in. It counted as one that is to be an
// entry.
func TestUnstoredBodiesOnDisk(t *testing.T) {
	const budget, length = 64 << 20, 20 << 20
	for name, maxBody := range map[string]int64{"purged while they come": 64 << 20, "past max_body": 16 << 20} {
		t.Run(name, func(t *testing.T) {
			h := newTestHandlerWith(t, store.Config{Path: t.TempDir(), Required: true}, store.Settings{Memory: 16 << 20, Disk: budget})
			h.MaxBody = maxBody
			goOn := make(chan struct{})
			w := &stalledWriter{ResponseRecorder: httptest.NewRecorder(), stalled: make(chan struct{}), goOn: goOn}
			origin := handlerFunc(func(rw http.ResponseWriter, _ *http.Request) error {
				rw.Header().Set("Cache-Control", "max-age=60")
				piece := make([]byte, 1<<20)
				for range length / len(piece) {
					if _, err := rw.Write(piece); err != nil {
						return err
					}
				}
				if _, err := h.cache.store.Purge(store.Selectors{All: true}, store.PurgeOptions{}); err != nil {
					t.Error(err)
				}
				return nil
			})
			answered := make(chan error)
			go func() { answered <- h.ServeHTTP(w, newTestRequest(w), origin) }()
			<-w.stalled
			waitUntil(t, "no large body is taken in", func() bool { return !takesBodies(t, h.cache.store) })
			close(goOn)
			if err := <-answered; err != nil || w.Body.Len() != length {
				t.Errorf("%d bytes, %v", w.Body.Len(), err)
			}
			waitUntil(t, "large bodies are taken in", func() bool { return takesBodies(t, h.cache.store) })
		})
	}
}

// takesBodies reports whether a body of three eighths of the disk may go there.
func takesBodies(t *testing.T, s *store.Store) bool {
	d, err := s.NewBodyWriter(24 << 20)
	if err != nil {
		if !errors.Is(err, store.ErrNoSpace) {
			t.Error(err)
		}
		return false
	}
	d.Close()
	return true
}

// waitUntil waits until something is so.
func waitUntil(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

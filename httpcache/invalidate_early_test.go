package httpcache

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/store"
)

// TestUnsafeRequestBeforeTheStoreIsOpen: a POST that came while the store was being opened, which
// took longer than a request waits for that, invalidated nothing. The page of before it was a hit
// as soon as the store was open.
func TestUnsafeRequestBeforeTheStoreIsOpen(t *testing.T) {
	for name, observe := range map[string]bool{"": false, "of a route that observes": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testUnsafeRequestEarly(t, observe) })
		})
	}
}

func testUnsafeRequestEarly(t *testing.T, observe bool) {
	settings := store.Settings{Memory: 1 << 20, Disk: 8 << 20, MaxBody: 1 << 20}
	config := store.Config{Path: t.TempDir(), Required: true}
	page := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=3600")
		_, err := io.WriteString(w, "page")
		return err
	})
	begin := func(open bool) (*store.Store, *testHandler) {
		s := store.New(config, settings)
		if open {
			openStore(t, s)
		}
		return s, &testHandler{New(Options{Store: s}).NewRoute(Rules{Observe: observe}, nil)}
	}
	s, h := begin(true)
	ask(t, h, page)
	synctest.Wait()
	if items, _, err := s.List(store.Filter{}, 10, ""); err != nil || len(items) != 1 {
		t.Errorf("before: %v, %v", items, err)
	}
	closeStore(t, s)

	s, h = begin(false)
	answered := make(chan error)
	go func() {
		w := httptest.NewRecorder()
		r := newTestRequest(w)
		r.Method = http.MethodPost
		answered <- h.ServeHTTP(w, r, func(http.ResponseWriter, *http.Request) error { return nil })
	}()
	time.Sleep(openWait + time.Second)
	openStore(t, s)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if items, _, err := s.List(store.Filter{}, 10, ""); err != nil || len(items) > 0 {
		t.Errorf("the page of before the POST is stored: %v, %v", items, err)
	}
	closeStore(t, s)
}

func openStore(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
}

func closeStore(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

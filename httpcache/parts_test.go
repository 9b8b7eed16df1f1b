package httpcache

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// gatedWriter takes nothing before it is open.
type gatedWriter struct {
	*httptest.ResponseRecorder
	open chan struct{}
}

// Write implements http.ResponseWriter.
func (w *gatedWriter) Write(p []byte) (int, error) {
	<-w.open
	return w.ResponseRecorder.Write(p)
}

// TestSlowClientOfABodyPastMaxSlowsNobody: a client that takes nothing of a body that is too large
// to be stored does not keep it from one that shares its fetch, and has the whole when it goes on.
func TestSlowClientOfABodyPastMaxSlowsNobody(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 24<<16)
	h := newTestHandlerWith(t, store.Config{Path: t.TempDir(), Required: true}, store.Settings{Memory: 16 << 20, Disk: 128 << 20})
	h.MaxBody = 8 << 20
	proceed := make(chan struct{})
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		<-proceed
		w.Header().Set("Cache-Control", "max-age=60")
		_, err := w.Write(body)
		return err
	})
	quick, slow := httptest.NewRecorder(), &gatedWriter{httptest.NewRecorder(), make(chan struct{})}
	var leading, following sync.WaitGroup
	leading.Go(func() {
		if err := h.ServeHTTP(quick, newTestRequest(quick), next); err != nil {
			t.Error(err)
		}
	})
	key := h.keyOf(quick, next)
	var f *coalesce.Flight
	waitUntil(t, "a fetch", func() bool {
		flight, m, ok := h.cache.flights.JoinRunning(key, nil)
		if ok {
			m.Leave()
			f = flight
		}
		return ok
	})
	following.Go(func() {
		if err := h.ServeHTTP(slow, newTestRequest(slow), next); err != nil {
			t.Error(err)
		}
	})
	waitUntil(t, "a follower", func() bool { return f.Waiting() == 1 })
	close(proceed)
	leading.Wait()
	close(slow.open)
	following.Wait()
	for name, got := range map[string]*bytes.Buffer{"quick": quick.Body, "slow": slow.Body} {
		if !bytes.Equal(got.Bytes(), body) {
			t.Errorf("the %s client has %d of %d bytes", name, got.Len(), len(body))
		}
	}
}

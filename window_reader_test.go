package larder

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// deadWriter is a client that takes nothing. Its deadline ends the write, and panics, as HTTP/2's
// does when the stream has ended.
type deadWriter struct {
	*httptest.ResponseRecorder
	broken chan struct{}
}

func (w *deadWriter) Write([]byte) (int, error) {
	<-w.broken
	return 0, errors.New("deadline exceeded")
}

func (w *deadWriter) SetWriteDeadline(time.Time) error {
	close(w.broken)
	var ended *http.Request
	return ended.Context().Err() // a nil dereference
}

// A reader that a window drops cannot take others along, whatever its client's writer does when it
// is broken off.
func TestDroppedReaderHarmsNobody(t *testing.T) {
	synctest.Test(t, droppedReaderHarmsNobody)
}

func droppedReaderHarmsNobody(t *testing.T) {
	defer time.Sleep(2 * workerIdle) // of the bubble's time: the goroutine of the fetch ends by then
	body := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	h := newBenchHandler(t)
	h.maxBody = 1 << 10
	h.app.cache.flights = coalesce.NewGroup[store.Key](h.app.cache.store, coalesce.Limits{Window: 64 << 10, ReaderIdle: time.Minute})
	seen, logged := observer.New(zap.ErrorLevel)
	h.logger = zap.New(seen)
	proceed := make(chan struct{})
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		<-proceed
		w.Header().Set("Cache-Control", "max-age=60")
		_, err := w.Write(body)
		return err
	})
	good, dead := httptest.NewRecorder(), &deadWriter{httptest.NewRecorder(), make(chan struct{})}
	var clients sync.WaitGroup
	clients.Go(func() {
		if err := h.ServeHTTP(good, benchRequest(good), next); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	f, p, ok := h.app.cache.flights.JoinRunning(h.keyOf(good, next), nil)
	if !ok {
		t.Fatal("no fetch is under way")
	}
	p.Leave()
	clients.Go(func() {
		defer func() { _ = recover() }() // its connection breaks
		_ = h.ServeHTTP(dead, benchRequest(dead), next)
	})
	synctest.Wait()
	if f.Waiting() == 0 {
		t.Error("the second client does not wait")
	}
	close(proceed)
	clients.Wait()
	if !bytes.Equal(good.Body.Bytes(), body) {
		t.Errorf("the good reader has %d of %d bytes", good.Body.Len(), len(body))
	}
	if n := logged.FilterMessage("panic of a response writer at SetWriteDeadline").Len(); n != 1 {
		t.Errorf("the panic is logged %d times: %v", n, logged.All())
	}
}

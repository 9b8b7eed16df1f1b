package httpcache

import (
	"net/http"
	"testing"
	"time"

	"github.com/larder-cache/larder/batch"
	"github.com/larder-cache/larder/store"
)

// TestBatchTellsThatTheOriginIsAsked: other machines were told only when an item was asked for
// alone, half of the wait later. So what an origin is slow about counted as waiting for its turn,
// and they did not remember it.
func TestBatchTellsThatTheOriginIsAsked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newSlowShop(t)
		remote := &sharedMap{entries: make(map[store.Key]*store.Entry)}
		h.cache.remote = remote.begin
		first := s.ask(t, h, slowID)
		time.Sleep(time.Millisecond)
		second := s.ask(t, h, "7")
		time.Sleep(batch.DefaultWindow + time.Second)
		if n := remote.asks.Load(); n != 2 {
			t.Errorf("%d of 2 have told that the origin is asked", n)
		}
		<-first
		<-second
	})
}

// TestBatchThatFailsTellsOfTheWait: other machines held what a request for many had failed at once
// for, and then stood in a queue, to be what the origin is slow about.
func TestBatchThatFailsTellsOfTheWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newSlowShop(t)
		s.many = func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusBadGateway)
			return nil
		}
		remote := &sharedMap{entries: make(map[store.Key]*store.Entry)}
		h.cache.remote = remote.begin
		first := s.ask(t, h, "6")
		time.Sleep(time.Millisecond)
		second := s.ask(t, h, "7")
		<-first
		<-second
		if asks, waits := remote.asks.Load(), remote.waits.Load(); asks != 4 || waits != 2 {
			t.Errorf("%d of 2 have told that they wait again; that the origin is asked was told %d times", waits, asks)
		}
	})
}

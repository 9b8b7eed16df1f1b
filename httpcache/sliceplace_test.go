package httpcache

import (
	"bytes"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/origin"
)

// waits calls on when a request begins to wait for a place.
type waits struct{ on func() }

func (w *waits) Waiting(by int) {
	if by > 0 {
		w.on()
	}
}

func (w *waits) Refused(origin.Why) {}

// atFirst is a recorder that calls first at the first byte.
type atFirst struct {
	*httptest.ResponseRecorder
	first func()
}

// Write implements io.Writer.
func (a *atFirst) Write(p []byte) (int, error) {
	if a.first != nil {
		a.first()
		a.first = nil
	}
	return a.ResponseRecorder.Write(p)
}

// An answer that has begun waits for a place for its next slice, however long that takes and
// however many wait.
func TestAnswerThatHasBegunWaitsForAPlace(t *testing.T) {
	h, f := newSlicing(t), newFilm(50, 1000)
	var taken origin.Place
	var waited atomic.Int32
	h.Budget = origin.New("", origin.Limits{MaxConcurrent: 1, Wait: time.Nanosecond}, &waits{func() {
		waited.Add(1)
		go taken.Done()
	}})
	f.want(t, f.get(t, h, "Range", "bytes=10-19"), 206, 10, 20, cold)
	w := &atFirst{httptest.NewRecorder(), func() {
		if err := h.Budget.Take(t.Context(), &taken, origin.ClassWaiting); err != nil {
			t.Error(err)
		}
	}}
	if broke := f.read(h, w, newTestRequest(w)); broke || !bytes.Equal(w.Body.Bytes(), f.content) {
		t.Errorf("broken off: %t, after %d bytes", broke, w.Body.Len())
	}
	if waited.Load() == 0 {
		t.Error("no slice waited for a place")
	}
}

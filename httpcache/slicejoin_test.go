package httpcache

import (
	"testing"
	"time"

	"github.com/larder-cache/larder/coalesce"
)

// A fetch of a slice comes to its header, and gets another key, between the two looks of a request
// that has a key of its own. The request joins it there, and leaves nothing of the flight that it
// has begun in vain.
func TestSliceThatComesToItsHeaderBetweenTwoLooks(t *testing.T) {
	h := newSlicing(t)
	h.cookiesApart = true
	q := newPatient(h)
	q.unkeyedCookie = true
	o := &object{id: [objectIDSize]byte{1}, size: 100, total: 1000}
	key := o.key(3)
	newTag := func(key [32]byte) *flightTag { return &flightTag{key: q.route.byRules(key), begun: time.Now()} }
	flights := h.cache.flights

	shared := newTag(q.sharedSliceKey(key))
	other, leader, _ := flights.Join(shared.key, shared, nil)
	defer leader.Leave()
	defer other.Settle()
	own := newTag(q.sliceFlightKey(key, true))
	if own.key == shared.key {
		t.Fatal("it has no key of its own")
	}
	begun, m, joined := q.joinOrBeginSlice(key, own)
	if joined || begun == other {
		t.Fatal("it joins a fetch for others that has no header")
	}
	begun.Fail(errSliceStored)
	begun.Settle()
	m.Leave()

	other.Share(&sharedResponse{}, -1)
	f, m, joined := q.joinOrBeginSlice(key, own)
	defer m.Leave()
	if !joined || f != other || m.Leader() {
		t.Errorf("joined %v, the other's flight %v, leads %v", joined, f == other, m.Leader())
	}
	if n := flights.Len(); n != 1 {
		t.Errorf("%d fetches are under way, want 1", n)
	}
	if f, m, ok := flights.JoinRunning(own.key, func(*coalesce.Flight) bool { return true }); ok {
		m.Leave()
		t.Errorf("%v is left under the request's own key", f.Err())
	}
}

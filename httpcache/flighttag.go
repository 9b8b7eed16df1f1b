package httpcache

import (
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// flightTag is what is known of a flight from its start.
type flightTag struct {
	key        store.Key // in the group of flights, unless it is apart
	page       store.Key // of what is remembered of broken bodies: for a slice, that of its object
	apart      bool      // only requests with the same fields can join, see keepApart
	url        string
	generation uint64    // of the purges, when its fetch began
	begun      time.Time // its fetch began then, or a little later
	solo       bool      // no other request can join
	client     string    // the address of the one that led the fetch, see late.go
	// Another was late when it began, and the request that began it had given that up, see late.go.
	followsLate bool
	// instead is the refresh that was late when this one began, if there was one, and late how many
	// were, one after the other.
	instead *coalesce.Flight
	late    int
	// failure is the status with which the fetch failed, if it did, or rfc9111.NoAnswer.
	failure atomic.Int32
	came    []field     // the header of the request that began the fetch, as it came; see begins
	known   atomic.Bool // that is
	asked   atomic.Bool // the origin was, for that request
	watched atomic.Bool // see watch
	stood   atomic.Bool // it stood still for as long as requests wait
	whole   atomic.Bool // its body has come, or is about to be said to have
}

// begins says whose request begins the fetch.
func (t *flightTag) begins(came []field) {
	t.came = came
	t.known.Store(true)
}

// fieldsSum is that of the request that began the fetch. It is not known before the fetch begins.
func (t *flightTag) fieldsSum() (sum uint64, known bool) {
	if !t.known.Load() {
		return 0, false
	}
	return sumOf(t.came), true
}

// tag is what is known of the fetch's flight from its start.
func (x *Fetch) tag() *flightTag { return x.flight.Tag().(*flightTag) }

// failure is the status with which the flight's fetch failed, or [rfc9111.NoAnswer].
func (s membership) failure() int { return int(s.flight.Tag().(*flightTag).failure.Load()) }

package fleet_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet/fleettest"
)

// newNumbered makes a site whose origin numbers its answers. Those of which slow says so take a
// while.
func newNumbered(t *testing.T, n int, takes time.Duration, slow func(call int64, r *http.Request) bool) *site {
	var s *site
	s = newSite(t, n, func(w http.ResponseWriter, r *http.Request) {
		call := s.calls.Load()
		if slow(call, r) {
			time.Sleep(takes)
		}
		page(fmt.Sprint("text ", call))(w, nil)
	}, nil)
	return s
}

func isFirst(call int64, _ *http.Request) bool { return call == 1 }

// delayPuts has what a node puts take a while on its way.
func (s *site) delayPuts(node int, by time.Duration) {
	s.server.SetFault(func(c fleettest.Call) (f fleettest.Fault) {
		if c.Client == node && (c.Method == "PutRecord" || c.Method == "ReplaceRecord") {
			f.Delay = by
		}
		return f
	})
}

// leaseLasts is for how long a node fetches for all.
const leaseLasts = coalesceWait - coalesceWait/10

// TestLeaseIsNotLetGoWhileItsResponseIsStored: the time of a lease was over between the look
// whether it was held and the record's arrival. Another node fetched and stored, and the older came
// after.
func TestLeaseIsNotLetGoWhileItsResponseIsStored(t *testing.T) {
	for _, lasts := range []time.Duration{leaseLasts, coalesceWait} {
		inBubble(t, func(t *testing.T) {
			s := newNumbered(t, 3, lasts-100*time.Millisecond, isFirst)
			s.delayPuts(0, 500*time.Millisecond)
			go s.nodes[0].get("/")
			time.Sleep(lasts + 10*time.Millisecond)
			newest := s.nodes[1].get("/").body
			time.Sleep(2 * time.Second)
			if got := s.nodes[2].get("/").body; got != newest {
				t.Errorf("after %q another node has %q", newest, got)
			}
		})
	}
}

// TestLateRecordReplacesWhatWasSeen: between the look whether there is something newer and the
// record's arrival another node stored, and the older came after.
func TestLateRecordReplacesWhatWasSeen(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newNumbered(t, 3, coalesceWait+5*time.Second, isFirst)
		s.delayPuts(0, 500*time.Millisecond)
		go s.nodes[0].get("/")
		time.Sleep(coalesceWait + 5*time.Second + 100*time.Millisecond)
		if got := s.nodes[1].get("/").body; got != "text 2" {
			t.Fatalf("another node gets %q", got)
		}
		time.Sleep(2 * time.Second)
		if got := s.nodes[2].get("/").body; got != "text 2" {
			t.Errorf("after text 2 another node has %q", got)
		}
	})
}

// TestLateFetchWithoutALease: what a fetch without a lease brought replaced whatever was there,
// however long it had taken.
func TestLateFetchWithoutALease(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newNumbered(t, 3, 40*time.Second, func(_ int64, r *http.Request) bool { return r.Header.Get("X-Slow") != "" })
		s.server.SetFault(func(c fleettest.Call) (f fleettest.Fault) {
			if c.Client == 0 && c.Method == "Take" {
				f.Err = fleettest.ErrLost
			}
			return f
		})
		go s.nodes[0].get("/", "X-Slow", "1")
		time.Sleep(30 * time.Second)
		newest := s.nodes[1].get("/")
		time.Sleep(15 * time.Second)
		if got := s.nodes[2].get("/"); got.body != newest.body {
			t.Errorf("after %v another node has %v", newest, got)
		}
	})
}

// TestLateRecordWithoutAnAnswer: nothing late is put where the server does not say what it has.
func TestLateRecordWithoutAnAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newNumbered(t, 2, coalesceWait+5*time.Second, isFirst)
		s.server.SetFault(func(c fleettest.Call) (f fleettest.Fault) {
			if c.Method == "Record" {
				f.Err = fleettest.ErrLost
			}
			return f
		})
		if got := s.nodes[0].get("/").body; !strings.HasPrefix(got, "text") {
			t.Fatal(got)
		}
		s.nodes[0].awaitIdle()
		if n := s.nodes[0].metrics.of("put error"); n != 1 {
			t.Errorf("%d puts end with an error, want 1", n)
		}
		if got := s.nodes[1].get("/").body; got != "text 2" {
			t.Errorf("another node has %q", got)
		}
	})
}

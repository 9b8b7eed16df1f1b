package larder

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// All waits of a follower together are as long as `coalesce wait`: for a first fetch that fails, for the one that follows, for another variant's.
func TestPatienceOfAFollower(t *testing.T) {
	h := newBenchHandler(t)
	h.Coalesce.Wait = caddy.Duration(10 * time.Second)
	synctest.Test(t, func(t *testing.T) {
		q := newPatient(h)
		for _, tc := range []struct {
			passes, want time.Duration
		}{
			{0, 10 * time.Second},
			{4 * time.Second, 6 * time.Second},
			{5 * time.Second, time.Second},
			{5 * time.Second, 1},
		} {
			time.Sleep(tc.passes)
			if got := q.waitTimeout(membership{}); got != tc.want {
				t.Errorf("it waits for %v more, want %v", got, tc.want)
			}
		}
		if got := q.waitTimeout(membership{fetch: new(fetch)}); got != 0 {
			t.Errorf("a leader waits for %v, want as long as it takes", got)
		}
	})
}

// Where the last answer was for one client only, nobody waits long for a header that comes late,
// however long that was ago.
func TestNoPatienceWithWhatWasNotShareable(t *testing.T) {
	h := newBenchHandler(t)
	now := time.Now()
	h.app.cache.hitForMiss.now = func() time.Time { return now }
	synctest.Test(t, func(t *testing.T) {
		q := newPatient(h)
		h.app.cache.hitForMiss.note(q.hitForMissKey())
		now = now.Add(hitForMissTTL + hitForMissKeep/2)
		if got := q.sharing(); got != sharingDoubtful {
			t.Errorf("sharing is %d, want doubtful", got)
		}
		if got := q.waitTimeout(membership{}); got != lateHeader {
			t.Errorf("it waits for %v, want %v", got, lateHeader)
		}
		h.Coalesce.Wait = caddy.Duration(lateHeader / 2)
		if got := newPatient(h).waitTimeout(membership{}); got != lateHeader/2 {
			t.Errorf("with a shorter coalesce wait it waits for %v, want %v", got, lateHeader/2)
		}
	})
}

func newPatient(h *Handler) *request {
	w := &nullWriter{make(http.Header)}
	q := h.newRequest(w, benchRequest(w), nil)
	q.classify()
	q.readKey()
	return q
}

package httpcache

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/store"
)

// Two that were told that the origin is well and find one place: the other does not wait for it.
func TestStaleDoesNotWaitForItsFlight(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{MaxConcurrent: 1, Queue: 10, Wait: time.Minute}, page("stale-if-error=600"))
		b.get("/page")
		done := make(chan struct{})
		b.next = hangs(done)
		slow := b.begin(t.Context(), "/slow")
		time.Sleep(time.Millisecond)
		q := b.h.newRequest(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "http://example.com/page", nil), b.next)
		q.readKey()
		q.lookUp()
		answered, err := q.serveFrom(q.join(q.flightKey()))
		if got := q.w.Header().Get("Cache-Status"); !answered || err != nil || got != "Larder; hit; ttl=-2; detail=origin-busy" {
			t.Errorf("%v, %v, %q", answered, err, got)
		}
		q.found.Release()
		close(done)
		<-slow
	})
}

// A request that has joined a refresh which finds no place, and cannot have the stale page, asks
// for itself. Without limits it was told that the origin is busy.
func TestFollowerOfADroppedRefresh(t *testing.T) {
	for _, why := range []origin.Why{origin.Refresh, origin.Busy, origin.Failing} {
		inBubble(t, func(t *testing.T) {
			b := newBudgeted(t, origin.Limits{}, page("stale-if-error=600"))
			b.get("/page")
			time.Sleep(time.Millisecond)
			q := b.h.newRequest(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "http://example.com/page", nil), b.next)
			q.readKey()
			q.lookUp()
			ticket, tag := q.begin(q.flightKey())
			f, m, _ := b.h.cache.flights.Join(tag.key, tag, q.joinable)
			follower := b.begin(t.Context(), "/page", "Cache-Control", "no-cache")
			other := b.begin(t.Context(), "/page")
			f.Fail(&origin.RefusedError{Why: why})
			f.Settle()
			m.Leave()
			ticket.End()
			q.found.Release()
			a := <-follower
			b.want(a, 200, "Larder; fwd=stale; fwd-status=200; stored", 2)
			if a := <-other; a.status() != 200 || !strings.HasPrefix(a.cacheStatus(), "Larder; hit; ttl=-N; detail=") {
				t.Errorf("%d, %q", a.status(), a.cacheStatus())
			}
		})
	}
}

// A thousand requests for pages of their own see the origin within its limit, and all are answered.
func TestThousandMisses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{MaxConcurrent: 10, Queue: 1000, Wait: time.Minute}, func(w http.ResponseWriter, r *http.Request) error {
			time.Sleep(20 * time.Millisecond)
			return storable(w, r)
		})
		begun := time.Now()
		var all sync.WaitGroup
		for n := range 1000 {
			all.Go(func() {
				if a := b.send(t.Context(), http.MethodGet, "/"+strconv.Itoa(n)); a.status() != 200 {
					t.Errorf("%d: %v", a.status(), a.err)
				}
			})
		}
		all.Wait()
		if took := time.Since(begun); b.most.Load() != 10 || took != 2*time.Second {
			t.Errorf("%d at once, in %v; want 10 in 2s", b.most.Load(), took)
		}
	})
}

// Requests for one page take one place, also those that come while its fetch waits in the queue for
// longer than a follower waits for a header. A place that each takes for itself is a stampede.
func TestFollowersOfAQueuedFetch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{MaxConcurrent: 1, Queue: 5, Wait: time.Minute}, nil)
		done := make(chan struct{})
		b.next = hangs(done)
		slow := b.begin(t.Context(), "/slow")
		var followers []<-chan *answered
		for range 20 {
			followers = append(followers, b.begin(t.Context(), "/page"))
			time.Sleep(time.Second)
		}
		close(done)
		<-slow
		for _, f := range followers {
			if a := <-f; a.status() != 200 {
				t.Errorf("%d, %v", a.status(), a.err)
			}
		}
		if b.calls.Load() != 2 {
			t.Errorf("%d calls of the origin, want 2", b.calls.Load())
		}
	})
}

// When the origin sends no header for as long as followers wait, they have the stale page if they
// may, and else a place in the queue: the origin sees no stampede.
func TestFollowersOfASlowOrigin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{MaxConcurrent: 3, Queue: 100, Wait: time.Minute}, page("stale-if-error=600"))
		b.get("/page")
		b.next = func(w http.ResponseWriter, r *http.Request) error {
			time.Sleep(30 * time.Second)
			return says(http.StatusOK, "Cache-Control", "no-store")(w, r)
		}
		var having, lacking []<-chan *answered
		for range 20 {
			having = append(having, b.begin(t.Context(), "/page"))
			lacking = append(lacking, b.begin(t.Context(), "/none"))
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, f := range having[1:] {
			a := <-f
			if !strings.HasSuffix(a.cacheStatus(), "; detail=sie") || a.took != 10*time.Second {
				t.Errorf("%q after %v", a.cacheStatus(), a.took)
			}
		}
		served, refused := 0, 0
		for _, f := range lacking {
			switch a := <-f; a.status() {
			case 200:
				served++
			case 503:
				refused++
			default:
				t.Errorf("%d, %v", a.status(), a.err)
			}
		}
		<-having[0]
		if b.most.Load() > 3 || served < 5 || served+refused != 20 {
			t.Errorf("%d at once, %d served, %d refused", b.most.Load(), served, refused)
		}
	})
}

// A fetch that waits for other machines is silent as long: no request joins it after that. It waits
// for no place.
func TestWaitingForOthersIsSilence(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{Queue: 10, Wait: time.Minute}, storable)
		remote := &sharedMap{entries: make(map[store.Key]*store.Entry), await: func(int) (bool, int) {
			time.Sleep(30 * time.Second)
			return false, 0
		}}
		b.h.cache.remote = remote.begin
		asked := func() int {
			remote.mu.Lock()
			defer remote.mu.Unlock()
			return remote.asked
		}
		first := b.begin(t.Context(), "/page")
		time.Sleep(11 * time.Second)
		before := asked()
		second := b.begin(t.Context(), "/page")
		if asked() == before {
			t.Error("a request has joined a fetch that has been silent for longer than it would wait")
		}
		b.want(<-first, 200, "Larder; fwd=uri-miss; stored", 1)
		<-second
	})
}

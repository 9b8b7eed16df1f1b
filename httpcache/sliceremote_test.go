package httpcache

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/store"
)

// slicingMachines returns handlers with a store each and one sharedMap, which cut files into
// slices.
func slicingMachines(t *testing.T) (one, two *testHandler, remote *sharedMap) {
	t.Helper()
	remote = &sharedMap{entries: make(map[store.Key]*store.Entry)}
	one, two = newSlicing(t), newSlicing(t)
	one.cache.remote, two.cache.remote = remote.begin, remote.begin
	return one, two, remote
}

// What one machine has fetched of a file the other has, and asks the origin for the rest alone.
func TestRemoteHasAFileInSlices(t *testing.T) {
	one, two, remote := slicingMachines(t)
	f := newFilm(110, 1000)
	f.want(t, f.get(t, one, "Range", "bytes=110-119"), 206, 110, 120, cold)
	awaitIdle(t, one)
	if got, want := remote.heard(), "storable 0, put renews=false, put renews=false, end, end"; got != want {
		t.Errorf("of the first part others were told %q, want %q", got, want)
	}
	f.take()
	f.want(t, f.get(t, two, "Range", "bytes=110-119"), 206, 110, 120, partly)
	f.wantAsked(t)
	f.want(t, f.get(t, two, "Range", "bytes=110-119"), 206, 110, 120, hit)
	awaitIdle(t, two)
	remote.heard()
	f.want(t, f.get(t, two, "Range", "bytes=210-219"), 206, 210, 220, partly)
	awaitIdle(t, two)
	if got, want := remote.heard(), "storable 100, unshared false, put renews=false, end"; got != want {
		// It is longer than the limit that sharedMap has.
		t.Errorf("of a slice others were told %q, want %q", got, want)
	}
	f.wantAsked(t, "bytes=200-299")
	f.want(t, f.get(t, one), 200, 0, 1000, "Larder; fwd=partial; fwd-status=206; stored")
	f.want(t, f.get(t, two), 200, 0, 1000, "Larder; fwd=partial; fwd-status=206; stored")
	if got := f.take(); len(got) != 8 {
		t.Errorf("the two asked for %q, want each of eight slices once", got)
	}
}

// A slice of which a part is lost on its way is fetched.
func TestRemoteLosesASlice(t *testing.T) {
	one, two, remote := slicingMachines(t)
	f := newFilm(111, 1000)
	f.want(t, f.get(t, one, "Range", "bytes=110-119"), 206, 110, 120, cold)
	remote.body = func(b store.Body) store.Body { return &lostBody{b} }
	f.take()
	f.want(t, f.get(t, two, "Range", "bytes=110-119"), 206, 110, 120, partly)
	f.wantAsked(t, "bytes=100-199")
}

// What takes a file from one machine takes it from those that look for it elsewhere, and a file of
// another version is used by all.
func TestRemoteHasAnotherVersion(t *testing.T) {
	one, two, remote := slicingMachines(t)
	f := newFilm(112, 1000)
	f.want(t, f.get(t, one, "Range", "bytes=110-119"), 206, 110, 120, cold)
	f.change(filmBytes(113, 1100))
	f.want(t, f.get(t, one, "Range", "bytes=210-219"), 206, 210, 220, cold)
	if got := remote.heard(); strings.Count(got, "remove") != 1 {
		t.Errorf("others were told %q", got)
	}
	f.take()
	f.want(t, f.get(t, two, "Range", "bytes=210-219"), 206, 210, 220, partly)
	f.wantAsked(t)
	f.want(t, f.get(t, two, "Range", "bytes=110-119"), 206, 110, 120, partly)
	f.wantAsked(t, "bytes=100-199")
}

// A head that others have not removed yet is not used again by the request that has found it to be
// outdated.
func TestRemoteHasAnOldHead(t *testing.T) {
	one, two, remote := slicingMachines(t)
	f := newFilm(114, 1000)
	f.want(t, f.get(t, one, "Range", "bytes=110-119"), 206, 110, 120, cold)
	old := remote.entries[one.newKeyed(t)]
	f.change(filmBytes(115, 1100))
	remote.during = func() {
		if remote.entries[old.Key] == nil {
			remote.entries[old.Key] = old
		}
	}
	f.take()
	f.want(t, f.get(t, two, "Range", "bytes=210-219"), 206, 210, 220, cold)
	f.wantAsked(t, "bytes=200-299", "bytes=200-299")
}

// Others wait for the fetch of a slice, and have its failure.
func TestRemoteIsWaitedForWithASlice(t *testing.T) {
	one, two, remote := slicingMachines(t)
	f := newFilm(116, 1000)
	f.want(t, f.get(t, one, "Range", "bytes=110-119"), 206, 110, 120, cold)
	f.want(t, f.get(t, two, "Range", "bytes=110-119"), 206, 110, 120, partly)
	f.take()
	remote.await = func(call int) (again bool, failed int) {
		f.want(t, f.get(t, one, "Range", "bytes=210-219"), 206, 210, 220, partly)
		return true, 0
	}
	one.CoalesceOff = true // it waits for no other
	f.want(t, f.get(t, two, "Range", "bytes=210-219"), 206, 210, 220, partly)
	f.wantAsked(t, "bytes=200-299")
	remote.await = func(int) (again bool, failed int) { return false, http.StatusBadGateway }
	if w := f.get(t, two, "Range", "bytes=310-319"); w.Code != 206 || !bytes.Equal(w.Body.Bytes(), f.content[310:320]) {
		t.Errorf("%d: the client's own request is passed on", w.Code)
	}
	f.wantAsked(t, "bytes=310-319")
}

// A head that is stale is validated by who finds it.
func TestRemoteHasAStaleFileInSlices(t *testing.T) {
	one, two, _ := slicingMachines(t)
	one.Policy.MaxTTL, two.Policy.MaxTTL = time.Nanosecond, time.Nanosecond
	f := newFilm(117, 1000)
	f.want(t, f.get(t, one, "Range", "bytes=110-119"), 206, 110, 120, cold)
	f.take()
	f.want(t, f.get(t, two, "Range", "bytes=110-119"), 206, 110, 120, "Larder; fwd=stale; fwd-status=304; stored")
	f.wantAsked(t, `bytes=100-199 "v1"`)
}

// Who finds a head before its slice has a byte waits for that slice, and does not fetch it again.
func TestSliceIsOnItsWayWhenTheHeadIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, _, remote := slicingMachines(t)
		f := newFilm(117, 1000)
		reader := func(from int) func() {
			return func() {
				w := httptest.NewRecorder()
				r := newTestRequest(w)
				r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+9))
				if err := one.ServeHTTP(w, r, f.serve); err != nil || !bytes.Equal(w.Body.Bytes(), f.content[from:from+10]) {
					t.Errorf("bytes from %d: %q, %v", from, w.Body, err)
				}
			}
		}
		var readers sync.WaitGroup
		remote.storable = func() {
			remote.storable = nil
			readers.Go(reader(0))
			synctest.Wait()
		}
		readers.Go(reader(20))
		readers.Wait()
		awaitIdle(t, one)
		f.wantAsked(t, "bytes=0-99")
		time.Sleep(time.Minute) // until workers have ended
	})
}

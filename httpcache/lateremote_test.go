package httpcache

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// waited returns for how long fetches would have waited for other machines, since the last time.
func (m *sharedMap) waited() []time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() { m.mostWait = nil }()
	return m.mostWait
}

// TestWaitForAnotherMachineIsRemembered: what a fetch had learnt by waiting for another machine was
// forgotten. The next fetch waited as long for the same.
func TestWaitForAnotherMachineIsRemembered(t *testing.T) {
	private := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "private")
		_, err := io.WriteString(w, "text")
		return err
	})
	for name, tc := range map[string]struct {
		before func(t *testing.T, one *testHandler, remote *sharedMap)
		want   time.Duration
	}{
		"at first":                {want: DefaultWait},
		"a wait was in vain":      {before: waitInVain(time.Second), want: lateRemote},
		"that was a while ago":    {before: waitInVain(lateKeep), want: DefaultWait},
		"a lease was let go":      {before: letGo, want: lateRemote},
		"an answer not shareable": {before: askBefore(private, hitForMissTTL+time.Second), want: lateRemote},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				one, _, remote := machines(t)
				if tc.before != nil {
					tc.before(t, one, remote)
				}
				remote.holds = time.Hour // the other machine has its lease
				remote.waited()
				begun := time.Now()
				if w := ask(t, one, storable); w.Code != http.StatusOK {
					t.Errorf("%d", w.Code)
				}
				if got, took := remote.waited(), time.Since(begun); !slices.Equal(got, []time.Duration{tc.want}) || took != tc.want {
					t.Errorf("it takes %v, and the fetches would wait for %v, want %v", took, got, tc.want)
				}
			})
		})
	}
}

// askBefore asks a machine for the page, and waits after that.
func askBefore(next handlerFunc, pause time.Duration) func(*testing.T, *testHandler, *sharedMap) {
	return func(t *testing.T, one *testHandler, _ *sharedMap) {
		ask(t, one, next)
		time.Sleep(pause)
	}
}

// waitInVain has it wait for another machine in vain.
func waitInVain(pause time.Duration) func(*testing.T, *testHandler, *sharedMap) {
	return waitBefore(time.Hour, pause)
}

// letGo has the other machine let its lease go before that wait is over.
func letGo(t *testing.T, one *testHandler, remote *sharedMap) {
	remote.letsGo = true
	waitBefore(time.Second, time.Second)(t, one, remote)
}

// waitBefore has it ask for the page, which is not stored any more after the pause.
func waitBefore(holds, pause time.Duration) func(*testing.T, *testHandler, *sharedMap) {
	brief := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=1")
		_, err := io.WriteString(w, "text")
		return err
	})
	return func(t *testing.T, one *testHandler, remote *sharedMap) {
		remote.holds = holds
		ask(t, one, brief)
		time.Sleep(pause)
		clear(remote.entries)
	}
}

// TestShortWaitIsForgotten: where `coalesce wait` is a second, a wait of half a second counted as
// one that was in vain, so that the memory of the first renewed itself for ever.
func TestShortWaitIsForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		one, _, remote := machines(t)
		one.Wait = time.Second
		waitInVain(time.Minute)(t, one, remote)
		remote.holds = 700 * time.Millisecond
		for range 4 {
			waitBefore(remote.holds, time.Minute)(t, one, remote)
		}
		whole, short := one.Wait, lateRemote
		if got, want := remote.waited(), []time.Duration{whole, short, whole, whole, whole}; !slices.Equal(got, want) {
			t.Errorf("the fetches would wait for %v, want %v", got, want)
		}
	})
}

// TestWaitIsOneForAllMachines: who had waited for a fetch of this machine, and then led the next,
// waited as long as `coalesce wait` says for those of others, on top of it.
func TestWaitIsOneForAllMachines(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		one, _, remote := machines(t)
		one.cache.lateFetches.note(newPatient(one).flightKey(), time.Now())
		remote.holds = time.Hour
		slow := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			if r.Header.Get("X-Slow") != "" {
				select {
				case <-time.After(time.Minute):
				case <-r.Context().Done():
				}
			}
			return storable(w, r)
		})
		go func() {
			w := httptest.NewRecorder()
			_ = one.ServeHTTP(w, newTestRequest(w, "X-Slow", "yes"), slow)
		}()
		synctest.Wait()
		begun := time.Now()
		askWith(t, one, slow)
		if took, got := time.Since(begun), remote.waited(); took != lateHeader || !slices.Equal(got, []time.Duration{lateRemote, 0}) {
			t.Errorf("it takes %v, and the fetches would wait for %v", took, got)
		}
		time.Sleep(time.Minute)
	})
}

// TestWaitOfAFollowerThatLeads: one whose leader fails leads the next fetch, and has waited.
func TestWaitOfAFollowerThatLeads(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		one, _, remote := machines(t)
		failing := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			if r.Header.Get("X-Fails") == "" {
				return storable(w, r)
			}
			time.Sleep(6 * time.Second)
			w.WriteHeader(http.StatusInternalServerError)
			return nil
		})
		var clients sync.WaitGroup
		clients.Go(func() {
			w := httptest.NewRecorder()
			_ = one.ServeHTTP(w, newTestRequest(w, "X-Fails", "yes"), failing)
		})
		synctest.Wait()
		remote.holds = time.Hour
		begun := time.Now()
		askWith(t, one, failing)
		if took := time.Since(begun); took != one.Wait {
			t.Errorf("it takes %v, want %v", took, one.Wait)
		}
		clients.Wait()
	})
}

// TestSlicesOfAnotherMachineAreWaitedForOnce: where it was a file in slices, each slice was waited
// for as long.
func TestSlicesOfAnotherMachineAreWaitedForOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		one, _, remote := slicingMachines(t)
		f := newFilm(62, 1000)
		f.want(t, f.get(t, one, "Range", "bytes=110-119"), 206, 110, 120, cold)
		remote.holds = time.Hour
		for n, most := range []time.Duration{one.Wait, lateRemote, lateRemote} {
			asked := fmt.Sprintf("bytes=%d00-%d09", 2+n, 2+n)
			begun, w := time.Now(), httptest.NewRecorder()
			if broke := f.read(one, w, newTestRequest(w, "Range", asked)); broke || w.Code != http.StatusPartialContent {
				t.Errorf("%s: %d, broken off %t", asked, w.Code, broke)
			}
			if took := time.Since(begun); took > most {
				t.Errorf("%s takes %v, want %v at most", asked, took, most)
			}
		}
	})
}

// TestSlicesAreWaitedForWhoeverFollowedBefore: a client that had waited here for the first part of
// a file kept the time until when it did so for its whole download. When that was over each slice
// that it led was fetched without a look at who fetches it elsewhere.
func TestSlicesAreWaitedForWhoeverFollowedBefore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		one, _, remote := slicingMachines(t)
		f := newFilm(62, 1500)
		var asked atomic.Int64
		f.alter = func(http.ResponseWriter, *http.Request) bool {
			if asked.Add(1) == 1 {
				time.Sleep(2 * time.Second)
			}
			return false
		}
		var clients sync.WaitGroup
		clients.Go(func() { f.read(one, httptest.NewRecorder(), newTestRequest(nil, "Range", "bytes=110-119")) })
		time.Sleep(time.Second)
		w := httptest.NewRecorder()
		if broke := f.read(one, slowReader{w}, newTestRequest(w, "Range", "bytes=110-1400")); broke || w.Body.Len() != 1291 {
			t.Errorf("%d bytes, broken off %t", w.Body.Len(), broke)
		}
		clients.Wait()
		waits := remote.waited()
		if waits = slices.DeleteFunc(waits, func(d time.Duration) bool { return d == one.Wait }); len(waits) > 0 {
			t.Errorf("some fetches would wait for %v, want %v", waits, one.Wait)
		}
	})
}

// slowReader is a client that takes a while for each slice.
type slowReader struct{ *httptest.ResponseRecorder }

func (w slowReader) Write(p []byte) (int, error) {
	time.Sleep(1500 * time.Millisecond)
	return w.ResponseRecorder.Write(p)
}

package httpcache

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/origin"
)

// herd asks at once with each of the headers, the first a moment before the others, and returns the
// statuses of all, and how many requests had come to the origin.
func herd(t *testing.T, h *testHandler, headers [][]string, origin handlerFunc) (statuses []int, asked int) {
	t.Helper()
	var calls atomic.Int32
	counted := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		calls.Add(1)
		return origin(w, r)
	})
	statuses = make([]int, len(headers))
	var clients sync.WaitGroup
	for i, header := range headers {
		clients.Go(func() {
			w := httptest.NewRecorder()
			statuses[i] = w.Code
			if err := h.ServeHTTP(w, newTestRequest(w, header...), counted); err != nil {
				statuses[i] = statusOf(err)
				return
			}
			statuses[i] = w.Code
		})
		if i == 0 {
			synctest.Wait()
		}
	}
	clients.Wait()
	return statuses, int(calls.Load())
}

// failingFor is an origin that takes a while, and fails for requests with X-Bad.
func failingFor(d time.Duration) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		time.Sleep(d)
		if r.Header.Get("X-Bad") != "" {
			w.WriteHeader(http.StatusInternalServerError)
			return nil
		}
		w.Header().Set("Cache-Control", "max-age=60")
		_, err := w.Write([]byte("good"))
		return err
	}
}

// TestFailureOfAFieldIsForItsOwn: a client for whose field the origin fails, on many connections,
// gave its failure to all who waited for the page, as two of its requests led the two fetches.
func TestFailureOfAFieldIsForItsOwn(t *testing.T) {
	for round := range 20 { // who leads the second fetch is by chance
		inBubble(t, func(t *testing.T) {
			var headers [][]string
			for range 20 {
				headers = append(headers, []string{"X-Bad", "1"})
			}
			for range 3 {
				headers = append(headers, []string{"User-Agent", "a browser"})
			}
			statuses, asked := herd(t, newTestHandler(t), headers, failingFor(300*time.Millisecond))
			for i, status := range statuses[20:] {
				if status != http.StatusOK {
					t.Errorf("round %d: other %d got a %d", round, i, status)
				}
			}
			if asked > 3 {
				t.Errorf("round %d: the origin was asked %d times", round, asked)
			}
		})
	}
}

// TestThirdFetchIsNotGivenUpEarly: where a wait for the page was in vain lately, those who waited
// for the third fetch got the failure of the second after a second, with nine left.
func TestThirdFetchIsNotGivenUpEarly(t *testing.T) {
	for round := range 40 { // who leads the second fetch is by chance
		inBubble(t, func(t *testing.T) {
			h := newTestHandler(t)
			h.cache.lateFetches.note(newPatient(h).flightKey(), time.Now())
			var headers [][]string
			for range 20 {
				headers = append(headers, []string{"X-Bad", "1"})
			}
			for range 3 {
				headers = append(headers, []string{"User-Agent", "a browser"})
			}
			bad, good := failingFor(200*time.Millisecond), failingFor(1500*time.Millisecond)
			statuses, _ := herd(t, h, headers, func(w http.ResponseWriter, r *http.Request) error {
				if r.Header.Get("X-Bad") != "" {
					return bad(w, r)
				}
				return good(w, r)
			})
			for i, status := range statuses[20:] {
				if status != http.StatusOK {
					t.Errorf("round %d: other %d got a %d", round, i, status)
				}
			}
		})
	}
}

// TestFailingOriginIsAskedThreeTimes: for a herd, an origin that fails for all is asked twice if
// they have the same fields, and else three times, also where all three take longer than they wait.
// Two do not: who has waited in vain before the second has failed asks alone, as of an origin that
// is slow.
func TestFailingOriginIsAskedThreeTimes(t *testing.T) {
	for _, d := range []time.Duration{time.Millisecond, 3 * time.Second, 4 * time.Second} {
		for kinds, want := range map[int]int{1: 2, 2: 3, 201: 3} {
			t.Run(fmt.Sprint(kinds, " kinds, ", d), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					var headers [][]string
					for i := range 201 {
						headers = append(headers, []string{"X-Bad", fmt.Sprint(i % kinds)})
					}
					statuses, asked := herd(t, newTestHandler(t), headers, failingFor(d))
					if asked > want {
						t.Errorf("the origin was asked %d times, want at most %d", asked, want)
					}
					for i, status := range statuses {
						if status != http.StatusInternalServerError {
							t.Errorf("client %d got a %d", i, status)
						}
					}
				})
			})
		}
	}
}

// TestRefusalIsNoFailureOfAField: a first fetch that found no place at the origin counted as one
// that had failed for the fields of its leader. Others with the same fields then got the failure of
// a client for whose field the origin fails.
func TestRefusalIsNoFailureOfAField(t *testing.T) {
	for range 20 { // who leads the second fetch is by chance
		inBubble(t, func(t *testing.T) {
			b := newBudgeted(t, origin.Limits{MaxConcurrent: 1, Queue: 10, Wait: 10 * time.Second}, nil)
			done := make(chan struct{})
			b.next = hangs(done)
			slow := b.begin(t.Context(), "/slow")
			first := b.begin(t.Context(), "/page", "User-Agent", "a browser")
			time.Sleep(5 * time.Second)
			before := b.begin(t.Context(), "/page", "X-Bad", "1")
			good := b.begin(t.Context(), "/page", "User-Agent", "a browser")
			after := b.begin(t.Context(), "/page", "X-Bad", "1")
			if a := <-first; a.status() != http.StatusServiceUnavailable {
				t.Errorf("the first got a %d", a.status())
			}
			b.next = failingFor(time.Second)
			close(done)
			<-slow
			<-before
			<-after
			if a := <-good; a.status() != http.StatusOK {
				t.Errorf("another with the fields of the first got a %d", a.status())
			}
		})
	}
}

package httpcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/origin"
)

// brokenBody is a request body that cannot be read, as where chunks are spelt wrong.
type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, errors.New("malformed chunked encoding") }
func (brokenBody) Close() error             { return nil }

// A client whose body was no HTTP had every other client served stale pages: the proxy's 502 was
// taken for the origin's.
func TestBodyThatCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{}, func(_ http.ResponseWriter, r *http.Request) error {
			if _, err := io.ReadAll(r.Body); err != nil {
				return fail(http.StatusBadGateway, err)
			}
			return fail(http.StatusBadGateway, errors.New("no connection"))
		})
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			r := httptest.NewRequest(method, "http://example.com/", brokenBody{})
			if err := b.h.ServeHTTP(httptest.NewRecorder(), r, b.next); statusOf(err) != http.StatusBadGateway {
				t.Errorf("%s: %v", method, err)
			}
			if s := b.h.Budget.Standing(time.Now()); s != origin.Admitted {
				t.Errorf("after a %s whose body cannot be read the origin is %s", method, s)
			}
		}
		b.send(t.Context(), http.MethodPost, "/")
		if s := b.h.Budget.Standing(time.Now()); s != origin.Failing {
			t.Errorf("after a failure of its own the origin is %s", s)
		}
	})
}

// Fetches whose clients had left while they waited for a place went to the origin all the same, and
// before those whose clients were there.
func TestClientsThatLeaveTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		end := make(chan struct{})
		b := newBudgeted(t, origin.Limits{MaxConcurrent: 1, Queue: 100, Wait: time.Minute}, hangs(end))
		first := b.begin(t.Context(), "/first")
		ctx, leave := context.WithCancel(t.Context())
		var left []<-chan *answered
		for i := range 50 {
			left = append(left, b.begin(ctx, fmt.Sprintf("/left/%d", i)))
		}
		last := b.begin(t.Context(), "/last")
		leave()
		for _, done := range left {
			<-done
		}
		synctest.Wait()
		close(end)
		<-first
		<-last
		synctest.Wait()
		if n := b.calls.Load(); n != 2 {
			t.Errorf("%d requests at the origin, want those of the two clients that waited", n)
		}
	})
}

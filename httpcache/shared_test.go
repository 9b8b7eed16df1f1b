package httpcache

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// What an outer handler of one client does to the trailers that it sees is not seen by the next
// client.
func TestTrailersAreEachClientsOwn(t *testing.T) {
	h := newTestHandler(t)
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Trailer", "X-Sum")
		_, err := io.WriteString(w, "body")
		w.Header().Set("X-Sum", "42")
		return err
	})
	for _, client := range []string{"the leader", "a hit", "the next hit"} {
		w := ask(t, h, next)
		sum := w.Header()["X-Sum"]
		if sum == nil { // not announced by what is stored, as Trailer is hop by hop
			sum = w.Header()[http.TrailerPrefix+"X-Sum"]
		}
		if len(sum) != 1 || sum[0] != "42" {
			t.Fatalf("%s: the trailer is %q, want 42", client, sum)
		}
		sum[0] = client + "'s own" // as `header` replaces, in place
	}
}

// TestDateOfAHandlerWithout: what is stored has a Date also where an inner handler sends none in
// the way net/http has for that.
func TestDateOfAHandlerWithout(t *testing.T) {
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header()["Date"] = nil
		_, err := io.WriteString(w, "body")
		return err
	})
	h := newTestHandler(t)
	miss, hit := httptest.NewRecorder(), httptest.NewRecorder()
	for _, w := range []*httptest.ResponseRecorder{miss, hit} {
		if err := h.ServeHTTP(w, newTestRequest(w), next); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := http.ParseTime(hit.Header().Get("Date")); err != nil {
		t.Errorf("the hit has Date %q", hit.Header()["Date"])
	}
}

// TestDateOfARenewalWithout: the same where a 304 renews what is stored, whose Date was that of an
// older response.
func TestDateOfARenewalWithout(t *testing.T) {
	const old = "Mon, 02 Jan 2023 03:04:05 GMT"
	next := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Etag", `"v1"`)
		if r.Header.Get("If-None-Match") != "" {
			w.Header().Set("Cache-Control", "max-age=60")
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		w.Header().Set("Cache-Control", "max-age=1")
		w.Header().Set("Date", old)
		_, err := io.WriteString(w, "body")
		return err
	})
	h := newTestHandler(t)
	var hit *httptest.ResponseRecorder
	for range 3 {
		hit = ask(t, h, next)
	}
	if _, err := http.ParseTime(hit.Header().Get("Date")); err != nil || hit.Header().Get("Date") == old {
		t.Errorf("the hit has Date %q", hit.Header()["Date"])
	}
}

// TestTrailersThatAreMarkedBeforeTheHeader: net/http's mark makes them trailers also where they are
// set before the header, so they are no fields of the header that is stored.
func TestTrailersThatAreMarkedBeforeTheHeader(t *testing.T) {
	h := newTestHandler(t)
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", `max-age=60, private="X-User"`)
		for _, name := range []string{"x-user", "surrogate-key", "X-Sum"} {
			w.Header()[http.TrailerPrefix+name] = []string{"42"}
		}
		_, err := io.WriteString(w, "body")
		return err
	})
	for i, want := range []string{"X-Sum X-User", "X-Sum", "X-Sum"} {
		w := ask(t, h, next)
		var names []string
		for name := range w.Header() {
			bare, marked := strings.CutPrefix(name, http.TrailerPrefix)
			if marked || slices.Contains(strings.Split(w.Header().Get("Trailer"), ", "), name) {
				names = append(names, bare)
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("client %d has the trailers %q, want %q", i, got, want)
		}
	}
}

// TestTagsBehindAResponseThatFails: nor do they get out behind a body whose handler returns an
// error.
func TestTagsBehindAResponseThatFails(t *testing.T) {
	h := newTestHandler(t)
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Trailer", "Surrogate-Key, X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("Surrogate-Key", "t")
		w.Header().Set("X-Sum", "42")
		return errors.New("too late")
	})
	for _, client := range []string{"the leader", "forwarded"} {
		w := httptest.NewRecorder()
		if err := h.ServeHTTP(w, newTestRequest(w), next); err == nil {
			t.Errorf("%s: no error", client)
		}
		if trailer := w.Result().Trailer; trailer.Get("Surrogate-Key") != "" || trailer.Get("X-Sum") != "42" {
			t.Errorf("%s: %q", client, trailer)
		}
	}
}

// deadWriter is a client that takes nothing. Its deadline ends the write, and panics, as HTTP/2's
// does when the stream has ended.
type deadWriter struct {
	*httptest.ResponseRecorder
	broken chan struct{}
}

func (w *deadWriter) Write([]byte) (int, error) {
	<-w.broken
	return 0, errors.New("deadline exceeded")
}

func (w *deadWriter) SetWriteDeadline(time.Time) error {
	close(w.broken)
	var ended *http.Request
	return ended.Context().Err() // a nil dereference
}

// A reader that a window drops cannot take others along, whatever its client's writer does when it
// is broken off.
func TestDroppedReaderHarmsNobody(t *testing.T) {
	synctest.Test(t, droppedReaderHarmsNoOther)
}

func droppedReaderHarmsNoOther(t *testing.T) {
	// In the bubble's time: the goroutine of the fetch ends by then.
	defer time.Sleep(2 * workerIdle)
	body := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	h := newTestHandler(t)
	h.MaxBody = 1 << 10
	h.cache.flights = coalesce.NewGroup[store.Key](h.cache.store, coalesce.Limits{Window: 64 << 10, ReaderIdle: time.Minute})
	var logged bytes.Buffer
	h.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	proceed := make(chan struct{})
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		<-proceed
		w.Header().Set("Cache-Control", "max-age=60")
		_, err := w.Write(body)
		return err
	})
	good, dead := httptest.NewRecorder(), &deadWriter{httptest.NewRecorder(), make(chan struct{})}
	var clients sync.WaitGroup
	clients.Go(func() {
		if err := h.ServeHTTP(good, newTestRequest(good), next); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	f, p, ok := h.cache.flights.JoinRunning(h.keyOf(good, next), nil)
	if !ok {
		t.Fatal("no fetch is under way")
	}
	p.Leave()
	clients.Go(func() {
		defer func() { _ = recover() }() // its connection breaks
		_ = h.ServeHTTP(dead, newTestRequest(dead), next)
	})
	synctest.Wait()
	if f.Waiting() == 0 {
		t.Error("the second client does not wait")
	}
	close(proceed)
	clients.Wait()
	if !bytes.Equal(good.Body.Bytes(), body) {
		t.Errorf("the good reader has %d of %d bytes", good.Body.Len(), len(body))
	}
	if n := strings.Count(logged.String(), "panic of a response writer at SetWriteDeadline"); n != 1 {
		t.Errorf("the panic is logged %d times: %v", n, logged.String())
	}
}

// TestFollowerThatPassesHoldsNoReader: a follower that asks the origin for itself reads nothing of
// the body that it had waited for, so the window of that body does not wait for it.
func TestFollowerThatPassesHoldsNoReader(t *testing.T) {
	synctest.Test(t, followerThatPassesHoldsNoReader)
}

func followerThatPassesHoldsNoReader(t *testing.T) {
	// In the bubble's time: the goroutine of the fetch ends by then.
	defer time.Sleep(2 * workerIdle)
	body := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	h := newTestHandler(t)
	h.MaxBody = 1 << 10
	h.cache.flights = coalesce.NewGroup[store.Key](h.cache.store, coalesce.Limits{Window: 64 << 10})
	proceed, passed := make(chan struct{}), make(chan struct{})
	leader, follower := httptest.NewRecorder(), httptest.NewRecorder()
	calls := 0
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		calls++
		if calls > 1 {
			// The follower's own request: its answer has no end while the leader is served.
			<-passed
			return nil
		}
		<-proceed
		w.Header().Set("Cache-Control", "max-age=60, no-cache") // each request asks for itself
		w.Header().Set("Etag", `"v1"`)
		_, err := w.Write(body)
		return err
	})
	var leading, following sync.WaitGroup
	leading.Go(func() {
		if err := h.ServeHTTP(leader, newTestRequest(leader), next); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	following.Go(func() {
		if err := h.ServeHTTP(follower, newTestRequest(follower), next); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	begun := time.Now()
	close(proceed)
	leading.Wait()
	if took := time.Since(begun); took > time.Second {
		t.Errorf("the leader has its body after %v: it waits for a follower that reads nothing", took)
	}
	if !bytes.Equal(leader.Body.Bytes(), body) {
		t.Errorf("the leader has %d of %d bytes", leader.Body.Len(), len(body))
	}
	close(passed)
	following.Wait()
	if calls != 2 {
		t.Errorf("the origin is asked %d times, want 2", calls)
	}
}

// A Range on an empty body has no effect, and a 204 announces no trailers.
func TestAnswersWithoutABody(t *testing.T) {
	h := newTestHandler(t)
	for range 2 {
		w := httptest.NewRecorder()
		if err := h.ServeHTTP(w, newTestRequest(w, "Range", "bytes=0-"), storable); err != nil {
			t.Fatal(err)
		}
		if w.Code != http.StatusOK || w.Header().Get("Content-Range") != "" {
			t.Errorf("Range on an empty body: %d, Content-Range %q", w.Code, w.Header().Get("Content-Range"))
		}
	}
	h = newTestHandler(t)
	for range 2 {
		w := ask(t, h, func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Trailer", "X-Sum")
			w.WriteHeader(http.StatusNoContent)
			w.Header().Set("X-Sum", "42")
			return nil
		})
		if w.Code != http.StatusNoContent || w.Header().Get("Trailer") != "" || w.Header().Get("X-Sum") != "" {
			t.Errorf("%d with %v", w.Code, w.Header())
		}
	}
}

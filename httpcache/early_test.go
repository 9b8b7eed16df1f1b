package httpcache

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/store"
)

// taking returns an origin that takes *took until its header, and as long again for the body. What
// it answers is fresh for age; a validation gets 304.
func taking(took *time.Duration, age string) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		time.Sleep(*took)
		w.Header().Set("Cache-Control", age)
		w.Header().Set("Etag", `"v1"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		w.WriteHeader(http.StatusOK)
		time.Sleep(*took)
		_, err := w.Write([]byte("page"))
		return err
	}
}

// fetchTimes returns the FetchTime of all that is stored.
func fetchTimes(t *testing.T, h *testHandler) (times []time.Duration) {
	t.Helper()
	items, _, err := h.cache.store.List(store.Filter{}, 10, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		times = append(times, item.FetchTime)
	}
	return times
}

// The average goes from each response of a URL to the one that takes its place, and a 304 counts as
// what it took.
func TestFetchTimeIsAMovingAverage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandler(t)
		took := 100 * time.Millisecond
		for i, step := range []struct {
			took, want time.Duration
			header     []string
		}{
			{took: 100 * time.Millisecond, want: 200 * time.Millisecond},
			{took: 400 * time.Millisecond, want: 250 * time.Millisecond}, // a 304: its header is all
			{took: 50 * time.Millisecond, want: 200 * time.Millisecond},
			{took: time.Second, header: []string{"Cache-Control", "no-store"}}, // does not count
			{took: 40 * time.Millisecond, want: 160 * time.Millisecond},
		} {
			took = step.took
			w := httptest.NewRecorder()
			if err := h.ServeHTTP(w, newTestRequest(w, step.header...), taking(&took, "max-age=60")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if step.header != nil {
				continue
			}
			if got := fetchTimes(t, h); len(got) != 1 || got[0] != step.want {
				t.Errorf("step %d: %v, want %v", i+1, got, step.want)
			}
			time.Sleep(2 * time.Minute)
		}
	})
}

package httpcache

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

// A stale object stands in for a failure where it has what is asked for, and nowhere else: what is
// missing could be of another version.
func TestStaleObjectStandsIn(t *testing.T) {
	h, f := newSlicing(t), newFilm(20, 1000)
	h.Policy.MaxTTL, h.Policy.StaleIfError = time.Nanosecond, time.Hour
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	if w := f.get(t, h, "Range", "bytes=110-119"); w.Code != 206 || w.Body.String() != string(f.content[110:120]) {
		t.Errorf("of what is there: %d, %s", w.Code, w.Header().Get("Cache-Status"))
	}
	if w := f.get(t, h, "Range", "bytes=210-219"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("of what is missing: %d, %s", w.Code, w.Header().Get("Cache-Status"))
	}
}

// A failure for a slice leaves what is stored, and the client gets what the origin says.
func TestSliceThatFails(t *testing.T) {
	h, f := newSlicing(t), newFilm(21, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	for _, status := range []int{401, 429, 500, 503} {
		f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(status)
			return true
		}
		if w := f.get(t, h, "Range", "bytes=210-219"); w.Code != status {
			t.Errorf("%d, want the origin's %d", w.Code, status)
		}
	}
	f.alter = nil
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, hit)
}

// What says that the file has gone, or is shorter, removes it.
func TestObjectThatIsGone(t *testing.T) {
	for _, status := range []int{404, 410, 416} {
		h, f := newSlicing(t), newFilm(22, 1000)
		f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
		f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Content-Range", "bytes */200")
			w.WriteHeader(status)
			return true
		}
		if w := f.get(t, h, "Range", "bytes=210-219"); w.Code != status {
			t.Errorf("%d, want the origin's %d", w.Code, status)
		}
		if got := h.cache.store.Stats().Memory.Entries; got != 0 {
			t.Errorf("after %d %d files are stored", status, got)
		}
	}
}

// An answer to Authorization that is not for all is shared by no slice.
func TestSliceForOneClient(t *testing.T) {
	h, f := newSlicing(t), newFilm(23, 1000)
	f.alter = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") == "bytes=100-199" {
			w.Header().Set("Cache-Control", "public, max-age=60")
		}
		return false
	}
	f.want(t, f.get(t, h, "Range", "bytes=110-119", "Authorization", "x"), 206, 110, 120, cold)
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, hit)
	if w := f.get(t, h, "Range", "bytes=210-219", "Authorization", "x"); w.Code != 206 || w.Header().Get("Cache-Status") != "Larder; fwd=partial" {
		t.Errorf("%d, %s", w.Code, w.Header().Get("Cache-Status"))
	}
	f.want(t, f.get(t, h, "Range", "bytes=210-219"), 206, 210, 220, partly)
}

func TestDirectivesOfAClientOverSlices(t *testing.T) {
	h, f := newSlicing(t), newFilm(24, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	f.want(t, f.get(t, h, "Range", "bytes=110-119", "Cache-Control", "only-if-cached"), 206, 110, 120, hit)
	w := httptest.NewRecorder()
	r := newTestRequest(w, "Range", "bytes=210-219", "Cache-Control", "only-if-cached")
	if err := h.ServeHTTP(w, r, f.serve); statusOf(err) != http.StatusGatewayTimeout {
		t.Errorf("only-if-cached for what is missing: %v", err)
	}
	f.want(t, f.get(t, h, "Range", "bytes=210-219", "Cache-Control", "no-store"), 206, 210, 220, "Larder; fwd=partial")
	f.want(t, f.get(t, h, "Range", "bytes=210-219", "Cache-Control", "no-cache"), 206, 210, 220, "Larder; fwd=request; fwd-status=304; stored")
}

// Routes that look on, or whose requests do not wait for each other, and those without slices.
func TestOtherRoutesOverSlices(t *testing.T) {
	h, f := newSlicing(t), newFilm(25, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	alone := &testHandler{h.cache.NewRoute(Rules{Slice: 100, CoalesceOff: true}, nil)}
	f.want(t, f.get(t, alone, "Range", "bytes=210-219"), 206, 210, 220, partly)
	observing := &testHandler{h.cache.NewRoute(Rules{Slice: 100, Observe: true}, nil)}
	f.want(t, f.get(t, observing, "Range", "bytes=310-319"), 206, 310, 320, "Larder; fwd=bypass; detail=observe")
	f.want(t, f.get(t, observing, "Range", "bytes=110-119"), 206, 110, 120, "Larder; fwd=bypass; detail=observe")
	f.take()
	without := &testHandler{h.cache.NewRoute(Rules{}, nil)}
	if w := f.get(t, without, "Range", "bytes=310-319"); w.Code != 206 || w.Body.String() != string(f.content[310:320]) {
		t.Errorf("%d, %s", w.Code, w.Header().Get("Cache-Status"))
	}
	f.wantAsked(t, "")
	f.want(t, f.get(t, h), 200, 0, 1000, hit)
}

// A slice that is read stays stored for as long as its head, which has been validated since.
func TestSliceOutlivesAValidation(t *testing.T) {
	now := time.Now()
	h, f := newSlicingWith(t, store.Config{Now: func() time.Time { return now }}, store.Settings{Memory: 16 << 20}), newFilm(26, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	head := h.cache.store.Lookup(h.newKeyed(t), func(*store.Variant) int { return 1 })
	defer head.Release()
	renewed := head.Entry.Renewal()
	renewed.KeepUntil, renewed.KeptFrom = renewed.KeepUntil.Add(time.Hour), renewed.KeptFrom.Add(time.Hour)
	if got := h.cache.store.Put(renewed, 0); got != store.Stored {
		t.Fatal(got)
	}
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, hit)
	o := objectOf(renewed)
	slice := h.cache.slice(o, 1)
	defer slice.Release()
	if slice.Entry == nil || slice.Entry.KeepUntil.Before(renewed.KeepUntil) {
		t.Error("the slice goes before its head")
	}
}

// newKeyed returns the key of a test request.
func (h *testHandler) newKeyed(t *testing.T) store.Key {
	t.Helper()
	w := httptest.NewRecorder()
	q := h.newRequest(w, newTestRequest(w), storable)
	q.readKey()
	return q.key
}

// Explained without being answered, a request is told which slices are there.
func TestExplainSlices(t *testing.T) {
	h, f := newSlicing(t), newFilm(27, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	for asked, want := range map[string][2]string{
		"bytes=110-119": {"Hit: it is answered from the store", "1 of 10, of 100 bytes each; all that the request asks for"},
		"bytes=190-209": {"Partial hit: the file is stored in slices", "1 of 10, of 100 bytes each; not all that the request asks for"},
	} {
		w := httptest.NewRecorder()
		p := &plainRequest{next: f.serve}
		trace := p.ExplainOnly()
		r := newTestRequest(w, "Range", asked)
		if err := h.Serve(&p.Request, w, r, new(IdentityOf(r)), p); err != nil {
			t.Fatal(err)
		}
		e := trace.Explanation()
		if !strings.HasPrefix(e.Verdict, want[0]) {
			t.Errorf("%s: %s", asked, e.Verdict)
		}
		if !slices.ContainsFunc(e.Steps, func(s Step) bool { return s.Question == "which slices are there?" && s.Answer == want[1] }) {
			t.Errorf("%s: %v", asked, e.Steps)
		}
	}
	f.take()
}

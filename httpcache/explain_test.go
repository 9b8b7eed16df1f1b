package httpcache

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/larder-cache/larder/store"
)

// explain decides about a request without answering it.
func (h *testHandler) explain(t *testing.T, r *http.Request) Explanation {
	t.Helper()
	p := &plainRequest{next: func(http.ResponseWriter, *http.Request) error {
		t.Error("the origin is asked")
		return nil
	}}
	trace := p.ExplainOnly()
	w := httptest.NewRecorder()
	if err := h.Serve(&p.Request, w, r, new(IdentityOf(r)), p); err != nil {
		t.Fatal(err)
	}
	if len(w.Header()) > 0 || w.Body.Len() > 0 {
		t.Errorf("the client is answered: %v %s", w.Header(), w.Body)
	}
	return trace.Explanation()
}

// answers joins the steps.
func (e *Explanation) answers() string {
	var b strings.Builder
	for _, s := range e.Steps {
		b.WriteString(s.Question + " " + s.Answer + " [" + s.Clause + "]\n")
	}
	return b.String()
}

// TestExplainedStory explains a URL before and after it is stored, and when it has been purged.
func TestExplainedStory(t *testing.T) {
	h := newTestHandler(t)
	want := func(verdict string, answers ...string) {
		t.Helper()
		w := httptest.NewRecorder()
		e := h.explain(t, newTestRequest(w))
		if !strings.HasPrefix(e.Verdict, verdict) {
			t.Errorf("verdict %q, want %q", e.Verdict, verdict)
		}
		for _, answer := range answers {
			if !strings.Contains(e.answers(), answer) {
				t.Errorf("no %q in\n%s", answer, e.answers())
			}
		}
		if e.Hash == "" || len(e.Key) == 0 {
			t.Errorf("no key: %+v", e)
		}
	}
	want("Miss: nothing is stored, and no response to this key is remembered.", "does it wait for another's fetch? yes, for up to 10s")
	ask(t, h, storable)
	h.awaitIdle()
	want("Hit: it is answered from the store, and fresh for another ", "is something stored? yes, in memory: status 200",
		"how long is it fresh? 1m0s, by max-age of the response [RFC 9111 5.2.2.1]", "may it be used? yes, it is fresh [RFC 9111 4.2]")
	if _, err := h.cache.store.Purge(store.Selectors{All: true}, store.PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	want("Miss: what was stored has been purged")
}

// awaitIdle waits until no request and no fetch is under way.
func (h *testHandler) awaitIdle() {
	for h.cache.Users() > 0 {
		runtime.Gosched()
	}
}

// TestExplainingChangesNothing: no count, no use, no memory of what could not be shared.
func TestExplainingChangesNothing(t *testing.T) {
	h := newTestHandler(t)
	next, calls := counting(storable)
	ask(t, h, next)
	h.awaitIdle()
	before, flights := h.cache.store.Stats(), h.cache.Fetches()
	for range 3 {
		w := httptest.NewRecorder()
		h.explain(t, newTestRequest(w))
		head := newTestRequest(w)
		head.Method, head.URL = http.MethodHead, &url.URL{Path: "/other"}
		h.explain(t, head)
		post := newTestRequest(w)
		post.Method = http.MethodPost
		h.explain(t, post)
	}
	if after := h.cache.store.Stats(); !reflect.DeepEqual(before, after) || *calls != 1 || h.cache.Fetches() != flights || h.cache.Users() != 0 {
		t.Errorf("before\n%+v\nafter\n%+v; %d calls, %d fetches, %d users", before, after, *calls, h.cache.Fetches(), h.cache.Users())
	}
}

// TestExplainedAnswer: a request that is answered is explained as it was decided.
func TestExplainedAnswer(t *testing.T) {
	h := newTestHandler(t)
	w := httptest.NewRecorder()
	r := newTestRequest(w)
	p := &plainRequest{next: func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusOK)
		return nil
	}}
	trace := p.Explain()
	if err := h.Serve(&p.Request, w, r, new(IdentityOf(r)), p); err != nil {
		t.Fatal(err)
	}
	h.awaitIdle()
	e := trace.Explanation()
	if want := "Miss: from the origin, for this request, and not stored: the response says no-store."; !strings.HasPrefix(e.Verdict, want) {
		t.Errorf("verdict %q, want %q", e.Verdict, want)
	}
	if want := "may it be stored? no: the response says no-store [RFC 9111 5.2.2.5]"; !strings.Contains(e.answers(), want) {
		t.Errorf("no %q in\n%s", want, e.answers())
	}
	if line := e.Line(); strings.ContainsAny(line, "\r\n") || !strings.HasPrefix(line, e.Verdict) {
		t.Errorf("line %q", line)
	}
	after := h.explain(t, newTestRequest(httptest.NewRecorder()))
	want := regexp.MustCompile(`^Miss \(hit-for-miss\): the last response \(status 200, \d+s ago\) was not stored: the response says no-store\.`)
	if !want.MatchString(after.Verdict) {
		t.Errorf("verdict %q, want %q", after.Verdict, want)
	}
}

// TestExplainedWithoutPass and without a store.
func TestExplainedWithoutPass(t *testing.T) {
	h := newTestHandler(t)
	ask(t, h, storable)
	h.awaitIdle()
	h.cache.pass = func() bool { return false }
	e := h.explain(t, newTestRequest(httptest.NewRecorder()))
	if want := "Revalidation: this machine has been without contact to its fleet"; !strings.HasPrefix(e.Verdict, want) {
		t.Errorf("verdict %q, want %q", e.Verdict, want)
	}
	h.cache.pass = nil
	if err := h.cache.store.Close(); err != nil {
		t.Fatal(err)
	}
	closed := New(Options{Store: store.New(store.Config{}, store.Settings{Memory: 1 << 20})})
	h.Route = closed.NewRoute(Rules{}, nil)
	e = h.explain(t, newTestRequest(httptest.NewRecorder()))
	if want := "Bypass: the store is not open"; !strings.HasPrefix(e.Verdict, want) {
		t.Errorf("verdict %q, want %q", e.Verdict, want)
	}
}

// TestEveryWordHasItsText: what a decision may say is explained.
func TestEveryWordHasItsText(t *testing.T) {
	for why := BypassMethod; why <= BypassCoalesceWait; why++ {
		if bypassTexts[why].sentence == "" {
			t.Errorf("%v has no sentence", why)
		}
	}
	for _, why := range []store.EvictionReason{store.Capacity, store.Expired, store.Variants, store.PurgedHard, store.Removed, store.Damaged} {
		if departureTexts[why].sentence == "" {
			t.Errorf("%v has no sentence", why)
		}
	}
}

// TestExplainedPass: of what is passed on by itself nothing is stored.
func TestExplainedPass(t *testing.T) {
	h := newTestHandler(t)
	r := newTestRequest(nil)
	r.Method = http.MethodHead
	p := &plainRequest{next: storable}
	trace := p.Explain()
	if err := h.Serve(&p.Request, httptest.NewRecorder(), r, new(IdentityOf(r)), p); err != nil {
		t.Fatal(err)
	}
	e := trace.Explanation()
	if want := "Miss: from the origin, for this request, which was passed on by itself, so nothing of it is stored."; e.Verdict != want {
		t.Errorf("verdict %q, want %q", e.Verdict, want)
	}
}

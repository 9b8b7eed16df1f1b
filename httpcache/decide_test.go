package httpcache

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/larder-cache/larder/rfc9111"
)

// The verdicts, by what they rest on.
func TestVerdicts(t *testing.T) {
	private := rfc9111.ReasonPrivate
	for _, tc := range []struct {
		name string
		facts
		want verdict
	}{
		{"storable", facts{status: 200}, verdictShare},
		{"storable failure, nothing stored", facts{status: 503}, verdictShare},
		{"storable failure, stale stands in", facts{status: 503, standsIn: true, standsInElse: true}, verdictStale},
		{"storable failure, stale is kept for others", facts{status: 503, standsInElse: true}, verdictFail},
		{"failure", facts{status: 503, reason: private}, verdictFail},
		{"failure, stale stands in", facts{status: 503, reason: private, standsIn: true}, verdictStale},
		{"501, for which stale does not stand in", facts{status: 501, reason: private}, verdictFail},
		{"429, stale stands in", facts{status: 429, reason: private, standsIn: true}, verdictStale},
		{"for those who wait", facts{status: 200, reason: private, forFollowers: true}, verdictShare},
		{"for one", facts{status: 200, reason: private}, verdictRelease},
		{"for one, may break off", facts{status: 200, reason: private, mayBreakOff: true}, verdictRelease},
		{"for one, may break off, stale stands in", facts{status: 200, reason: private, mayBreakOff: true, standsInThen: true}, verdictPostpone},
		{"404 that is not stored", facts{status: 404, reason: rfc9111.ReasonStatus}, verdictRelease},
		{"304 to the client's own question", facts{status: 304, reason: rfc9111.ReasonStatus}, verdictRelease},
		{"304 to ours", facts{status: 304, validated: true, speaksOfOurs: true}, verdictConfirm},
		{"foreign 304", facts{status: 304, validated: true}, verdictRefetch},
		{"200 to our question", facts{status: 200, validated: true}, verdictShare},
		{"101", facts{status: http.StatusSwitchingProtocols, reason: rfc9111.ReasonStatus}, verdictRelease},
	} {
		if got := decide(tc.facts); got != tc.want {
			t.Errorf("%s: verdict %d, want %d", tc.name, got, tc.want)
		}
	}
}

// TestDecisionSaysWhyTheOriginAnswered: a Decision has the reason that the client is told.
func TestDecisionSaysWhyTheOriginAnswered(t *testing.T) {
	h := newTestHandler(t)
	h.Status = StatusFull
	private := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "private")
		w.WriteHeader(http.StatusOK)
		return nil
	})
	for _, tc := range []struct {
		name, method string
		next         handlerFunc
		want         rfc9111.Forward
	}{
		{"bypass", http.MethodPut, storable, rfc9111.ForwardBypass},
		{"for one client", http.MethodGet, private, rfc9111.ForwardURIMiss},
		{"for one client again", http.MethodGet, private, rfc9111.ForwardMiss},
		{"for all", http.MethodGet, storable, rfc9111.ForwardMiss},
		{"fetched", http.MethodGet, storable, rfc9111.ForwardURIMiss},
		{"stored", http.MethodGet, storable, rfc9111.ForwardNone},
	} {
		w := httptest.NewRecorder()
		q := &plainRequest{next: tc.next}
		r := newTestRequest(w)
		r.Method = tc.method
		if err := h.Serve(&q.Request, w, r, new(IdentityOf(r)), q); err != nil {
			t.Fatal(err)
		}
		told := w.Header().Get("Cache-Status")
		if got := q.Decision().Forward; got != tc.want || got != rfc9111.ForwardNone && !strings.Contains(told, "fwd="+got.String()) {
			t.Errorf("%s: decided fwd=%v, want %v; the client is told %q", tc.name, got, tc.want, told)
		}
	}
}

package httpcache

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/larder-cache/larder/internal/advice"
	"github.com/larder-cache/larder/rfc9111"
)

// An explanation in a header field is one line that any client takes, however long what it tells
// is.
func TestExplanationInAField(t *testing.T) {
	h := newTestHandler(t)
	w := httptest.NewRecorder()
	r := newTestRequest(w, "X-Long", strings.Repeat("é\n", 10_000))
	h.Route = h.cache.NewRoute(Rules{Key: KeyRules{Headers: []string{"X-Long"}}}, nil)
	q := &plainRequest{next: storable}
	q.Explain()
	if err := h.Route.Serve(&q.Request, w, r, new(IdentityOf(r)), q); err != nil {
		t.Fatal(err)
	}
	got := w.Header()["Larder-Explain"]
	if len(got) != 1 || len(got[0]) == 0 || len(got[0]) > maxExplained || strings.IndexFunc(got[0], func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
		t.Errorf("%q", got)
	}
	if cs := w.Header().Get("Cache-Status"); !strings.Contains(cs, "key=") {
		t.Errorf("Cache-Status %q", cs)
	}
}

// With DEBUG off a decision writes nothing and allocates nothing for the log; with DEBUG on it is
// one line.
func TestDecisionsAreLoggedAtDebug(t *testing.T) {
	for level, want := range map[slog.Level]int{slog.LevelInfo: 0, slog.LevelDebug: 2} {
		var out strings.Builder
		h := newTestHandler(t)
		h.Route = h.cache.NewRoute(Rules{Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level}))}, nil)
		ask(t, h, storable)
		ask(t, h, storable)
		if got := strings.Count(out.String(), "msg=decided"); got != want {
			t.Errorf("at %v: %d lines\n%s", level, got, &out)
		}
		if want > 0 && (!strings.Contains(out.String(), "outcome=hit") || !strings.Contains(out.String(), "url=\"http://example.com/some/path?and=query\"")) {
			t.Errorf("the lines are\n%s", &out)
		}
	}
}

// TestWhatIsToldCanBeTyped: Caddy refuses a block on one line.
func TestWhatIsToldCanBeTyped(t *testing.T) {
	told := []string{advice.Cookies(), changeOfRepeats}
	for _, change := range reasonChanges {
		told = append(told, change)
	}
	for _, texts := range bypassTexts {
		told = append(told, texts.change)
	}
	for _, texts := range departureTexts {
		told = append(told, texts.change)
	}
	for _, change := range standingChanges {
		told = append(told, change)
	}
	for _, text := range told {
		if strings.Contains(text, " { ") {
			t.Errorf("a block stands on one line: %s", text)
		}
	}
}

// TestWhatIsToldOfCookies: the client for which a response is fetched gets its cookies also by
// `set_cookie strip`, and what is told of a private answer is for its paths alone.
func TestWhatIsToldOfCookies(t *testing.T) {
	for reason, want := range map[rfc9111.Reason]string{
		rfc9111.ReasonSetCookie: "only the client that it is fetched for gets it",
		rfc9111.ReasonPrivate:   "in a larder of its own for these paths",
		rfc9111.ReasonNoStore:   "only if all may see the answer",
	} {
		if text := reasonChanges[reason]; !strings.Contains(text, want) {
			t.Errorf("%s: %q has not %q", reason, text, want)
		}
	}
}

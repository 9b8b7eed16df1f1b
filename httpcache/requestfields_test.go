package httpcache

import (
	"net/http"
	"testing"
)

// The lists say what the fields of a kind are, and kindOf has them once more.
func TestFieldsOfAKindAreThoseOfTheLists(t *testing.T) {
	kinds := map[fieldSet][]string{
		hasUpgrade: {"Upgrade", "Http2-Settings"}, hasConnection: {"Connection"}, hasOverride: methodOverrides[:],
		hasForwarded: forwardedFields[:], hasLoop: {"Cdn-Loop"}, hasAuthorization: {"Authorization"}, hasCookie: {"Cookie"},
		hasDirectives: {"Cache-Control", "Pragma"}, hasConditional: {"If-None-Match", "If-Modified-Since"}, hasRange: {"Range"},
	}
	for kind, names := range kinds {
		for _, name := range names {
			if got := fieldSetOf(http.Header{name: {"x"}, "Accept": {"*/*"}}); got != kind {
				t.Errorf("%s: %b, want %b", name, got, kind)
			}
			if http.CanonicalHeaderKey(name) != name {
				t.Errorf("%s is not how net/http spells it", name)
			}
			if got := fieldSetOf(http.Header{name: {}}); got != 0 {
				t.Errorf("%s without a line: %b, want none", name, got)
			}
		}
	}
}

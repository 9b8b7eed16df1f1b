package httpcache

import (
	"log/slog"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// Empty fields mean the defaults; what is said stands, an empty list included.
func TestRulesDefaults(t *testing.T) {
	got := Rules{}.withDefaults()
	want := Rules{
		Policy: rfc9111.Policy{Targeted: []string{"Larder-Cache-Control", "Cdn-Cache-Control"}},
		Tags:   TagRules{From: []string{"Surrogate-Key", "Cache-Tag", "Xkey"}}, Methods: []string{"GET", "HEAD"},
		MaxBody: 64 << 20, MaxVariants: 32, Wait: 10 * time.Second,
		Behind: nothingKnown{}, Budget: got.Budget, Logger: slog.Default(),
	}
	if got.Budget == nil || got.Budget == (Rules{}).withDefaults().Budget {
		t.Error("no budget of its own")
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	said := Rules{
		Policy: rfc9111.Policy{Targeted: []string{}}, Tags: TagRules{From: []string{}}, Methods: []string{http.MethodGet},
		MaxBody: 1, MaxVariants: 2, Wait: 3, Behind: nothingKnown{}, Budget: got.Budget, Logger: slog.New(slog.DiscardHandler),
	}
	if got := said.withDefaults(); !reflect.DeepEqual(got, said) {
		t.Errorf("got %+v, want %+v", got, said)
	}
}

// Rules that judge otherwise have another fingerprint, and of them those that assume lifetimes keep
// requests with a cookie apart.
func TestRulesFollowFromThePolicy(t *testing.T) {
	h := newTestHandler(t)
	plain := h.cache.NewRoute(Rules{}, nil)
	if again := h.cache.NewRoute(Rules{}, nil); again.fingerprint != plain.fingerprint || again.cookiesApart {
		t.Error("the same rules have another fingerprint, or keep cookies apart")
	}
	h.cache.store.Apply(store.Settings{Memory: 1 << 20})
	if richer := h.cache.NewRoute(Rules{}, nil); richer.fingerprint == plain.fingerprint {
		t.Error("a store with another budget leaves the fingerprint as it was")
	}
	assumed := []rfc9111.StatusTTL{{Duration: time.Minute}}
	for name, tc := range map[string]struct {
		rules Rules
		apart bool
	}{
		"ttl":       {Rules{Policy: rfc9111.Policy{TTL: assumed}}, true},
		"force_ttl": {Rules{Policy: rfc9111.Policy{ForceTTL: assumed}}, true},
		"heuristic": {Rules{Policy: rfc9111.Policy{Heuristic: true}}, true},
		"max_ttl":   {Rules{Policy: rfc9111.Policy{MaxTTL: time.Minute}}, false},
		"max_body":  {Rules{MaxBody: 1}, false},
	} {
		if rt := h.cache.NewRoute(tc.rules, nil); rt.fingerprint == plain.fingerprint || rt.cookiesApart != tc.apart {
			t.Errorf("%s: other fingerprint: %t, cookies apart: %t", name, rt.fingerprint != plain.fingerprint, rt.cookiesApart)
		}
	}
}

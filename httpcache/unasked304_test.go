package httpcache

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestUnaskedNotModified: a 304 to a fetch that asked unconditionally, as what is stored has no
// validator, renewed that. The client's field may have brought it about.
func TestUnaskedNotModified(t *testing.T) {
	for name, tc := range map[string]struct{ lifetime, odd, then string }{
		"waited for":        {"max-age=1", "Larder; fwd=stale; fwd-status=304", "Larder; fwd=stale; fwd-status=200; stored"},
		"in the background": {"max-age=1, stale-while-revalidate=60", "Larder; hit; ttl=-1; detail=swr", "Larder; hit; ttl=-1; detail=swr"},
		"nothing stored":    {"", "Larder; fwd=uri-miss", "Larder; fwd=uri-miss; stored"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newConfirming(t, func(w http.ResponseWriter, r *http.Request) error {
					if w.Header().Set("Cache-Control", tc.lifetime); r.Header.Get("X-Odd") != "" {
						w.WriteHeader(http.StatusNotModified)
						return nil
					}
					w.WriteHeader(http.StatusOK)
					return nil
				})
				if tc.lifetime != "" {
					c.ask()
				} else {
					tc.lifetime = "max-age=60"
				}
				time.Sleep(2 * time.Second)
				if got := c.ask("X-Odd", "1"); got != tc.odd {
					t.Errorf("the odd one: %q, want %q", got, tc.odd)
				}
				synctest.Wait()
				if got := c.ask(); got != tc.then {
					t.Errorf("the next: %q, want %q", got, tc.then)
				}
			})
		})
	}
}

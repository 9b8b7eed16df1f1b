package larder

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// whileFetched sends a request through a fetch whose handlers set vars, and has reads called again
// and again meanwhile, on another goroutine. The race detector looks on.
func whileFetched(t *testing.T, set map[string]any, reads func(client, fetch *http.Request)) (client *http.Request) {
	t.Helper()
	h := newTestHandler(t)
	w := httptest.NewRecorder()
	client = newTestRequest(w)
	caddyhttp.SetVar(client.Context(), "unchanged", "as before")
	repl := client.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.Map(func(name string) (any, bool) { // as `map {vars.x} {y}` does
		if name == "y" {
			return repl.ReplaceAll("{http.vars.x}", ""), true
		}
		return nil, false
	})
	var readers sync.WaitGroup
	answered := make(chan struct{})
	err := h.ServeHTTP(w, client, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		for name, value := range set {
			caddyhttp.SetVar(r.Context(), name, value)
		}
		begun := make(chan struct{})
		readers.Go(func() {
			reads(client, r)
			close(begun)
			for {
				select {
				case <-answered:
					return
				default:
					reads(client, r)
				}
			}
		})
		<-begun
		w.Header().Set("Cache-Control", "max-age=60")
		_, err := w.Write([]byte("page"))
		return err
	}))
	close(answered)
	readers.Wait()
	if err != nil || w.Code != http.StatusOK {
		t.Errorf("%d, %v", w.Code, err)
	}
	return client
}

// A fetch whose body goes on, or that its client has left, asked the client's replacer for what
// outer handlers had set, while the vars of the fetch came back to the client.
func TestVarsAreReadWhileTheyComeBack(t *testing.T) {
	for range 20 {
		t.Run("", func(t *testing.T) {
			client := whileFetched(t, map[string]any{"x": "set behind"}, func(_, fetch *http.Request) {
				fetch.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).ReplaceAll("{y}", "")
			})
			if x := caddyhttp.GetVar(client.Context(), "x"); x != "set behind" {
				t.Errorf("the var is %v", x)
			}
		})
	}
}

// The transport of a proxy in front, as with forward_auth, may read the client's vars for as long
// as it dials. What the proxy behind has set for its own transport, and what has not changed, were
// written to them all the same.
func TestVarsThatATransportReads(t *testing.T) {
	set := map[string]any{"reverse_proxy.proxy_protocol_info": 1, "unchanged": "as before"}
	for range 20 {
		t.Run("", func(t *testing.T) {
			whileFetched(t, set, func(client, _ *http.Request) {
				caddyhttp.GetVar(client.Context(), "reverse_proxy.proxy")
			})
		})
	}
}

func TestSameVar(t *testing.T) {
	list, table := []string{"a"}, map[string]int{}
	for _, tc := range []struct {
		a, b any
		want bool
	}{
		{1, 1, true},
		{1, 2, false},
		{1, "1", false},
		{nil, 1, false},
		{list, list, true},
		{list, []string{"a"}, false},
		{list, list[:0], false},
		{table, table, true},
		{table, map[string]int{}, false},
		{[1]any{list}, [1]any{list}, false}, // cannot be told
		{time.Unix(1, 0), time.Unix(1, 0), true},
		{time.Unix(1, 0), time.Unix(2, 0), false},
	} {
		if got := sameVar(tc.a, tc.b); got != tc.want {
			t.Errorf("%v and %v: %v", tc.a, tc.b, got)
		}
	}
}

package larder

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// A fetch that is cancelled because its origin does not answer is a timeout for its client, and no
// word of the origin's: it does not make the key one whose responses are not shareable.
func TestCancelledFetchIsNotRemembered(t *testing.T) {
	for name, end := range map[string]func(w http.ResponseWriter, r *http.Request) error{
		"a status": func(w http.ResponseWriter, _ *http.Request) error { // as reverse_proxy
			w.WriteHeader(499)
			return nil
		},
		"an error": func(_ http.ResponseWriter, r *http.Request) error { return caddyhttp.Error(499, r.Context().Err()) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newBenchHandler(t)
			h.app.cache.flights = coalesce.NewGroup[store.Key](h.app.cache.store, coalesce.Limits{Life: time.Millisecond})
			hangs := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
				<-r.Context().Done()
				return end(w, r)
			})
			w := httptest.NewRecorder()
			err := h.ServeHTTP(w, benchRequest(w), hangs)
			if handlerErr, ok := errors.AsType[caddyhttp.HandlerError](err); !ok || handlerErr.StatusCode != http.StatusGatewayTimeout {
				t.Errorf("the client of a fetch that took too long has %d, %v; want an error with 504", w.Code, err)
			}
			h.app.cache.flights = coalesce.NewGroup[store.Key](h.app.cache.store, coalesce.Limits{})
			w = httptest.NewRecorder()
			if err := h.ServeHTTP(w, benchRequest(w), caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set("Cache-Control", "max-age=60")
				return nil
			})); err != nil {
				t.Fatal(err)
			}
			if got, want := w.Header().Get("Cache-Status"), "Larder; fwd=uri-miss; stored"; got != want {
				t.Errorf("the next request: %q, want %q", got, want)
			}
		})
	}
}

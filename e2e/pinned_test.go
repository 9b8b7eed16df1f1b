package e2e

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder"
)

// TestEntriesPinNoConfiguration: what was worked out for a stored response pointed to the handler
// that did, so that each entry not asked for since a reload kept a whole configuration alive.
func TestEntriesPinNoConfiguration(t *testing.T) {
	for name, disk := range map[string]string{"memory": "", "disk": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, numbered("Cache-Control", "max-age=60, stale-while-revalidate=60", "ETag", `"a"`, "Surrogate-Key", "a"))
			s := proxied("larder {\n\tttl 5m 404\n\tkey {\n\t\tquery sort\n\t}\n}")
			// A connection that waits for another request has a timer of net/http's, which keeps
			// the proxy's transport, and with it the configuration, for two minutes after it was
			// closed.
			s.site = strings.Replace(s.site, "reverse_proxy {{origin}}", "reverse_proxy {{origin}} {\n\ttransport http {\n\t\tkeepalive off\n\t}\n}", 1)
			s.disk = disk
			in := start(t, s, o)
			var gone []func() bool
			for round := range 3 {
				for n := range 5 { // each is asked for under one configuration alone
					for range 3 {
						in.get(fmt.Sprintf("/%d/%d", round, n))
					}
				}
				in.get(fmt.Sprintf("/%d/0", round), "Cache-Control", "no-cache")
				in.get(fmt.Sprintf("/%d/1", round), "Authorization", "x", "Range", "bytes=0-0")
				in.do("POST", fmt.Sprintf("/%d/2", round), "")
				gone = append(gone, watchConfiguration(t))
				s.options = fmt.Sprintf("memory %dMiB", 16+round)
				in.load(s, o)
			}
			if n := in.stats().Memory.Entries; n < 12 {
				t.Errorf("%d entries are stored, so that this shows little", n)
			}
			for round, gone := range gone {
				// By number as well: pools need two collections, the old server has to close its
				// connections before, and on a busy machine one collection takes seconds.
				deadline := time.Now().Add(patience)
				for collections := 0; !gone(); collections++ {
					if collections >= 100 && time.Now().After(deadline) {
						t.Fatalf("the configuration of round %d is still there", round)
					}
					runtime.GC()
				}
			}
		})
	}
}

// watchConfiguration returns a function that tells whether nothing of the configuration that runs
// now is in memory any more: neither the app nor a handler.
func watchConfiguration(t *testing.T) (gone func() bool) {
	t.Helper()
	active := caddy.ActiveContext()
	app, err := active.AppIfConfigured("larder")
	if err != nil {
		t.Fatal(err)
	}
	served, err := active.AppIfConfigured("http")
	if err != nil {
		t.Fatal(err)
	}
	var handlers []weak.Pointer[larder.Handler]
	for _, server := range served.(*caddyhttp.App).Servers {
		for _, h := range larderHandlers(server.Routes) {
			handlers = append(handlers, weak.Make(h))
		}
	}
	if len(handlers) == 0 {
		t.Fatal("there is no handler to watch")
	}
	weakApp := weak.Make(app.(*larder.App))
	return func() bool {
		for _, h := range handlers {
			if h.Value() != nil {
				return false
			}
		}
		return weakApp.Value() == nil
	}
}

// larderHandlers finds Larder's handlers among routes.
func larderHandlers(routes caddyhttp.RouteList) (found []*larder.Handler) {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch h := handler.(type) {
			case *larder.Handler:
				found = append(found, h)
			case *caddyhttp.Subroute:
				found = append(found, larderHandlers(h.Routes)...)
			}
		}
	}
	return found
}

// A purge is remembered for the fetches that it may concern: those whose response may still be
// stored. One that is only passed on, for hours maybe, keeps no purge from being forgotten.
func TestStreamThatIsNotStoredPinsNoPurge(t *testing.T) {
	const block = 128 << 10
	for name, tc := range map[string]struct {
		status int
		header []string
	}{
		"not to be stored":      {200, []string{"Cache-Control", "no-store"}},
		"an event stream":       {200, []string{"Content-Type", "text/event-stream"}},
		"a failure":             {503, nil},
		"known to be too large": {200, []string{"Cache-Control", "max-age=60", "Content-Length", "10000000"}},
		"found to be too large": {200, []string{"Cache-Control", "max-age=60"}},
	} {
		t.Run(name, func(t *testing.T) {
			rest := make(chan struct{})
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				for i := 0; i < len(tc.header); i += 2 {
					w.Header().Set(tc.header[i], tc.header[i+1])
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, strings.Repeat("x", block))
				_ = http.NewResponseController(w).Flush()
				select {
				case <-rest:
				case <-v.Context().Done():
				}
			})
			in := start(t, proxied("larder {\nmax_body 64KiB\n}"), g.origin)
			c := in.dial()
			c.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
			open(g.next(t, 1)...)
			resp := c.response(http.MethodGet)
			// Where the length is known reverse_proxy does not flush, so the end of the block waits
			// in the server's buffer of 4 KiB.
			if n, err := io.ReadFull(resp.Body, make([]byte, block-8<<10)); err != nil || resp.StatusCode != tc.status {
				t.Fatalf("status %d, %d bytes, %v", resp.StatusCode, n, err)
			}
			in.purge(`{"all":true}`)
			in.purge(`{"tags":["any"]}`)
			eventually(t, "the purges are forgotten", func() bool { return in.stats().PurgesPending == 0 })
			if n := in.stats().InFlight; n != 1 {
				t.Errorf("%d fetches are under way, want the one that streams", n)
			}
			close(rest)
			_ = c.Close()
			settled(t, in)
		})
	}
}

package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

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
			// Where the length is known reverse_proxy does not flush, so the end of the block waits in
			// the server's buffer of 4 KiB.
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

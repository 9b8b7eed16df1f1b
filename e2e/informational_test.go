package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A leader that takes nothing does not hold up the fetch by the 1xx that come before the header: these go to it alone.
func TestInformationalResponsesToALeaderThatReadsNothing(t *testing.T) {
	link := "<" + strings.Repeat("x", 256<<10) + ">; rel=preload"
	ts := newTurnstile(t, func(_ int, w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
		w.Header().Set("Link", link)
		for range 256 { // 64 MiB, far more than the kernel's socket buffers hold
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.Header().Del("Link")
		w.Header().Set("Cache-Control", "max-age=60")
		_, err := io.WriteString(w, "body")
		return err
	})
	in := start(t, setup{site: "route {\nlarder\ntest_breaker\n}"}, nil)
	leader := in.dial()
	leader.send("GET / HTTP/1.1\r\nHost: localhost:" + fmt.Sprint(in.port) + "\r\n\r\n")
	parked(t, 1)
	followers := gather(t, in, 3, http.MethodGet, "/", nil)
	parked(t, 4)
	ts.let(t)
	for _, a := range followers.all() {
		a.want(t, 200, "body", "Larder; fwd=uri-miss; fwd-status=200; collapsed")
	}
	if hit := in.get("/"); !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
		t.Errorf("afterwards: %q", hit.cacheStatus())
	}
	_ = leader.Close()
	settled(t, in)
}

// Command plain is what conformance/run -plain tests: httpcache.Middleware before the reverse proxy
// of the standard library, without Caddy. It has the profile of the Caddyfile beside it.
//
// It listens on the loopback port $CONFORMANCE_PORT, and asks the origin on the Unix socket
// $CONFORMANCE_ORIGIN.
package main

import (
	"context"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"time"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

func main() {
	memory := store.New(store.Config{}, store.Settings{Memory: 256 << 20})
	if err := memory.Open(); err != nil {
		log.Fatal(err)
	}
	cache, origin := httpcache.New(httpcache.Options{Store: memory}), proxyTo(os.Getenv("CONFORMANCE_ORIGIN"))
	before := func(policy rfc9111.Policy) http.Handler {
		return httpcache.Middleware(cache.NewRoute(httpcache.Rules{Policy: policy, Slice: httpcache.DefaultSlice}, nil))(origin)
	}
	server := &http.Server{
		Addr:              "127.0.0.1:" + os.Getenv("CONFORMANCE_PORT"),
		Handler:           announced(byTest(before(withWindow()), before(profile))),
		ReadHeaderTimeout: time.Minute,
	}
	log.Fatal(server.ListenAndServe())
}

// profile is the behaviour that RFC 9111 allows and that is off by default, and Surrogate-Control
// as one more targeted field.
var profile = rfc9111.Policy{
	Heuristic: true,
	SetCookie: rfc9111.SetCookieStore,
	Targeted:  []string{"Surrogate-Control", "Cdn-Cache-Control"},
}

// withWindow is the profile with a window in which a stale response may stand in for a failure.
func withWindow() rfc9111.Policy {
	policy := profile
	policy.StaleIfError = 24 * time.Hour
	return policy
}

// byTest sends the tests that need the window to a route of their own. An origin that fails is left
// alone for a while by all of a route, and the suite runs its tests side by side.
func byTest(stale, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id := r.Header.Get("Test-ID"); strings.HasPrefix(id, "stale-") || strings.HasPrefix(id, "ccreq-max-stale") {
			stale.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

// announced tells the origin that this cache understands Surrogate-Control.
func announced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Surrogate-Capability", `larder="Surrogate/1.0"`)
		next.ServeHTTP(w, r)
	})
}

// proxyTo asks the origin on a Unix socket. Host stays the client's.
func proxyTo(socket string) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "origin"
			p.SetXForwarded()
		},
		Transport: &http.Transport{
			DisableCompression: true, // the client's Accept-Encoding is the one that counts
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
		},
		ErrorLog: log.New(nowhere{}, "", 0), // the suite's origin cuts connections on purpose
	}
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

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
	route := httpcache.New(httpcache.Options{Store: memory}).NewRoute(httpcache.Rules{Policy: profile}, nil)
	server := &http.Server{
		Addr:              "127.0.0.1:" + os.Getenv("CONFORMANCE_PORT"),
		Handler:           announced(httpcache.Middleware(route)(proxyTo(os.Getenv("CONFORMANCE_ORIGIN")))),
		ReadHeaderTimeout: time.Minute,
	}
	log.Fatal(server.ListenAndServe())
}

// profile is the behaviour that RFC 9111 allows and that is off by default, and Surrogate-Control
// as one more targeted field.
var profile = rfc9111.Policy{
	Heuristic:    true,
	StaleIfError: 24 * time.Hour,
	SetCookie:    rfc9111.SetCookieStore,
	Targeted:     []string{"Surrogate-Control", "Cdn-Cache-Control"},
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

package larder

import (
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/rfc9111"
)

// No response can be selected by a field that handlers behind larder write: httpcache/vary.go says
// why. Which fields these are is known in three ways: those that proxies write by themselves, those
// that the configuration has written behind this handler (header_up, request_header, copy_headers),
// and those that a handler turns out to have written when a response arrives. A field that is
// written alike for all requests with one key does no harm; passage.go decides that. Two things are
// not known: what a foreign module writes into a copy of the request, and what it writes for some
// requests but not for the one that is being fetched.

// behind lists the steps that a request may take behind h. several reports that there may be more
// than one such list. Where h stands in no route that the walk knows, the list is everything.
func behind(server *caddyhttp.Server, h caddyhttp.MiddlewareHandler) (after []step, several bool) {
	found := 0
	for _, p := range placesIn(server) {
		if p.handler == h {
			found++
			after = append(after, p.after...)
		}
	}
	if found == 0 {
		w := walker{named: server.NamedRoutes}
		after = w.following(server.Routes, "")
	}
	return after, found != 1
}

// handlersBehind is what stands behind a handler. It implements httpcache.Behind.
type handlersBehind struct {
	handler caddyhttp.MiddlewareHandler
	rules   *httpcache.KeyRules
	known   atomic.Pointer[writtenFields]
}

// written returns what is written. It is made at the first request, because the routes of the
// server are complete by then.
func (b *handlersBehind) written(r *http.Request) *writtenFields {
	if known := b.known.Load(); known != nil {
		return known
	}
	server := serverOf(r)
	if server == nil {
		return new(writtenFields)
	}
	after, several := behind(server, b.handler)
	w := passage{rules: b.rules, chosen: several}
	for _, s := range after {
		w.follow(s)
	}
	b.known.Store(&w.writtenFields)
	return &w.writtenFields
}

// WritesAlike implements httpcache.Behind.
func (b *handlersBehind) WritesAlike(r *http.Request, name string) bool {
	return slices.Contains(b.written(r).alike, name)
}

// Sees implements httpcache.Behind. It reports whether the origin sees the named field of r as
// larder does, which has these lines of it. Proxies behind larder pass on what a trusted proxy in
// front says of a request.
func (b *handlersBehind) Sees(r *http.Request, name string, lines []string) bool {
	switch {
	case b.written(r).has(name):
		return false
	case !rfc9111.WrittenByProxies(name):
		return true
	}
	return len(lines) > 0 && fromTrustedProxy(r)
}

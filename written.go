package larder

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/rfc9111"
)

// Vary selects by what the origin saw of a request. Where a handler behind Larder writes a field,
// Larder sees another value than the origin, the same one for clients that the origin tells apart:
// reverse_proxy writes X-Forwarded-For. By such a field nothing can be selected, so a Vary that
// names it is as good as `Vary: *`, at storing, at look-up and for who waits.
//
// Which fields these are is known in three ways: those that proxies write of themselves, those that
// the configuration has written behind this handler (header_up, request_header, copy_headers), and
// those that another handler turns out to have written by the time a response comes. What is
// written alike for all requests with one key does no harm; passage.go tells that. Not known is
// what a foreign module writes into a copy of the request, or for some requests and not for the one
// that is being fetched.

// writtenFields are the request fields that the configuration has handlers behind Larder write or
// take away.
type writtenFields struct {
	any     bool     // one whose name only the request tells
	names   []string // those that may differ for requests that share a key
	deleted []string // patterns of names, in lower case, that may be taken from some of such requests
	alike   []string // those that may not
}

func (w *writtenFields) has(name string) bool {
	return w.any || slices.Contains(w.names, name) || len(w.deleted) > 0 && httpcache.MatchesAny(w.deleted, strings.ToLower(name))
}

// written tells what is written behind h. The routes of the server are there as soon as requests
// are.
func (h *Handler) written(r *http.Request) *writtenFields {
	if known := h.writes.Load(); known != nil {
		return known
	}
	server := serverOf(r)
	if server == nil {
		return new(writtenFields)
	}
	after, several := behind(server, h)
	w := passage{rules: &h.route.Key, chosen: several}
	for _, s := range after {
		w.come(s)
	}
	h.writes.Store(&w.writtenFields)
	return &w.writtenFields
}

// behind lists what a request may come to behind h, and reports whether it may be more than one
// such list. Where h stands in no route that is known, that is everything.
func behind(server *caddyhttp.Server, h *Handler) (after []step, several bool) {
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
type handlersBehind struct{ handler *Handler }

// WritesAlike implements httpcache.Behind.
func (b handlersBehind) WritesAlike(r *http.Request, name string) bool {
	return slices.Contains(b.handler.written(r).alike, name)
}

// Sees implements httpcache.Behind: it reports whether the origin sees the named field of r as Larder does, which has these lines
// of it. What a trusted proxy in front says of a request, the proxies behind pass on.
func (b handlersBehind) Sees(r *http.Request, name string, lines []string) bool {
	switch {
	case b.handler.written(r).has(name):
		return false
	case !rfc9111.WrittenByProxies(name):
		return true
	}
	return len(lines) > 0 && fromTrustedProxy(r)
}

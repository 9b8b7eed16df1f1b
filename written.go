package larder

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/larder-cache/larder/rfc9111"
)

// Vary selects by what the origin saw of a request. Where a handler behind Larder writes a field,
// Larder sees another value than the origin, the same one for clients that the origin tells apart:
// reverse_proxy writes X-Forwarded-For. By such a field nothing can be selected, so a Vary that names
// it is as good as `Vary: *`, at storing, at look-up and for who waits.
//
// Which fields these are is known in three ways: those that proxies write of themselves, those that
// the configuration has written behind this handler (header_up, request_header, copy_headers), and
// those that another handler turns out to have written by the time a response comes. Not known is
// what a foreign module writes into a copy of the request, or for some requests and not for the one
// that is being fetched.

// writtenFields are the request fields that the configuration has handlers behind Larder write.
type writtenFields struct {
	any   bool     // one whose name only the request tells
	names []string // those that may differ for requests that share a key
	alike []string // those that may not
}

func (w *writtenFields) has(name string) bool { return w.any || slices.Contains(w.names, name) }

// written tells what is written behind h. The routes of the server are there as soon as requests are.
func (h *Handler) written(r *http.Request) *writtenFields {
	if known := h.writes.Load(); known != nil {
		return known
	}
	w, server := new(writtenFields), serverOf(r)
	if server == nil {
		return w
	}
	for _, handler := range behind(server, h) {
		w.note(handler)
	}
	h.writes.Store(w)
	return w
}

// behind lists what a request may come to behind h. Where h stands in no route that is known, that is
// everything.
func behind(server *caddyhttp.Server, h *Handler) (after []caddyhttp.MiddlewareHandler) {
	found := false
	for _, p := range placesIn(server) {
		if p.handler == h {
			found = true
			after = append(after, p.after...)
		}
	}
	if !found {
		w := walker{named: server.NamedRoutes}
		after = w.following(server.Routes, "")
	}
	return after
}

// note adds what a handler writes into requests.
func (w *writtenFields) note(handler caddyhttp.MiddlewareHandler) {
	var ops *headers.HeaderOps
	switch h := handler.(type) {
	case *headers.Handler:
		ops = h.Request
	case *reverseproxy.Handler:
		if h.Headers != nil {
			ops = h.Headers.Request
		}
	}
	if ops == nil {
		return
	}
	for _, fields := range []http.Header{ops.Add, ops.Set} {
		for name, values := range fields {
			w.name(name, slices.ContainsFunc(values, differsByClient))
		}
	}
	for name, replacements := range ops.Replace {
		w.name(name, slices.ContainsFunc(replacements, func(r headers.Replacement) bool {
			return differsByClient(r.Replace) || differsByClient(r.Search) || differsByClient(r.SearchRegexp)
		}))
	}
}

func (w *writtenFields) name(name string, differs bool) {
	open := name == "*" || strings.Contains(name, "{")
	switch name = http.CanonicalHeaderKey(name); {
	case open && differs:
		w.any = true
	case differs:
		w.names = append(w.names, name)
	default:
		w.alike = append(w.alike, name)
	}
}

// keyedPlaceholders are those whose values are in every key, or the same for all requests. A field that
// is made of them and of constants is the same for all who share a key.
var keyedPlaceholders = []string{
	"http.request.scheme", "http.request.host", "http.request.hostport", "http.request.port", "http.request.uri",
	"http.request.orig_uri", "env.", "system.", "file.",
}

// differsByClient reports whether a text has a placeholder that may have another value for each client.
func differsByClient(text string) bool {
	for {
		_, rest, found := strings.Cut(text, "{")
		if !found {
			return false
		}
		name, rest, closed := strings.Cut(rest, "}")
		if !closed {
			return false
		}
		if !slices.ContainsFunc(keyedPlaceholders, func(known string) bool {
			return name == known || strings.HasPrefix(name, strings.TrimSuffix(known, ".")+".")
		}) {
			return true
		}
		text = rest
	}
}

// sees reports whether the origin sees the named field of r as Larder does, which has these lines of
// it. What a trusted proxy in front says of a request, the proxies behind pass on.
func (h *Handler) sees(r *http.Request, name string, lines []string) bool {
	switch {
	case h.written(r).has(name):
		return false
	case !rfc9111.WrittenByProxies(name):
		return true
	}
	return len(lines) > 0 && fromTrustedProxy(r)
}

// seesAll reports whether the origin sees all fields by which a response is selected as Larder does.
func (q *request) seesAll(names []string) bool {
	for _, name := range names {
		if !q.h.sees(q.r, name, q.r.Header[name]) {
			return false
		}
	}
	return true
}

// seesAll reports the same of the fetch that brought a response with this header. Its request shows by
// now what has been written into it.
func (x *fetch) seesAll(header http.Header) bool {
	if len(header["Vary"]) == 0 {
		return true
	}
	names, _ := rfc9111.VaryNames(header)
	for _, name := range names {
		lines, now := linesOf(x.clientHeader, name), x.request.Header[name]
		if !x.h.sees(x.request, name, lines) {
			return false
		}
		if len(now) > 0 && !slices.Equal(now, lines) && !slices.Contains(x.h.written(x.request).alike, name) {
			return false
		}
	}
	return true
}

package larder

import (
	"encoding/json"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/fastcgi"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"

	"github.com/larder-cache/larder/httpcache"
)

// passage follows what stands behind a larder handler in the order of a request. It notes which
// fields are written on the way, and whether alike for all requests that share a key. A constant is
// alike only if nothing outside of the key decides which requests pass the handler that writes it.
// With `request_header @staff X-Role staff` the origin sees another X-Role for a stranger who sends
// the same.
type passage struct {
	writtenFields
	rules     *httpcache.KeyRules
	way       string // a digest of what decides by which way a request comes, and by which URL
	chosen    bool   // from here on, requests that share a key may have taken different ways
	rewritten bool   // from here on, their URL or Host may differ
}

// follow notes one step. A step counts as chosen if something outside of the key decides whether a
// request takes it. If it may also answer, or keep requests from what follows, all that follows
// counts as chosen too.
func (w *passage) follow(s step) {
	before, closed := w.chosen, false
	for _, g := range s.gates {
		if text := gateText(g); text != "" {
			w.passed(text)
		}
		if !w.admitsAlike(g) {
			w.chosen = true
			closed = closed || g.route.Terminal || g.route.Group != ""
		}
	}
	w.note(s.handler)
	w.chosen = before || w.chosen && (closed || mayAnswer(s.handler))
}

// admitsAlike reports whether a gate lets in all requests that share a key, or none of them.
func (w *passage) admitsAlike(g gate) bool {
	if g.response {
		return false
	}
	for _, set := range g.route.MatcherSets {
		if !w.looksAtKey(set) {
			return false
		}
	}
	return true
}

// looksAtKey reports whether matchers look at the key alone. A matcher that is not known may look
// at anything.
func (w *passage) looksAtKey(set caddyhttp.MatcherSet) bool {
	for _, matcher := range set {
		keyed := false
		switch m := matcher.(type) {
		case *caddyhttp.MatchHost:
			keyed = !w.rewritten && !w.anyDiffers(*m)
		case *caddyhttp.MatchPath:
			keyed = !w.rewritten && !w.anyDiffers(*m)
		case *caddyhttp.MatchPathRE:
			keyed = !w.rewritten
		case *caddyhttp.MatchProtocol:
			keyed = *m == "http" || *m == "https"
		case *caddyhttp.MatchMethod: // the key has one class for GET and HEAD
			keyed = slices.Contains(*m, http.MethodGet) == slices.Contains(*m, http.MethodHead) && !w.rewritten
		case *caddyhttp.MatchHeader:
			keyed = w.keysFields(maps.Keys(*m)) && !w.anyDiffers(slices.Concat(slices.Collect(maps.Values(*m))...))
		case *caddyhttp.MatchHeaderRE:
			keyed = w.keysFields(maps.Keys(*m))
		case *caddyhttp.MatchNot:
			keyed = !slices.ContainsFunc(m.MatcherSets, func(set caddyhttp.MatcherSet) bool { return !w.looksAtKey(set) })
		}
		if !keyed {
			return false
		}
	}
	return true
}

// keysFields reports whether the key has the fields and no handler has written them on the way.
func (w *passage) keysFields(names iter.Seq[string]) bool {
	for name := range names {
		if name = http.CanonicalHeaderKey(name); !slices.Contains(w.rules.Headers, name) || w.has(name) {
			return false
		}
	}
	return true
}

// mayAnswer reports whether a request may end at a handler, with an answer that others with its key
// might get. Handlers that return an error, and `respond` without a field of its own, do not count.
func mayAnswer(handler caddyhttp.MiddlewareHandler) bool {
	switch h := handler.(type) {
	case nil, *caddyhttp.Subroute, *caddyhttp.Invoke: // the handlers inside have steps of their own
		return false
	case *caddyhttp.StaticResponse:
		return len(h.Headers) > 0
	}
	return !slices.Contains(goingOn, moduleID(handler))
}

// goingOn are handlers that never answer by themselves, except with an error.
var goingOn = []string{
	"http.handlers.authentication", "http.handlers.encode", "http.handlers.error",
	"http.handlers.headers", "http.handlers.intercept", "http.handlers.log_append",
	"http.handlers.map", "http.handlers.request_body", "http.handlers.rewrite",
	"http.handlers.templates", "http.handlers.timeouts", "http.handlers.tracing",
	"http.handlers.vars",
}

// keepingURL are the other handlers of Caddy that leave a request's URL unchanged.
var keepingURL = []string{
	"http.handlers.acme_server", "http.handlers.file_server", "http.handlers.invoke",
	"http.handlers.larder", "http.handlers.metrics", "http.handlers.push",
	"http.handlers.reverse_proxy", "http.handlers.static_response", "http.handlers.subroute",
	"http.handlers.copy_response", "http.handlers.copy_response_headers",
}

// note adds what a handler does to requests.
func (w *passage) note(handler caddyhttp.MiddlewareHandler) {
	switch h := handler.(type) {
	case nil:
	case *headers.Handler:
		w.rewritten = w.rewritten || w.writesHost(h.Request)
		w.noteFields(h.Request)
		if host := w.by([]string{"Host"}); host != "" {
			w.passed(host)
		}
	case *reverseproxy.Handler:
		if h.Headers != nil {
			w.noteFields(h.Headers.Request)
		}
		if fcgi, ok := h.Transport.(*fastcgi.Transport); ok {
			w.noteVariables(fcgi.EnvVars)
		}
	case *rewrite.Rewrite:
		w.rewritten = w.rewritten || w.chosen || w.rewriteDiffers(h)
		w.passed(jsonText(h))
	default:
		id := moduleID(handler)
		w.rewritten = w.rewritten || !slices.Contains(goingOn, id) && !slices.Contains(keepingURL, id)
	}
}

func (w *passage) noteFields(ops *headers.HeaderOps) {
	if ops == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(ops.Add)) {
		w.noteField(writing{name: name}, "add", ops.Add[name]...)
	}
	for _, name := range slices.Sorted(maps.Keys(ops.Set)) {
		w.noteField(writing{name: name}, "set", ops.Set[name]...)
	}
	for _, pattern := range ops.Delete {
		w.noteField(writing{name: pattern, removes: true}, "delete")
	}
	for _, name := range slices.Sorted(maps.Keys(ops.Replace)) {
		var texts []string
		for _, r := range ops.Replace[name] {
			texts = append(texts, r.Replace, r.Search, r.SearchRegexp)
		}
		w.noteField(writing{name: name}, "replace", texts...)
	}
}

// noteVariables adds the variables of a CGI transport that stand for request fields. What the
// configuration sets goes before what the client sends.
func (w *passage) noteVariables(variables map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		field, ofField := strings.CutPrefix(name, "HTTP_")
		if ofField || name == "CONTENT_TYPE" || name == "CONTENT_LENGTH" {
			w.noteField(writing{name: field, variable: true}, "env", variables[name])
		}
	}
}

// writesHost reports whether operations may write Host, by which Caddy sets the request's own host.
func (w *passage) writesHost(ops *headers.HeaderOps) bool {
	alone := passage{rules: w.rules, chosen: w.chosen, rewritten: w.rewritten}
	alone.noteFields(ops)
	return alone.has("Host")
}

// noteField adds what is done to a field with texts.
func (w *passage) noteField(f writing, how string, texts ...string) {
	f.differs = w.chosen || w.differsByClient(f.name) || w.anyDiffers(texts)
	f.setName(expandedAlike(f.name))
	if !f.differs {
		f.mark = digest(append([]string{w.way, how, f.name}, texts...)...)
	}
	w.writings = append(w.writings, f)
}

// passed adds what the mark of everything that follows depends on.
func (w *passage) passed(text string) { w.way = digest(w.way, text) }

// keyedPlaceholders have values that are in every key, or the same for all requests. A field that
// is made of them and of constants is the same for all requests that share a key.
var keyedPlaceholders = []string{"http.request.scheme", "http.request.orig_uri.path", "env.", "system.", "file."}

// innerPlaceholders are in every key as long as no handler behind larder has changed them.
var innerPlaceholders = []string{"http.request.host", "http.request.hostport", "http.request.port", "http.request.uri"}

// isKeyed reports whether requests that share a key have one value for a placeholder.
func (w *passage) isKeyed(name string) bool {
	among := func(known string) bool {
		return name == known || strings.HasPrefix(name, strings.TrimSuffix(known, ".")+".")
	}
	switch {
	case slices.ContainsFunc(keyedPlaceholders, among):
		return true
	case among("http.request.orig_uri"): // it has what `key { query }` leaves out
		return w.rules.Query.None()
	}
	return !w.rewritten && slices.ContainsFunc(innerPlaceholders, among)
}

// differsByClient reports whether a text has a placeholder that may have another value for each
// client.
func (w *passage) differsByClient(text string) bool {
	for {
		_, rest, found := strings.Cut(text, "{")
		if !found {
			return false
		}
		name, rest, closed := strings.Cut(rest, "}")
		if !closed {
			return false
		}
		if !w.isKeyed(name) {
			return true
		}
		text = rest
	}
}

func (w *passage) anyDiffers(texts []string) bool {
	return slices.ContainsFunc(texts, w.differsByClient)
}

// rewriteDiffers reports whether any text of a rewrite differs by client. It reads them from the
// rewrite's JSON, which has all of them.
func (w *passage) rewriteDiffers(h *rewrite.Rewrite) bool {
	var parts any
	return json.Unmarshal([]byte(jsonText(h)), &parts) != nil || w.partDiffers(parts)
}

func (w *passage) partDiffers(part any) bool {
	switch p := part.(type) {
	case string:
		return w.differsByClient(p)
	case []any:
		return slices.ContainsFunc(p, w.partDiffers)
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(p)), w.partDiffers)
	}
	return false
}

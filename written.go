package larder

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/rfc9111"
)

// No response can be selected by a field that handlers behind larder write: httpcache/vary.go says
// why. Which fields these are is known in three ways: those that proxies write by themselves, those
// that the configuration has written behind this handler (header_up, request_header, copy_headers),
// and those that a handler turns out to have written when a response arrives. A field that is
// written alike for all requests with one key still selects; passage.go decides that. Another
// handler of the same URL, or this one after a reload, may write otherwise, so what is written
// selects too. Two things are not known: what a foreign module writes into a copy of the request,
// and what it writes for some requests but not for the one that is being fetched.

// writing is what a handler behind larder does to a request field, by the configuration.
type writing struct {
	name     string // as http.CanonicalHeaderKey has it
	pattern  bool   // name has wildcards, in lower case
	variable bool   // name is that of a variable of CGI, without HTTP_
	any      bool   // the name is known only when a request comes
	removes  bool
	differs  bool   // for requests that share a key
	mark     string // if it does not: it is equal where the same is done
}

// setName takes the name in the form in which the configuration has it.
func (f *writing) setName(name string) {
	f.any = name == "*" || strings.Contains(name, "{")
	switch {
	case f.variable:
		f.name = name
	case f.removes && strings.Contains(name, "*"):
		f.name, f.pattern = strings.ToLower(name), true
	default:
		f.name = http.CanonicalHeaderKey(name)
	}
}

// isOf reports whether it may be done to the named field.
func (f *writing) isOf(name string) bool {
	switch {
	case f.any:
		return true
	case f.pattern:
		return httpcache.MatchesAny([]string{f.name}, strings.ToLower(name))
	case f.variable:
		return isVariableOf(f.name, name)
	}
	return f.name == name
}

// isVariableOf reports whether CGI puts a field into the variable of this name (RFC 3875 4.1.18).
func isVariableOf(variable, field string) bool {
	if len(variable) != len(field) {
		return false
	}
	for i := range len(field) {
		c := field[i]
		switch {
		case c == '-':
			c = '_'
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		}
		if c != variable[i] {
			return false
		}
	}
	return true
}

// writtenFields are the request fields that handlers behind larder write or remove, by the
// configuration.
type writtenFields struct{ writings []writing }

// has reports whether the origin may see another value of the field than larder, and another one
// for requests that share a key.
func (w *writtenFields) has(name string) bool {
	for i := range w.writings {
		if f := &w.writings[i]; f.differs && f.isOf(name) {
			return true
		}
	}
	return false
}

// by returns the marks of what is done alike to any of the fields, in the order in which it is
// done.
func (w *writtenFields) by(names []string) (marks string) {
	for i := range w.writings {
		if f := &w.writings[i]; !f.differs && slices.ContainsFunc(names, f.isOf) {
			marks += f.mark
		}
	}
	return marks
}

// expandedAlike replaces the placeholders that have one value for all requests.
func expandedAlike(text string) string { return caddy.NewReplacer().ReplaceKnown(text, "") }

// digest returns a short text that is equal for equal texts. Of a placeholder that has one value
// for all requests, as `{env.LANG}` has, that value counts.
func digest(texts ...string) string {
	hash := sha256.New()
	for _, text := range texts {
		_, _ = fmt.Fprintf(hash, "%q", expandedAlike(text)) // a hash takes everything
	}
	return hex.EncodeToString(hash.Sum(nil)[:8])
}

// gateText is what decides who passes a gate, empty if all do. What a matcher that is not known
// looks at does not matter: nothing is written alike behind it.
func gateText(g gate) string {
	if len(g.route.MatcherSets) == 0 && g.route.Group == "" && !g.response {
		return ""
	}
	return fmt.Sprint(g.response, g.route.Group != "", g.route.Terminal, matchersText(g.route.MatcherSets))
}

func matchersText(sets []caddyhttp.MatcherSet) (texts []string) {
	for _, set := range sets {
		texts = append(texts, "or")
		for _, matcher := range set {
			if not, ok := matcher.(*caddyhttp.MatchNot); ok {
				texts = append(append(texts, "not"), matchersText(not.MatcherSets)...)
				continue
			}
			texts = append(texts, fmt.Sprintf("%T", matcher), jsonText(matcher))
		}
	}
	return texts
}

// jsonText is a part of the configuration as text.
func jsonText(part any) string {
	text, err := json.Marshal(part)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

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
	return slices.ContainsFunc(b.written(r).writings, func(f writing) bool {
		return !f.differs && !f.removes && !f.any && f.isOf(name)
	})
}

// Written implements httpcache.Behind.
func (b *handlersBehind) Written(r *http.Request, names []string) string {
	return b.written(r).by(names)
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

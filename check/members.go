package check

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// invalidatesNothing is what comes of a POST that is kept from larder.
const invalidatesNothing = "also a POST that changes a page, and what does not come invalidates nothing; "

// checkUnsafe finds matchers that keep requests from larder by which pages change.
func (c *checker) checkUnsafe(s *server, at *handler) (found bool) {
	for k := range at.frames {
		if text := at.keeps(s, k); text != "" && !s.takenElsewhere(at, k) {
			c.report(at, "", "", "%s", text)
			return true
		}
	}
	if s.membersPassBy(at) {
		c.report(at, "", "", "a handle beside this one takes all requests with a cookie, "+invalidatesNothing+
			"write its matcher as a block of two lines, `method GET HEAD` and that of the cookie, so that only reading goes there")
		return true
	}
	return false
}

// keeps says what the matcher of a route around larder keeps away; empty where it may let a POST of
// each client come. Of methods alone another rule may have said so.
func (at *handler) keeps(s *server, k int) string {
	f := &at.frames[k]
	sets := f.route().MatcherSetsRaw
	const onlyReading = "write `not` with a block of two lines, `method GET HEAD` and that of the cookie, so that only reading passes by"
	if len(sets) > 0 && !slices.ContainsFunc(sets, func(set caddy.ModuleMap) bool { return set["method"] != nil || !parts(set) }) {
		return "the matcher keeps all requests with a cookie from larder, " + invalidatesNothing + onlyReading
	}
	methods, told := methodsOf(sets)
	told = told && len(at.config.Invalidate) == 0 && at.config.PurgeMethod == nil && f.version == at.version
	if !told || !slices.Contains(methods, http.MethodGet) || slices.ContainsFunc(methods, unsafe) || !s.proxies(at.entry) {
		return ""
	}
	write := "take method out of it, and larder passes on what it does not cache"
	if slices.ContainsFunc(sets, parts) {
		write = onlyReading
	}
	return fmt.Sprintf("the matcher lets only %s come to larder, no POST that changes a page, and what does not come invalidates nothing; %s",
		strings.Join(methods, " "), write)
}

// proxies reports whether a request goes on to an origin from a handler. Files do not change by
// what a client sends.
func (s *server) proxies(at *entry) bool {
	return slices.ContainsFunc(s.after(at), func(e *entry) bool { return e.name == "reverse_proxy" })
}

// takenElsewhere reports whether requests that the route at.frames[k] keeps away may come to
// another larder with the same store, for all paths.
func (s *server) takenElsewhere(at *handler, k int) bool {
	return slices.ContainsFunc(s.larders, func(other *handler) bool {
		n := common(at.entry, other.entry)
		if other == at || other.zone() != at.zone() || other.site != at.site && other.site != "" || n > k || n < k && at.excludes(other, n) {
			return false
		}
		return !slices.ContainsFunc(other.frames[n:], func(f frame) bool {
			sets := f.route().MatcherSetsRaw
			methods, all := methodsOf(sets)
			return all && !slices.ContainsFunc(methods, unsafe) || len(sets) > 0 && !slices.ContainsFunc(sets, func(set caddy.ModuleMap) bool {
				return !parts(set) && set["path"] == nil && set["path_regexp"] == nil
			})
		})
	})
}

// excludes reports whether the routes in which the ways to two handlers part are of one group, of
// which one alone runs. n counts the routes around both.
func (at *handler) excludes(other *handler, n int) bool {
	if n >= len(at.frames) || n >= len(other.frames) || !at.frames[n].beside(&other.frames[n]) {
		return false
	}
	group := at.frames[n].route().Group
	return group != "" && group == other.frames[n].route().Group
}

func (at *handler) zone() string { return at.config.WithDefaults().Zone }

// membersPassBy reports whether a route that runs in place of one around larder takes requests with
// some cookie to an origin, of all methods and paths, and no larder stands on that way.
func (s *server) membersPassBy(at *handler) bool {
	if !s.proxies(at.entry) {
		return false
	}
	for k := range at.frames {
		f := &at.frames[k]
		for _, i := range f.instead() {
			if !slices.ContainsFunc(f.list[i].MatcherSetsRaw, isOfCookies) {
				continue
			}
			within := func(e *entry) bool { return k < len(e.frames) && e.frames[k].beside(f) && e.frames[k].index == i }
			cached := slices.ContainsFunc(s.entries, func(e *entry) bool {
				return e.name == "larder" && (within(e) || !within(at.entry) && e != at.entry && s.leadsInto(e, within))
			})
			if !cached && slices.ContainsFunc(s.entries, func(e *entry) bool { return e.name == "reverse_proxy" && !e.authenticates && within(e) }) {
				return true
			}
		}
	}
	return false
}

// leadsInto reports whether a request may go on from a handler to one of some.
func (s *server) leadsInto(from *entry, within func(*entry) bool) bool {
	return slices.ContainsFunc(s.entries, func(e *entry) bool { return within(e) && s.leads(from, e) })
}

// checkOneKey finds a larder for those with some cookie beside one for others, where both store
// under the same keys.
func (c *checker) checkOneKey(s *server, at *handler) {
	for _, other := range s.larders {
		if other.index <= at.index || other.site != at.site || other.zone() != at.zone() || !at.keysURLs() || !other.keysURLs() ||
			!reflect.DeepEqual(at.config.Key, other.config.Key) || !at.partedByCookie(other) {
			continue
		}
		there := other.path
		if p := other.places.Find("", ""); p.File != "" {
			there = fmt.Sprintf("%s:%d", p.File, p.Line)
		}
		c.report(at, "", "", "a cookie says whether a request comes here or to the larder at %s, and the cookie is not in the key: what one of the two stores, "+
			"such as the page of a member, the other answers with; write `cookie <name>` in `key` of the one that the cookie leads to, or `add member`, "+
			"where all members get the same page", there)
		return
	}
}

// keysURLs reports whether only the URL, the query and the body make keys, and answers come from
// the store.
func (at *handler) keysURLs() bool {
	k := at.config.Key
	return !at.config.Observe && (k == nil || len(k.Header)+len(k.Cookie)+len(k.Add) == 0)
}

// partedByCookie reports whether only a cookie decides to which of two larders a request comes.
func (at *handler) partedByCookie(other *handler) bool {
	n := common(at.entry, other.entry)
	if n >= len(at.frames) || n >= len(other.frames) || !at.frames[n].beside(&other.frames[n]) {
		return false
	}
	a, b := &at.frames[n], &other.frames[n]
	further := func(f frame) bool { return len(f.matchers) > 0 || f.response }
	if slices.ContainsFunc(at.frames[n+1:], further) || slices.ContainsFunc(other.frames[n+1:], further) ||
		a.version != at.version || b.version != other.version {
		return false
	}
	byCookie := func(f *frame) bool {
		sets := f.route().MatcherSetsRaw
		return len(sets) == 1 && (isOfCookies(sets[0]) || parts(sets[0]) && len(sets[0]) == 1 && expressionTest(sets[0]["expression"]) != noCookieBeside)
	}
	if !at.excludes(other, n) {
		return byCookie(a) && byCookie(b) && isOfCookies(a.route().MatcherSetsRaw[0]) != isOfCookies(b.route().MatcherSetsRaw[0])
	}
	for _, set := range between(a, b) {
		if set["path"] == nil { // who comes to the later one is not known
			return false
		}
	}
	return byCookie(a) && (len(b.matchers) == 0 || byCookie(b))
}

// between lists the sets of matchers of the routes between two, with an empty one for a route that
// has none.
func between(a, b *frame) (sets []caddy.ModuleMap) {
	for _, route := range a.list[a.index+1 : b.index] {
		if len(route.MatcherSetsRaw) == 0 {
			sets = append(sets, nil)
		}
		sets = append(sets, route.MatcherSetsRaw...)
	}
	return sets
}

// parts reports whether a set of matchers lets no request come that has some cookie, whatever its
// method and path are.
func parts(set caddy.ModuleMap) bool {
	var header map[string]json.RawMessage
	if json.Unmarshal(set["header"], &header) == nil && string(header["Cookie"]) == "null" {
		return true // header !Cookie
	}
	if test := expressionTest(set["expression"]); test == wantsNoCookie || test == noCookieBeside {
		return true
	}
	var not []caddy.ModuleMap
	return json.Unmarshal(orEmpty(set["not"]), &not) == nil && slices.ContainsFunc(not, isOfCookies)
}

// isOfCookies reports whether a set of matchers looks at nothing but whether a request has some
// cookie.
func isOfCookies(set caddy.ModuleMap) bool {
	for name, raw := range set {
		if name == "expression" && expressionTest(raw) == wantsCookie {
			continue
		}
		var fields map[string]json.RawMessage
		if name != "header" && name != "header_regexp" || json.Unmarshal(raw, &fields) != nil || len(fields) != 1 ||
			len(fields["Cookie"]) == 0 || string(fields["Cookie"]) == "null" {
			return false
		}
	}
	return len(set) > 0
}

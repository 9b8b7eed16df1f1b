package check

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/internal/advice"
)

// checkHandler looks at one larder handler.
func (c *checker) checkHandler(s *server, at *handler) {
	if at.err != nil {
		c.report(at, "", "", "%v", at.err)
		c.zones = nil
		return
	}
	if c.zones != nil {
		c.zones[at.config.Zone] = true
	}
	c.checkOrder(s, at)
	for _, w := range at.config.Warnings() {
		c.report(at, w.Words, w.Value, "%s", w)
	}
	if at.config.Observe {
		c.report(at, "observe", "", "each request is answered by the origin, and nothing from the store; take observe out when you have seen enough")
	}
	c.checkCookies(s, at)
	c.checkWords(s, at)
	c.checkMatchers(at)
	c.checkUnseen(s, at)
	c.checkOneKey(s, at)
	c.checkInvalidate(at)
	c.checkBatch(at)
	c.checkPurgeMethod(s, at)
	c.checkAgainstApp(at)
}

// checkCookies finds lifetimes that apply to no visitor with a cookie.
func (c *checker) checkCookies(s *server, at *handler) {
	words := at.assumes()
	if words == "" || at.keysCookies() || slices.ContainsFunc(s.before(at.entry), (*entry).dropsCookies) {
		return
	}
	for _, f := range at.frames {
		for _, set := range f.route().MatcherSetsRaw {
			for _, raw := range set {
				if strings.Contains(strings.ToLower(string(raw)), "cookie") {
					return
				}
			}
		}
	}
	if slices.ContainsFunc(s.after(at.entry), (*entry).dropsCookies) {
		c.reportOnce("cookies behind "+words, at, words, "a handler behind larder takes cookies out of requests, and larder has seen them already, so %s gives no lifetime to the answer "+
			"to a request with a cookie; write that handler above larder", words)
		return
	}
	c.reportOnce("cookies "+words, at, words, "%s gives no lifetime to the answer to a request with a cookie that is not in the key, and most browsers send some, "+
		"if only those of analytics; %s", words, advice.Cookies())
}

// assumes is the first word that gives responses a lifetime which the origin has not stated.
func (at *handler) assumes() string {
	switch c := &at.config; {
	case len(c.TTL) > 0:
		return "ttl"
	case len(c.ForceTTL) > 0:
		return "force_ttl"
	case c.Heuristic:
		return "heuristic"
	}
	return ""
}

func (at *handler) keysCookies() bool {
	k := at.config.Key
	return k != nil && (len(k.Cookie) > 0 || strings.Contains(strings.ToLower(strings.Join(append(slices.Clone(k.Header), k.Add...), " ")), "cookie"))
}

// checkMatchers finds requests that the matchers in front let none of come.
func (c *checker) checkMatchers(at *handler) {
	for _, f := range at.frames {
		methods, all := methodsOf(f.route().MatcherSetsRaw)
		if !all || f.version != at.version {
			continue
		}
		cached := at.config.WithDefaults().Methods
		has := func(list []string) bool {
			return slices.ContainsFunc(list, func(m string) bool { return slices.Contains(methods, m) })
		}
		if !has(cached) {
			write := "write another matcher"
			if more := slices.DeleteFunc(slices.Clone(methods), func(m string) bool { return m != http.MethodPost && m != "QUERY" }); len(more) > 0 {
				write += ", or methods GET HEAD " + strings.Join(more, " ")
			}
			c.report(at, "", "", "the matcher lets only %s come to larder, which caches %s; %s", strings.Join(methods, " "), strings.Join(cached, " "), write)
			return
		}
		if at.config.PurgeMethod != nil && !has([]string{"PURGE"}) {
			c.report(at, "purge_method", "", "the matcher lets only %s come to larder, so no PURGE does; add PURGE to its methods", strings.Join(methods, " "))
		}
		if len(at.config.Invalidate) > 0 && !slices.ContainsFunc(methods, unsafe) {
			c.report(at, "invalidate", "", "the matcher lets only %s come to larder, and none of them invalidates anything; "+
				"have it let unsafe requests come, too, such as POST", strings.Join(methods, " "))
		}
	}
}

func unsafe(method string) bool {
	return !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, "QUERY"}, method)
}

// checkInvalidate finds rules that no request can match.
func (c *checker) checkInvalidate(at *handler) {
	here, limited := at.ownPaths()
	for _, rule := range at.config.Invalidate {
		if methods, all := methodsOf(rule.MatcherSetsRaw); all && !slices.ContainsFunc(methods, unsafe) {
			c.report(at, "invalidate", "", "invalidate is for unsafe requests, and its matcher lets only %s come; match POST, PUT or another such method",
				strings.Join(methods, " "))
		}
		paths, all := pathsOf(rule.MatcherSetsRaw)
		if all && limited && !slices.ContainsFunc(paths, func(p string) bool {
			return slices.ContainsFunc(here, func(h string) bool { return overlap(p, h) })
		}) {
			value := paths[0]
			c.report(at, "invalidate", value, "no request matches: invalidate is for %s, and larder's own matcher lets only %s come; widen one of the two",
				strings.Join(paths, " "), strings.Join(here, " "))
		}
	}
}

// ownPaths returns the patterns of paths that larder's own matcher lets come, and whether these are
// all: they are not where a handler in between may change the path.
func (at *handler) ownPaths() (paths []string, all bool) {
	own := at.innermost()
	paths, all = pathsOf(own.route().MatcherSetsRaw)
	return paths, all && own.version == at.version
}

// checkBatch finds batches whose paths do not come.
func (c *checker) checkBatch(at *handler) {
	here, limited := at.ownPaths()
	for _, b := range at.config.Batch {
		head, _, _ := strings.Cut(b.Path, "{")
		if limited && !slices.ContainsFunc(here, func(h string) bool { return overlap(head+"*", h) }) {
			c.report(at, "batch", b.Path, "no request matches: batch is for %s, and larder's own matcher lets only %s come; widen the matcher",
				b.Path, strings.Join(here, " "))
		}
	}
}

// checkAgainstApp finds words that the global option leaves without effect.
func (c *checker) checkAgainstApp(at *handler) {
	if c.unread {
		return
	}
	zone := at.config.WithDefaults().Zone
	if err := cfg.CheckZone(zone, c.zoneNames()); err != nil {
		c.report(at, "zone", zone, "%v", err)
		return
	}
	for _, store := range c.app.Stores() {
		if store.Zone == zone && at.config.MaxBody > store.MaxBody {
			c.report(at, "max_body", "", "max_body of the zone %s is smaller, and holds; raise that one in the global option", zone)
		}
	}
	if at.config.Shared != nil && len(c.app.Shared) == 0 {
		c.report(at, "shared", "", "the global option has no shared, so there are no other machines to share with; add it there, or leave it out here")
	}
}

// methodsOf returns the methods that matchers let come, and whether these are all.
func methodsOf(sets caddyhttp.RawMatcherSets) (methods []string, all bool) {
	return listsOf(sets, "method")
}

// pathsOf returns the patterns of paths that matchers let come, and whether these are all.
func pathsOf(sets caddyhttp.RawMatcherSets) (paths []string, all bool) {
	return listsOf(sets, "path")
}

// listsOf joins what a matcher that is a list has in all sets.
func listsOf(sets []caddy.ModuleMap, matcher string) (list []string, all bool) {
	for _, set := range sets {
		var own []string
		if caddy.StrictUnmarshalJSON(orEmpty(set[matcher]), &own) != nil || len(own) == 0 {
			return nil, false
		}
		list = append(list, own...)
	}
	return list, len(sets) > 0
}

// overlap reports whether a path may match both patterns of Caddy's path matcher. Of those that are
// no path with at most a * at its end it is not known.
func overlap(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	x, openX := strings.CutSuffix(a, "*")
	y, openY := strings.CutSuffix(b, "*")
	if strings.ContainsAny(x, "*{?[%") || strings.ContainsAny(y, "*{?[%") {
		return true
	}
	switch {
	case openX && openY:
		return strings.HasPrefix(x, y) || strings.HasPrefix(y, x)
	case openX:
		return strings.HasPrefix(y, x)
	case openY:
		return strings.HasPrefix(x, y)
	}
	return x == y
}

// zoneNames are those of the configuration.
func (c *checker) zoneNames() []string {
	return append([]string{cfg.DefaultZone}, slices.Sorted(maps.Keys(c.app.Zones))...)
}

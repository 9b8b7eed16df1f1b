package check

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// checkWords finds words of the directive that do something else here than they say, or more.
func (c *checker) checkWords(s *server, at *handler) {
	ignored := make([]string, 0, len(at.config.Ignore))
	for _, name := range at.config.Ignore {
		ignored = append(ignored, http.CanonicalHeaderKey(name))
	}
	if slices.Contains(ignored, "Pragma") && !slices.Contains(ignored, "Cache-Control") && len(at.config.ForceTTL) == 0 &&
		slices.ContainsFunc(s.after(at.entry), func(e *entry) bool { return e.name == "reverse_proxy" }) {
		c.report(at, "ignore", "Pragma", "behind reverse_proxy it has no effect: Go's HTTP client adds `Cache-Control: no-cache` to a response that has "+
			"`Pragma: no-cache` alone; write ignore Pragma Cache-Control, in a larder of its own for these paths, with a ttl")
	}
	c.checkSetCookie(at)
	c.checkOverrides(at)
	c.checkQuery(at)
}

// checkSetCookie finds that visitors get the cookies of others. A cookie in the key does not tell
// apart those who have none yet, and they are the ones for whom sessions are begun.
func (c *checker) checkSetCookie(at *handler) {
	whom := "each visitor gets"
	switch {
	case at.config.SetCookie != "store":
		return
	case at.keysCookies():
		whom = "visitors who come without the cookie of `key` share one answer, so each of them gets"
	}
	c.report(at, "set_cookie", "store", "%s the cookies that were set for the one who came first, that of a session as well; "+
		"write set_cookie strip, or leave it out", whom)
}

// checkOverrides finds a larder for all requests that passes over what the origin says of who may
// share a response.
func (c *checker) checkOverrides(at *handler) {
	if slices.ContainsFunc(at.frames, func(f frame) bool { return narrows(f.route().MatcherSetsRaw) }) {
		return
	}
	for _, name := range at.config.Ignore {
		var why string
		switch http.CanonicalHeaderKey(name) {
		case "Cache-Control":
			why = "what the origin calls private or no-store is stored for all, and its lifetimes are lost"
		case "Set-Cookie":
			why = "a page that was made for one session is stored for all, without its cookie"
		default:
			continue
		}
		c.report(at, "ignore", name, "%s, on all paths; give larder a matcher of the paths that everybody may see", why)
	}
}

// narrows reports whether matchers look at more than the host: some requests of the site do not
// come.
func narrows(sets caddyhttp.RawMatcherSets) bool {
	return len(sets) > 0 && !slices.ContainsFunc(sets, func(set caddy.ModuleMap) bool {
		return !slices.ContainsFunc(slices.Collect(maps.Keys(set)), func(name string) bool { return name != "host" && name != "method" })
	})
}

// checkQuery finds a key without the query where no matcher says for which paths that is meant.
func (c *checker) checkQuery(at *handler) {
	k := at.config.Key
	if k == nil || k.Query == nil || !slices.Contains(k.Query.Ignore, "*") || at.limitedToPaths() {
		return
	}
	forced := ""
	if len(at.config.ForceTTL) > 0 {
		forced = ", which force_ttl keeps whatever the origin says of it"
	}
	c.report(at, "key query ignore", "*", "the whole query is left out, of the key and of what the origin is asked for: /search?q=a and /search?q=b get the same answer%s; "+
		"write query only <name>…, or query ignore utm_* and others that change no page, or give larder a matcher of the paths for which it is meant", forced)
}

// limitedToPaths reports whether some matcher around larder looks at the path.
func (at *handler) limitedToPaths() bool {
	return slices.ContainsFunc(at.frames, func(f frame) bool {
		return slices.ContainsFunc(f.route().MatcherSetsRaw, func(set caddy.ModuleMap) bool {
			return slices.ContainsFunc([]string{"path", "path_regexp", "file"}, func(name string) bool { return set[name] != nil }) ||
				strings.Contains(string(set["expression"]), "path") || strings.Contains(string(set["not"]), `"path`)
		})
	})
}

// checkUnseen finds requests that do not come to larder, where something is meant to happen to them
// there.
func (c *checker) checkUnseen(s *server, at *handler) {
	if c.checkUnsafe(s, at) {
		return
	}
	if slices.ContainsFunc(s.larders, func(other *handler) bool { return other != at && (other.site == at.site || other.site == "") }) {
		return
	}
	for _, e := range s.sites[at.site] {
		if placeholder := e.writesPlaceholder(); placeholder != "" && at.limitedBeside(e) {
			c.report(at, "", "", "header writes %s also where no request comes to larder, and clients get that as it is written; give header the matcher of larder", placeholder)
			return
		}
	}
}

// writesPlaceholder returns a placeholder of larder that a header directive writes into responses;
// empty if it does not.
func (e *entry) writesPlaceholder() string {
	var config struct {
		Response json.RawMessage `json:"response"`
	}
	if e.name != "headers" || json.Unmarshal(e.raw, &config) != nil {
		return ""
	}
	_, rest, found := strings.Cut(string(config.Response), "{http.larder.")
	name, _, closed := strings.Cut(rest, "}")
	if !found || !closed {
		return ""
	}
	return "{http.larder." + name + "}"
}

// limitedBeside reports whether a matcher stands before this handler that does not stand before
// another one, which has none of its own.
func (e *entry) limitedBeside(other *entry) bool {
	n := common(e, other)
	hasMatcher := func(f frame) bool { return len(f.matchers) > 0 }
	return slices.ContainsFunc(e.frames[n:], hasMatcher) && !slices.ContainsFunc(other.frames[n:], hasMatcher)
}

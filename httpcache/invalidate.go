package httpcache

import (
	"log/slog"
	"net/http"
	"net/url"
	"slices"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
	"github.com/larder-cache/larder/urlform"
)

// InvalidateRule says what successful unsafe requests invalidate beside their own URL.
type InvalidateRule struct {
	// Match reports whether a request is one that the rule is for.
	Match func(*http.Request) (bool, error)
	// Tags and URLs are texts with placeholders, expanded when the request has succeeded.
	Tags, URLs []string
	Soft       bool
}

// invalidation is what a request with an unsafe method will invalidate if it succeeds (RFC 9111 4.4): its URL and what the rules say that
// matched before the inner handlers rewrote anything.
type invalidation struct {
	q         *Request
	method    string // as the client sent it: an inner handler may write another into the request
	url       string // as the client sent it; empty where that is none
	storedURL string // url at the listener that the request came in by
	rules     []*InvalidateRule
}

// invalidation returns nil for safe methods and for POST where the operator says so, for CONNECT, whose success is a tunnel and no change of
// what is stored (RFC 9110 9.3.6), and while no store is open.
func (q *Request) invalidation() *invalidation {
	if q.r.Method == http.MethodPost && q.route.Policy.SafePost {
		return nil
	}
	if q.r.Method == http.MethodConnect || !rfc9111.Invalidates(q.r.Method, http.StatusOK) || !q.cache.open(q.r.Context()) {
		return nil
	}
	in := &invalidation{q: q, method: q.r.Method}
	if q.keyed.Purgeable { // otherwise nothing is stored for others
		in.storedURL = new(KeyRules).storedURL(&q.keyed)
		in.url = store.BareURL(in.storedURL)
	}
	for i := range q.route.Invalidate {
		rule := &q.route.Invalidate[i]
		matched, err := rule.Match(q.r)
		if err != nil {
			q.route.Logger.Error("matching an invalidate rule", slog.Any("error", err))
			continue
		}
		if matched {
			in.rules = append(in.rules, rule)
		}
	}
	return in
}

// onHeader invalidates before the client hears of its success, so that what it asks for next is new.
func (in *invalidation) onHeader(status int, header http.Header) {
	if !rfc9111.Invalidates(in.method, status) {
		return
	}
	hard, soft := store.Selectors{}, store.Selectors{}
	if in.url != "" {
		in.selectOwn(&hard, header)
	}
	for _, rule := range in.rules {
		to := &hard
		if rule.Soft {
			to = &soft
		}
		// A placeholder may stand for nothing: a field that this request has not got.
		to.Tags = append(to.Tags, in.possibleTags(rule.Tags)...)
		for _, text := range filled(in.q.expandURLs(rule.URLs)) {
			to.URLs = append(to.URLs, in.named(text)...)
		}
	}
	in.purge(&hard, PurgeOptions{})
	in.purge(&soft, PurgeOptions{PurgeOptions: store.PurgeOptions{Soft: true}})
}

// possibleTags are the tags that texts stand for. What can be no tag is on no response.
func (in *invalidation) possibleTags(texts []string) []string {
	return slices.DeleteFunc(filled(in.q.expand(texts)), func(tag string) bool {
		if rfc9111.ValidTag(tag) {
			return false
		}
		in.q.route.Logger.Warn("nothing is invalidated by what is no tag: a tag is 1 to 256 bytes of visible ASCII", slog.String("tag", tag))
		return true
	})
}

func filled(texts []string) []string {
	return slices.DeleteFunc(texts, func(text string) bool { return text == "" })
}

// named are the URLs that a text of `urls` stands for: a path, or an absolute URL of the request's host, as in WebDAV's Destination
// (RFC 4918 10.3). Its scheme does not count: a proxy in front may have taken TLS away. Another host is not the client's to name.
func (in *invalidation) named(text string) []string {
	if in.url == "" {
		return nil
	}
	origin := in.q.keyed.origin()
	if text[0] == '/' {
		return in.normalized(origin + text)
	}
	u, err := url.Parse(text)
	if err == nil {
		authority, badHost := urlform.Authority(u.Scheme, u.Host)
		if badHost == nil && (u.Scheme == "http" || u.Scheme == "https") && authority == in.q.keyed.Site.Authority {
			return in.normalized(urlform.Absolute(in.q.keyed.Site.Scheme, authority, u))
		}
	}
	in.q.route.Logger.Warn("nothing is invalidated by what is neither a path nor a URL of the request's host", slog.String("url", text))
	return nil
}

// selectOwn adds what every unsafe request invalidates that succeeds: its URL, those of the same origin that the response names, and the
// groups that it names (RFC 9875 3).
func (in *invalidation) selectOwn(hard *store.Selectors, header http.Header) {
	hard.URLs = in.normalized(in.url)
	if len(header["Location"]) > 0 || len(header["Content-Location"]) > 0 {
		if target, err := url.Parse(in.url); err == nil {
			for _, u := range rfc9111.InvalidatedURLs(target, header) {
				hard.URLs = append(hard.URLs, in.normalized(u)...)
			}
		}
	}
	for _, group := range rfc9111.CacheGroups(header, "Cache-Group-Invalidation") {
		hard.Tags = append(hard.Tags, groupTag(in.q.keyed.origin(), in.q.keyed.listenerName(), group))
	}
}

// normalized are the URLs under which what raw names may be stored, at the listener that the request came in by: its Host is the client's
// word, and another listener's sites are not this one's to change.
func (in *invalidation) normalized(raw string) []string {
	if raw == in.url && !in.q.route.siblings.rewrites.Load() {
		return []string{in.storedURL} // it is normal, but for the rules that handlers may have for queries
	}
	urls, err := StoredURLs(raw, in.q.route.siblings.Rules())
	if err != nil {
		in.q.route.Logger.Warn("nothing is invalidated by a URL that cannot be read", slog.String("url", raw), slog.Any("error", err))
	}
	for i := range urls {
		urls[i] = store.URLAt(urls[i], in.q.keyed.listenerName())
	}
	return urls
}

// purge leaves out what would change nothing, as most unsafe requests would.
func (in *invalidation) purge(selectors *store.Selectors, options PurgeOptions) {
	if len(selectors.URLs) == 0 && len(selectors.Tags) == 0 {
		return
	}
	options.UnlessNoop = true
	c := in.q.cache
	_, err := c.purger.Purge(in.q.r.Context(), *selectors, options)
	if failed := err != nil; c.undurable.Swap(failed) != failed && failed { // once, until one succeeds
		in.q.route.Logger.Error("an invalidation could not be made durable; it holds in memory, as those that follow", slog.Any("error", err))
	}
}

package larder

import (
	"hash/maphash"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
	"github.com/larder-cache/larder/urlform"
)

// invalidateRule is one `invalidate` block of the directive.
type invalidateRule struct {
	matchers   caddyhttp.MatcherSets
	tags, urls []string
	soft       bool
}

// invalidation is what a request with an unsafe method will invalidate if it succeeds (RFC 9111 4.4): its URL and what the rules say that
// matched before the inner handlers rewrote anything.
type invalidation struct {
	q         *request
	method    string // as the client sent it: an inner handler may write another into the request
	url       string // as the client sent it; empty where that is none
	storedURL string // url at the listener that the request came in by
	rules     []*invalidateRule
}

// invalidation returns nil for safe methods and for POST where the operator says so, for CONNECT, whose success is a tunnel and no change of
// what is stored (RFC 9110 9.3.6), and while no store is open.
func (q *request) invalidation() *invalidation {
	if q.r.Method == http.MethodPost && q.h.SafePost {
		return nil
	}
	if q.r.Method == http.MethodConnect || !rfc9111.Invalidates(q.r.Method, http.StatusOK) || !q.h.app.open(q.r.Context()) {
		return nil
	}
	in := &invalidation{q: q, method: q.r.Method}
	if q.purgeable { // otherwise nothing is stored for others
		in.storedURL = new(keying).storedURL(&q.keyed)
		in.url = store.BareURL(in.storedURL)
	}
	for i := range q.h.invalidate {
		rule := &q.h.invalidate[i]
		matched, err := rule.matchers.AnyMatchWithError(q.r)
		if err != nil {
			q.h.logger.Error("matching an invalidate rule", zap.Error(err))
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
		if rule.soft {
			to = &soft
		}
		// A placeholder may stand for nothing: a field that this request has not got.
		to.Tags = append(to.Tags, in.possibleTags(rule.tags)...)
		for _, text := range filled(in.q.expandURLs(rule.urls)) {
			to.URLs = append(to.URLs, in.named(text)...)
		}
	}
	in.purge(&hard, store.PurgeOptions{})
	in.purge(&soft, store.PurgeOptions{Soft: true})
}

// possibleTags are the tags that texts stand for. What can be no tag is on no response.
func (in *invalidation) possibleTags(texts []string) []string {
	return slices.DeleteFunc(filled(in.q.expand(texts)), func(tag string) bool {
		if rfc9111.ValidTag(tag) {
			return false
		}
		in.q.h.logger.Warn("nothing is invalidated by what is no tag: a tag is 1 to 256 bytes of visible ASCII", zap.String("tag", tag))
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
		if badHost == nil && (u.Scheme == "http" || u.Scheme == "https") && authority == in.q.keyed.site.authority {
			return in.normalized(urlform.Absolute(in.q.keyed.site.scheme, authority, u))
		}
	}
	in.q.h.logger.Warn("nothing is invalidated by what is neither a path nor a URL of the request's host", zap.String("url", text))
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
	if raw == in.url && !in.q.h.app.rewritesQueries() {
		return []string{in.storedURL} // it is normal, but for the rules that handlers may have for queries
	}
	urls, err := normalizeURL(raw, in.q.h.app.rules())
	if err != nil {
		in.q.h.logger.Warn("nothing is invalidated by a URL that cannot be read", zap.String("url", raw), zap.Error(err))
	}
	for i := range urls {
		urls[i] = store.URLAt(urls[i], in.q.keyed.listenerName())
	}
	return urls
}

// purge leaves out what would change nothing, as most unsafe requests would.
func (in *invalidation) purge(selectors *store.Selectors, options store.PurgeOptions) {
	if len(selectors.URLs) == 0 && len(selectors.Tags) == 0 {
		return
	}
	p := in.q.cache
	var room [4]*cache // on the stack: most find nothing to purge
	all := p.withOthers(room[:0])
	if slices.ContainsFunc(all, func(p *cache) bool { return p.maySearch(selectors) }) {
		reachSearched(selectors)
	}
	touched := slices.DeleteFunc(all, func(p *cache) bool {
		return p.store.PurgeIsNoop(selectors, func() bool { return p.inFlight.any(selectors) })
	})
	if len(touched) == 0 {
		purges.Add(1) // the second count, see withOthers: a store that is closed may have what it names
		return
	}
	_, err := p.purgeAll(slices.Clone(touched), *selectors, options)
	if failed := err != nil; p.undurable.Swap(failed) != failed && failed { // once, until one succeeds
		in.q.h.logger.Error("an invalidation could not be made durable; it holds in memory, as those that follow", zap.Error(err))
	}
}

// maySearch reports whether anything may be stored, or on its way, that answers for the URLs of
// selectors without being stored under them. Else most unsafe requests would make tags for nothing.
func (p *cache) maySearch(selectors *store.Selectors) bool {
	return p.key != memoryOnly || p.varianceHints.used.Load() ||
		slices.ContainsFunc(selectors.URLs, func(url string) bool { return p.inFlight.of(url).Load() > 0 })
}

// inFlight counts the fetches under way by the hash of their URL without the query, so that an invalidation can tell, nearly always,
// whether there is one that it could hit: by its path too, see searchTag. URLs with the same place are taken for one.
type inFlight struct {
	total  atomic.Int32
	byPath [1 << 10]atomic.Int32
}

var fetchingSeed = maphash.MakeSeed()

func (f *inFlight) of(url string) *atomic.Int32 {
	path, _, _ := strings.Cut(store.BareURL(url), "?")
	return &f.byPath[maphash.String(fetchingSeed, path)%uint64(len(f.byPath))]
}

// any reports whether a fetch is under way whose response the selectors, which are URLs and tags, may name. Its tags nobody knows yet, but
// those of its path.
func (f *inFlight) any(selectors *store.Selectors) bool {
	if slices.ContainsFunc(selectors.Tags, func(tag string) bool { return !strings.HasPrefix(tag, searchTagPrefix) }) {
		return f.total.Load() > 0
	}
	return slices.ContainsFunc(selectors.URLs, func(url string) bool { return f.of(url).Load() > 0 })
}

// ticket is the store's, counted in fetching from before it is opened until after it has ended.
type ticket struct {
	*store.Ticket
	fetching *inFlight
	byPath   *atomic.Int32
}

// begin opens the ticket of a fetch of url.
func (p *cache) begin(url string) ticket {
	t := ticket{fetching: &p.inFlight, byPath: p.inFlight.of(url)}
	t.fetching.total.Add(1)
	t.byPath.Add(1)
	t.Ticket = p.store.Begin()
	return t
}

// End closes the ticket, once.
func (t ticket) End() {
	t.Ticket.End()
	t.byPath.Add(-1)
	t.fetching.total.Add(-1)
}

package larder

import (
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// invalidateRule is one `invalidate` block of the directive.
type invalidateRule struct {
	matchers   caddyhttp.MatcherSets
	tags, urls []string
	soft       bool
}

// invalidation is what a request with an unsafe method will invalidate if it succeeds (RFC 9111 4.4): the rules that matched before the
// inner handlers rewrote anything.
type invalidation struct {
	q      *request
	target *url.URL
	rules  []*invalidateRule
}

// invalidation returns nil for safe methods and while no store is open.
func (q *request) invalidation() *invalidation {
	if !rfc9111.Invalidates(q.r.Method, http.StatusOK) || !q.h.app.open(q.r.Context()) {
		return nil
	}
	q.keyed.scheme = schemeOf(q.r)
	q.keyed.authority = canonicalAuthority(q.keyed.scheme, q.r.Host)
	client := *clientURL(q.r)
	q.keyed.client = &client
	target, err := url.Parse(q.url())
	if err != nil {
		return nil
	}
	in := &invalidation{q: q, target: target}
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
	if !rfc9111.Invalidates(in.q.r.Method, status) {
		return
	}
	origin := in.q.keyed.scheme + "://" + in.q.keyed.authority
	hard, soft := store.Selectors{}, store.Selectors{}
	hard.URLs = in.normalized((&keying{}).entryURL(in.q.keyed.scheme, in.q.keyed.authority, in.q.keyed.client))
	for _, u := range rfc9111.InvalidatedURLs(in.target, header) {
		hard.URLs = append(hard.URLs, in.normalized(u)...)
	}
	for _, group := range rfc9111.CacheGroups(header, "Cache-Group-Invalidation") {
		hard.Tags = append(hard.Tags, groupTag(origin, group))
	}
	for _, rule := range in.rules {
		to := &hard
		if rule.soft {
			to = &soft
		}
		to.Tags = append(to.Tags, in.q.expand(rule.tags)...)
		for _, path := range in.q.expand(rule.urls) {
			to.URLs = append(to.URLs, in.normalized(origin+path)...)
		}
	}
	in.purge(hard, store.PurgeOptions{})
	in.purge(soft, store.PurgeOptions{Soft: true})
}

func (in *invalidation) normalized(raw string) []string {
	urls, err := normalizeURL(raw, in.q.h.app.rules())
	if err != nil {
		in.q.h.logger.Warn("nothing is invalidated by a URL that cannot be read", zap.String("url", raw), zap.Error(err))
	}
	return urls
}

func (in *invalidation) purge(selectors store.Selectors, options store.PurgeOptions) {
	if len(selectors.URLs) == 0 && len(selectors.Tags) == 0 {
		return
	}
	if _, err := in.q.pantry.store.Purge(selectors, options); err != nil {
		in.q.h.logger.Error("an invalidation could not be made durable; it holds in memory", zap.Error(err))
	}
}

package httpcache

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
	"github.com/larder-cache/larder/urlform"
)

// InvalidateRule says what successful unsafe requests invalidate besides their own URL.
type InvalidateRule struct {
	// Match reports whether the rule applies to a request.
	Match func(*http.Request) (bool, error)
	// Tags and URLs are texts with placeholders, which are expanded when the request has succeeded.
	Tags, URLs []string
	// Soft marks stale what it names, which is removed otherwise.
	Soft bool
}

// invalidation is what a request with an unsafe method invalidates if it succeeds (RFC 9111 4.4):
// its URL, and what the matching rules say. The rules are matched before handlers behind the cache
// rewrite the request.
type invalidation struct {
	q        *Request
	ctx      context.Context // the client's, without its end: handlers may replace the request's
	method   string          // as the client sent it: handlers may write another into the request
	targets  []target        // see setTargets
	room     [2]target       // of targets, as nearly all have no more
	rules    []*InvalidateRule
	expanded bool // the texts of rules are
}

// target is the URL that the origin is asked for.
type target struct {
	site      Site
	url       string
	storedURL string // url at the listener that the request came in by
}

// setTargets has as targets the request's URL as a trusted proxy names it, and as the request
// itself does, if that is another. A proxy may pass on what its client says of the host. Then the
// one names a URL that no client asks for, and the page is stored under the other. If it names
// another site's page, that page is fetched once more.
//
// Where a Host is part of no URL the name in it counts: that is what the site was found by, and
// what the origin reads. Pages of that name are stored under the port of its scheme, or under that
// of the connection. There is no target where nothing is stored under what the origin is asked for.
func (in *invalidation) setTargets() {
	k := &in.q.keyed
	if !k.reachesPath() {
		return
	}
	in.targets = in.room[:0]
	in.addTarget(k.Site)
	in.addTarget(Site{k.scheme(), k.Authority})
	if k.Authority == "" {
		in.addName(k.scheme(), in.q.r.Host)
	}
	if claim := nearest(in.q.r.Header["X-Forwarded-Host"]); k.Trusted && claim != "" {
		in.addName(k.Site.Scheme, claim)
	}
}

// addName adds the targets at the name in a Host that is part of no URL. A Host that is part of one
// adds nothing.
func (in *invalidation) addName(scheme, host string) {
	if _, err := urlform.Authority(scheme, host); err == nil {
		return
	}
	name := nameIn(host)
	in.addHost(scheme, name)
	if port := in.q.keyed.Listener.Port; port > 0 {
		in.addHost(scheme, name+":"+strconv.Itoa(port))
	}
}

// addHost adds the target at a host. What is no authority adds nothing.
func (in *invalidation) addHost(scheme, host string) {
	if authority, err := urlform.Authority(scheme, host); err == nil {
		in.addTarget(Site{scheme, authority})
	}
}

// addTarget adds the request's path at a site, once. A site without an authority is none.
func (in *invalidation) addTarget(site Site) {
	if site.Authority == "" || slices.ContainsFunc(in.targets, func(t target) bool { return t.site == site }) {
		return
	}
	in.targets = append(in.targets, in.q.keyed.targetAt(site))
}

func (k *keyed) targetAt(site Site) target {
	stored := new(KeyRules).storedURLOf(k, site) // without query rules
	return target{site, store.BareURL(stored), stored}
}

// isSafePost reports whether a POST changes nothing: the operator says so, or it asks for a GraphQL
// query.
func (q *Request) isSafePost() bool {
	if q.route.Key.Body == BodyGraphQL {
		return q.keyed.content.isQuery()
	}
	return q.route.Policy.SafePost
}

// invalidation returns nil for safe methods, and for POST that changes nothing. It returns nil for
// CONNECT too: its success opens a tunnel and changes nothing that is stored (RFC 9110 9.3.6). And
// it returns nil for a request that has failed: what error routes answer is not the origin's word.
func (q *Request) invalidation() *invalidation {
	if q.r.Method == http.MethodPost && q.isSafePost() {
		return nil
	}
	if q.r.Method == http.MethodConnect || q.keyed.ErrorStatus != 0 || !rfc9111.Invalidates(q.r.Method, http.StatusOK) {
		return nil
	}
	// What the store knows of query rules of before names more of what changes. A store that is not
	// open by then is purged as well: it may have the page in its file, and another cache of the
	// process in memory.
	_ = q.storeOpen()
	in := &invalidation{q: q, ctx: context.WithoutCancel(q.r.Context()), method: q.r.Method}
	in.setTargets()
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

// beforehand returns the invalidation with its texts expanded now, while the client waits. A fetch
// carries it out if its client has left.
func (in *invalidation) beforehand() *invalidation {
	ahead := *in
	ahead.expanded, ahead.rules = true, nil
	for _, rule := range in.rules {
		ahead.rules = append(ahead.rules, &InvalidateRule{
			Tags: in.q.expand(rule.Tags), URLs: in.q.expandURLs(rule.URLs), Soft: rule.Soft,
		})
	}
	return &ahead
}

// unstored is what a fetch invalidates if its response is not stored in the end. An unsafe request
// whose response is stored invalidates nothing: the origin says by a lifetime that its answer holds
// for the next equal request, so it is a query. Without a stored answer nothing is left of that,
// and RFC 9111 4.4 holds: the body broke off or was too large, or the store refused it.
type unstored struct {
	invalidation *invalidation
	status       int
	header       http.Header // as it was at the header
}

// awaitStore notes what is to be invalidated unless the response is stored.
func (x *Fetch) awaitStore(status int, header http.Header) {
	if x.invalidation != nil {
		x.unstored.Store(&unstored{x.invalidation, status, header.Clone()})
	}
}

// notStored invalidates what awaitStore has noted, once. Any goroutine may call it. The fetch calls
// it before its clients have the end of the answer.
func (x *Fetch) notStored() {
	if u := x.unstored.Swap(nil); u != nil {
		u.invalidation.carryOut(u.status, u.header)
	}
}

// carryOut invalidates before the client learns that its request succeeded, so the client's next
// one is answered with the new state.
func (in *invalidation) carryOut(status int, header http.Header) {
	if !rfc9111.Invalidates(in.method, status) {
		return
	}
	read := store.LabelsNow()
	hard, soft := selection{severity: store.Hard, labels: read}, selection{severity: store.Soft, labels: read}
	for i := range in.targets {
		in.selectOwn(&in.targets[i], &hard.Selectors, header)
	}
	for _, rule := range in.rules {
		to := &hard
		if rule.Soft {
			to = &soft
		}
		in.selectNamed(to, rule)
	}
	named := len(in.rules) > 0 || len(header["Cache-Group-Invalidation"]) > 0
	if soft.empty() {
		in.purge(&hard, named, invalidateTime)
		return
	}
	until := time.Now().Add(invalidateTime)
	in.purge(&hard, named, invalidateTime)
	in.purge(&soft, named, max(time.Until(until), time.Nanosecond))
}

// selection is what an invalidation purges.
type selection struct {
	store.Selectors
	severity   store.Severity
	tags, urls []string // that rules name, for the log
	labels     store.LabelsTime
}

func (s *selection) empty() bool { return len(s.URLs) == 0 && len(s.Tags) == 0 }

// selectNamed adds what a rule names.
func (in *invalidation) selectNamed(to *selection, rule *InvalidateRule) {
	// A placeholder may be empty: the request may lack the field that it stands for.
	tags, urls := in.possibleTags(rule.Tags), filled(in.expandURLs(rule.URLs))
	to.Tags = append(to.Tags, tags...)
	for _, text := range urls {
		to.URLs = append(to.URLs, in.named(text)...)
	}
	to.tags, to.urls = append(to.tags, tags...), append(to.urls, urls...)
}

// possibleTags returns the tags that texts stand for. A text that is not a valid tag is on no
// response, so it is left out.
func (in *invalidation) possibleTags(texts []string) []string {
	return slices.DeleteFunc(filled(in.expand(texts)), func(tag string) bool {
		if rfc9111.ValidTag(tag) {
			return false
		}
		in.q.route.Logger.Warn(
			"nothing is invalidated by what is no tag: a tag is 1 to 256 bytes of visible ASCII",
			slog.String("tag", tag))
		return true
	})
}

func (in *invalidation) expand(texts []string) []string {
	if in.expanded {
		return slices.Clone(texts)
	}
	return in.q.expand(texts)
}

func (in *invalidation) expandURLs(texts []string) []string {
	if in.expanded {
		return slices.Clone(texts)
	}
	return in.q.expandURLs(texts)
}

func filled(texts []string) []string {
	return slices.DeleteFunc(texts, func(text string) bool { return text == "" })
}

// named returns the URLs that a text of `urls` stands for: a path, or an absolute URL of the
// request's host, as in WebDAV's Destination (RFC 4918 10.3). The scheme is not compared, because a
// proxy in front may have ended TLS. A client may not name another host.
func (in *invalidation) named(text string) []string {
	var urls []string
	for i := range in.targets {
		if at := &in.targets[i]; text[0] == '/' {
			urls = in.appendStored(urls, at, at.site.origin()+text)
		} else if absolute := at.site.absolute(text); absolute != "" {
			urls = in.appendStored(urls, at, absolute)
		}
	}
	if len(urls) == 0 && len(in.targets) > 0 {
		in.q.route.Logger.Warn(
			"nothing is invalidated by what is neither a path nor a URL of the request's host",
			slog.String("url", text))
	}
	return urls
}

// absolute is an absolute URL of the site's host in the site's scheme; empty for any other text.
func (s Site) absolute(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	authority, err := urlform.Authority(u.Scheme, u.Host)
	if err != nil || authority != s.Authority {
		return ""
	}
	return urlform.Absolute(s.Scheme, authority, u)
}

// selectOwn adds what every successful unsafe request invalidates: its URL, the URLs of the same
// origin that the response names, and the groups that it names (RFC 9875 3).
func (in *invalidation) selectOwn(at *target, hard *store.Selectors, header http.Header) {
	hard.URLs = in.appendStored(hard.URLs, at, at.url)
	if len(header["Location"]) > 0 || len(header["Content-Location"]) > 0 {
		if base, err := url.Parse(at.url); err == nil {
			for _, u := range rfc9111.InvalidatedURLs(base, header) {
				hard.URLs = in.appendStored(hard.URLs, at, u)
			}
		}
	}
	for _, group := range rfc9111.CacheGroups(header, "Cache-Group-Invalidation") {
		origin := at.site.origin()
		hard.Tags = append(hard.Tags, groupTag(origin, in.q.keyed.listenerName(), group),
			store.TagElsewhere(groupTag(origin, "", group), in.servers()))
	}
}

// appendStored appends the URLs under which responses to raw may be stored, as they are asked for
// at the listener of the request, and at every server that the configuration does not have.
//
// The client chooses Host, so a request must not change the sites of another listener. But what was
// stored at a server that has another name now, or is no more, is the site's all the same: the
// configuration may come back, the server of before may still end its requests, and other machines
// may have it yet. Purging a server's responses when a reload takes it away would reach none of
// these but the first, and would empty the cache with every second reload.
//
// Origins answer with the same where a path is spelt otherwise (%41 for A), so plainer spellings of
// what has changed are invalidated as well. Keys tell them apart all the same (C6).
func (in *invalidation) appendStored(urls []string, at *target, raw string) []string {
	urls = in.appendSpelled(urls, at, raw)
	for _, plainer := range urlform.Plainer(raw) {
		urls = in.appendSpelled(urls, at, plainer)
	}
	return urls
}

// appendSpelled is appendStored for one spelling.
func (in *invalidation) appendSpelled(urls []string, at *target, raw string) []string {
	rules := in.q.route.siblings.rulesAnd(in.q.cache().purger.PastRules())
	if raw == at.url && len(rules) == 0 && strings.IndexByte(raw, '%') < 0 { // it has one form
		return append(urls, at.storedURL, store.URLElsewhere(raw, in.servers()))
	}
	spelled, err := StoredURLs(raw, rules)
	if err != nil {
		in.q.route.Logger.Warn("nothing is invalidated by a URL that cannot be read",
			slog.String("url", raw), slog.Any("error", err))
	}
	for _, url := range spelled {
		urls = append(urls, store.URLAt(url, in.q.keyed.listenerName()), store.URLElsewhere(url, in.servers()))
	}
	return urls
}

// servers are those of the configuration, at which none but their own requests invalidate.
func (in *invalidation) servers() store.Servers { return in.q.route.siblings.Servers() }

// invalidateTime is how long a client waits for a slow disk until what its request invalidates is
// durable.
const invalidateTime = 10 * time.Second

// purge purges unless that would change nothing, as for most unsafe requests. What rules of the
// operator's name leaves a line in the log, as a purge by the admin API does.
func (in *invalidation) purge(s *selection, named bool, patience time.Duration) {
	if s.empty() {
		return
	}
	c := in.q.cache()
	options := PurgeOptions{
		PurgeOptions: store.PurgeOptions{Severity: s.severity, Patience: patience, Labels: s.labels}, UnlessNoop: true, Named: named,
	}
	// The client may have left, and what succeeded has to be invalidated all the same.
	stored, begun := s.mayBeStored(c), c.invalidatedBy.begin()
	matched, err := c.purger.Purge(in.ctx, s.Selectors, options)
	if matched > 0 {
		c.invalidatedBy.note(in, stored, begun)
	}
	if len(s.tags)+len(s.urls) > 0 {
		in.log(s, matched)
	}
	// Logged once, until an invalidation succeeds.
	if failed := err != nil; c.undurable.Swap(failed) != failed && failed {
		in.q.route.Logger.Error(
			"an invalidation could not be made durable; it holds in memory, as those that follow",
			slog.Any("error", err))
	}
}

// log says which request has purged what, and how many stored responses that was.
func (in *invalidation) log(s *selection, matched int) {
	attrs := []slog.Attr{slog.String("method", in.method), slog.String("url", in.q.URL())}
	if len(s.tags) > 0 {
		attrs = append(attrs, slog.Any("tags", s.tags))
	}
	if len(s.urls) > 0 {
		attrs = append(attrs, slog.Any("urls", s.urls))
	}
	attrs = append(attrs, slog.Bool("soft", s.severity == store.Soft), slog.Int("matched", matched))
	in.q.route.Logger.LogAttrs(in.ctx, slog.LevelInfo, "invalidate", attrs...)
}

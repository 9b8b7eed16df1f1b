package httpcache

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// varianceHints remembers for each path which query parameters make a difference, as its origin
// last said (No-Vary-Search): in the answer to the latest request, not in that which came last. It
// is a hint for building keys. After a restart it is what stored responses say, see restore. When a
// path has been pushed out, the next response to it brings the hint back. A stored response that is
// found by a hint is checked against its own field.
type varianceHints struct {
	used     atomic.Bool // so that a process whose origins never say it pays one load
	known    *lru.Cache[store.Key, varianceHint]
	restored atomic.Pointer[map[string]varianceHint] // by searchTag, for paths that are not known
	noting   sync.Mutex
}

// varianceHint is what the answer to a request of that time says. It says nothing of queries where
// an earlier answer did.
type varianceHint struct {
	says        rfc9111.SearchVariance
	requestTime time.Time
}

// searchPaths bounds how many paths are remembered, at some 200 bytes each.
const searchPaths = 1 << 14

func newVarianceHints() *varianceHints {
	known, err := lru.New[store.Key, varianceHint](searchPaths)
	if err != nil {
		panic(err) // only a size of zero is an error
	}
	return &varianceHints{known: known}
}

// variance returns what is known of the path of k.
func (s *varianceHints) variance(rules *KeyRules, k *keyed) rfc9111.SearchVariance {
	if !s.used.Load() {
		return rfc9111.SearchVariance{}
	}
	hint, _ := s.of(rules.pathKey(k), rules, k)
	return hint.says
}

func (s *varianceHints) of(path store.Key, rules *KeyRules, k *keyed) (varianceHint, bool) {
	if hint, ok := s.known.Get(path); ok {
		return hint, true
	}
	if restored := s.restored.Load(); restored != nil {
		hint, ok := (*restored)[searchTag(rules.storedURL(k))]
		return hint, ok
	}
	return varianceHint{}, false
}

// note remembers what the answer to a request says. It reports false if the answer to a later
// request has said otherwise. A request in the future is from before the clock was set back.
func (s *varianceHints) note(rules *KeyRules, k *keyed, said varianceHint) (holds bool) {
	path := rules.pathKey(k)
	s.noting.Lock()
	defer s.noting.Unlock()
	hint, known := s.of(path, rules, k)
	switch {
	case !known && said.says.IsDefault():
		return true
	case known && hint.requestTime.After(said.requestTime) && !hint.requestTime.After(time.Now()):
		return hint.says.Equal(said.says)
	}
	s.known.Add(path, said)
	s.used.Store(true)
	return true
}

// restoreTime bounds how long the first request waits for the hints of stored responses.
const restoreTime = 100 * time.Millisecond

// restore takes the hints from what is stored, as far as the time allows. A path of which nothing
// is found is known again by its next response.
func (s *varianceHints) restore(from *store.Store) {
	hints, until := make(map[string]varianceHint), time.Now().Add(restoreTime)
	err := from.EachNewestTagged(searchTagPrefix, func(tag string, e *store.Entry) bool {
		// A response has two such tags. That with the listener is the one that is looked for.
		if says := rfc9111.ParseNoVarySearch(e.Header); !says.IsDefault() && tag == searchTag(e.URL) {
			hints[tag] = varianceHint{says, e.RequestTime}
		}
		return len(hints) < searchPaths && time.Now().Before(until)
	})
	if err != nil || len(hints) == 0 {
		return // what was read before the error may still be written to
	}
	s.restored.Store(&hints)
	s.used.Store(true)
}

// pathKey is the key of k without its queries.
func (rules *KeyRules) pathKey(k *keyed) store.Key {
	path := *k
	path.URL, path.inner = withoutQuery(k.URL), withoutQuery(k.inner)
	path.variance = rfc9111.SearchVariance{}
	return rules.key(&path)
}

func withoutQuery(u *url.URL) *url.URL {
	c := *u
	c.RawQuery, c.ForceQuery = "", false
	return &c
}

// varianceAgrees reports whether a stored response was looked up by the variance that its own field
// names.
func (rt *Route) varianceAgrees(e *store.Entry, used rfc9111.SearchVariance) bool {
	return used.IsDefault() || rt.evaluated(e).search.Equal(used)
}

// says returns what the header of a response says of queries. A fetch asks that of the same field
// several times.
func (x *Fetch) says(header http.Header) rfc9111.SearchVariance {
	lines := header["No-Vary-Search"]
	if len(lines) == 0 {
		return rfc9111.SearchVariance{}
	}
	if !slices.Equal(lines, x.searchLines) {
		x.searchLines, x.searchSays = slices.Clone(lines), rfc9111.ParseNoVarySearch(header)
	}
	return x.searchSays
}

// noteVariance remembers what the response says of queries. From now on its path is looked up by
// that, so this response is stored there, unless the answer to a later request says otherwise.
func (x *Fetch) noteVariance(header http.Header) {
	said := x.says(header)
	if said.IsDefault() && !x.cache.varianceHints.used.Load() {
		return
	}
	x.keyed.header = headerOf(x.clientHeader)
	x.contradicted = !x.hint(said)
	if !said.Equal(x.keyed.variance) {
		x.keyed.variance = said
		x.key = x.route.Key.key(&x.keyed)
	}
}

func (x *Fetch) hint(said rfc9111.SearchVariance) (holds bool) {
	return x.cache.varianceHints.note(&x.route.Key, &x.keyed, varianceHint{said, x.begun})
}

// hintAgain remembers what a response says that has just been stored. Between its header and now
// the answer to an earlier request may have come with another field, as the first of its path, and
// has heard nothing of this one.
func (x *Fetch) hintAgain(header http.Header) {
	if x.cache.varianceHints.used.Load() {
		x.keyed.header = headerOf(x.clientHeader)
		x.contradicted = !x.hint(x.says(header))
	}
}

// hintedKey returns the key by which the request of the fetch would be looked up now.
func (x *Fetch) hintedKey() store.Key {
	if !x.cache.varianceHints.used.Load() {
		return x.key
	}
	keyed := x.keyed
	keyed.header = headerOf(x.clientHeader)
	keyed.variance = x.cache.varianceHints.variance(&x.route.Key, &keyed)
	return x.route.Key.key(&keyed)
}

// overtakenElsewhere reports whether the answer to a later request says otherwise of queries. That
// may be stored under the key by which this request was made, and its path be known for that of
// this response: then it is looked up by the later answer's from now on.
func (x *Fetch) overtakenElsewhere(entry *store.Entry) bool {
	if x.contradicted {
		return true
	}
	if entry.Key == x.asked || x.cache.store.Absent(x.asked) {
		return false
	}
	later := x.cache.store.Lookup(x.asked, x.selects)
	defer later.Release()
	e := later.Entry
	if e == nil || !e.RequestTime.After(entry.RequestTime) || e.RequestTime.After(time.Now()) {
		return false
	}
	says := varianceHint{x.route.evaluated(e).search, e.RequestTime}
	x.cache.varianceHints.note(&x.route.Key, &x.keyed, says)
	return true
}

// sameVariance reports whether an answer fits the request by what the answer itself says of
// queries. A flight is shared by what its path said before. Where the answer does not fit, the
// request gets the key of what is known now.
func (q *Request) sameVariance(shared *sharedResponse) bool {
	key := q.key
	if !shared.search.IsDefault() || !q.keyed.variance.IsDefault() {
		keyed := q.keyed
		keyed.variance = shared.search
		key = q.route.Key.key(&keyed)
	}
	if key == shared.key {
		return true
	}
	q.keyed.variance = q.cache.varianceHints.variance(&q.route.Key, &q.keyed)
	q.key, q.varyNames = q.route.Key.key(&q.keyed), nil
	return false
}

// A response with No-Vary-Search answers for URLs by which it was not asked for. A purge of one of
// these has to reach it. Only the response knows which they are: a hint is lost in a restart, and a
// response on its way has not given one yet. So the response carries a tag of its path, and a purge
// of a URL purges that tag as well: it takes every response of the path that has the field.

const searchTagPrefix = "\x00search\x00"

// searchTag is the tag for the path of an absolute URL: at the listener that the URL names, or at
// any.
func searchTag(url string) string {
	bare := store.BareURL(url)
	path, _, _ := strings.Cut(bare, "?")
	sum := sha256.Sum256([]byte(store.URLAt(path, strings.TrimPrefix(url[len(bare):], store.AtListener))))
	return searchTagPrefix + string(sum[:16])
}

// searchTags are the tags that a response to the fetch carries if it has No-Vary-Search.
func (x *Fetch) searchTags(header http.Header) []string {
	if x.says(header).IsDefault() {
		return nil
	}
	return []string{searchTag(x.url), searchTag(store.BareURL(x.url))}
}

// ReachSearched adds to selectors the tags by which their URLs reach responses with No-Vary-Search.
// URLs of one path have the same tag, and mostly follow each other; the store takes each selector
// once.
func ReachSearched(selectors *store.Selectors) {
	last := ""
	for _, url := range selectors.URLs {
		if tag := searchTag(url); tag != last {
			selectors.Tags, last = append(selectors.Tags, tag), tag
		}
	}
}

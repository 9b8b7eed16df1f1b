package httpcache

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// varianceHints remembers for each path which query parameters make a difference, as its origin
// last said (No-Vary-Search). It is a hint for building keys and lives in memory only. After a
// restart, or when a path has been pushed out, the next response to it brings the hint back. A
// stored response that is found by a hint is checked against its own field.
type varianceHints struct {
	used  atomic.Bool // so that a process whose origins never say it pays one load
	known *lru.Cache[store.Key, rfc9111.SearchVariance]
}

// searchPaths bounds how many paths are remembered, at some 200 bytes each.
const searchPaths = 1 << 14

func newVarianceHints() *varianceHints {
	known, err := lru.New[store.Key, rfc9111.SearchVariance](searchPaths)
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
	v, _ := s.known.Get(rules.pathKey(k))
	return v
}

// note remembers what a response says and reports whether that is new.
func (s *varianceHints) note(rules *KeyRules, k *keyed, said rfc9111.SearchVariance) bool {
	if reflect.DeepEqual(said, k.variance) {
		return false
	}
	path := rules.pathKey(k)
	if said.IsDefault() {
		s.known.Remove(path)
		return true
	}
	s.known.Add(path, said)
	s.used.Store(true)
	return true
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
func varianceAgrees(header http.Header, used rfc9111.SearchVariance) bool {
	return used.IsDefault() || reflect.DeepEqual(rfc9111.ParseNoVarySearch(header), used)
}

// noteVariance remembers what the response says of queries. From now on its path is looked up by
// that, so this response is stored there.
func (x *Fetch) noteVariance(header http.Header) {
	said := rfc9111.ParseNoVarySearch(header)
	if said.IsDefault() && x.keyed.variance.IsDefault() {
		return
	}
	x.keyed.header = headerOf(x.clientHeader)
	if x.cache.varianceHints.note(&x.route.Key, &x.keyed, said) {
		x.keyed.variance = said
		x.key = x.route.Key.key(&x.keyed)
	}
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
	if rfc9111.ParseNoVarySearch(header).IsDefault() {
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

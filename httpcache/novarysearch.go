package httpcache

import (
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// varianceHints remembers for each path which query parameters make a difference, as its origin has
// said (No-Vary-Search). They are hints for building keys. After a restart they are what stored
// responses say, see restore. When a path has been pushed out, the next response to it brings one
// hint back. A stored response that is found by a hint is checked against its own field.
//
// An origin may say one thing of some pages of a path and another of the rest. The draft (7) has a
// cache keep what was said last, and warns origins that a cache then misses what was stored by
// another. Chromium keeps all: its map goes from path, field and query to the response. Here the
// last few are kept, as each costs a look-up one more key. Of what they find the latest response is
// the answer, as with Vary. A path of which nothing else is said than by its last answer costs one
// look-up.
type varianceHints struct {
	used     atomic.Bool // so that a process whose origins never say it pays one load
	known    *lru.Cache[store.Key, *pathHints]
	restored atomic.Pointer[map[string]varianceHint] // by searchTag, for paths that are not known

	noting sync.Mutex
	size   int // of what known has, in bytes
}

// varianceHint is what answers of a path say: the last of them to a request of that time.
type varianceHint struct {
	says        rfc9111.SearchVariance
	requestTime time.Time
}

// pathHints are what is known of a path, the latest first. They are never written to. A pointer,
// because every request has one.
type pathHints []varianceHint

// all returns the hints, none if h is nil.
func (h *pathHints) all() []varianceHint {
	if h == nil {
		return nil
	}
	return *h
}

const (
	// maxHints is how many different answers of one path are remembered.
	maxHints = 4
	// searchPaths bounds how many paths are remembered, and maxHintBytes what they take together.
	searchPaths  = 1 << 14
	maxHintBytes = 16 << 20
	// hintBytes is what a hint takes besides the names, and its share of the path.
	hintBytes = 200
)

func newVarianceHints() *varianceHints {
	s := new(varianceHints)
	var err error
	s.known, err = lru.NewWithEvict(searchPaths, func(_ store.Key, hints *pathHints) { s.size -= hints.bytes() })
	if err != nil {
		panic(err) // only a size of zero is an error
	}
	return s
}

func (h *pathHints) bytes() (size int) {
	for _, hint := range h.all() {
		size += hintBytes + hint.says.Size()
	}
	return size
}

// of returns what is known of the path of k, nil if that is nothing.
func (s *varianceHints) of(rules *KeyRules, k *keyed) *pathHints {
	if !s.used.Load() {
		return nil
	}
	return s.ofPath(rules.pathKey(k), rules, k)
}

func (s *varianceHints) ofPath(path store.Key, rules *KeyRules, k *keyed) *pathHints {
	if hints, ok := s.known.Get(path); ok {
		return hints
	}
	if restored := s.restored.Load(); restored != nil {
		if hint, ok := (*restored)[searchTag(rules.storedURL(k))]; ok {
			return &pathHints{hint}
		}
	}
	return nil
}

// latest is by what a request is looked up first. Requests that have one key by it wait for one
// fetch.
func (h *pathHints) latest() rfc9111.SearchVariance {
	if h == nil {
		return rfc9111.SearchVariance{}
	}
	return (*h)[0].says
}

// note remembers what the answer to a request says. That queries are compared as they are written
// is not worth remembering until something else has been said.
func (s *varianceHints) note(rules *KeyRules, k *keyed, said varianceHint) {
	path := rules.pathKey(k)
	s.noting.Lock()
	defer s.noting.Unlock()
	hints := s.ofPath(path, rules, k)
	if hints == nil && said.says.IsDefault() {
		return
	}
	if old, known := s.known.Peek(path); known {
		s.size -= old.bytes()
	}
	hints = hints.with(said, time.Now())
	s.size += hints.bytes()
	s.known.Add(path, hints)
	for s.size > maxHintBytes && s.known.Len() > 1 {
		s.known.RemoveOldest()
	}
	s.used.Store(true)
}

// with returns the hints with one more. A request in the future is from before the clock was set
// back, and counts as the earliest.
func (h *pathHints) with(said varianceHint, now time.Time) *pathHints {
	at := func(h *varianceHint) time.Time {
		if h.requestTime.After(now) {
			return time.Time{}
		}
		return h.requestTime
	}
	next := make(pathHints, 0, len(h.all())+1)
	for _, hint := range h.all() {
		if !hint.says.Equal(said.says) {
			next = append(next, hint)
		} else if at(&hint).After(at(&said)) {
			said = hint
		}
	}
	next = append(next, said)
	slices.SortStableFunc(next, func(a, b varianceHint) int { return at(&b).Compare(at(&a)) })
	next = next[:min(len(next), maxHints)]
	return &next
}

// restoreTime bounds how long the first request waits for the hints of stored responses.
const restoreTime = 100 * time.Millisecond

// restore takes the hints from what is stored, as far as the time allows: of each path what its
// latest response says that has the field. A path of which nothing is found is known again by its
// next response.
func (s *varianceHints) restore(from *store.Store) {
	hints, size, until := make(map[string]varianceHint), 0, time.Now().Add(restoreTime)
	err := from.EachNewestTagged(searchTagPrefix, func(tag string, e *store.Entry) bool {
		// A response has two such tags. That with the listener is the one that is looked for.
		if says := rfc9111.ParseNoVarySearch(e.Header); !says.IsDefault() && tag == searchTag(e.URL) {
			hints[tag] = varianceHint{says, e.RequestTime}
			size += hintBytes + says.Size()
		}
		return len(hints) < searchPaths && size < maxHintBytes && time.Now().Before(until)
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

// keyBy is the key of k by what is said of its queries.
func (rules *KeyRules) keyBy(k *keyed, says rfc9111.SearchVariance) store.Key {
	by := *k
	by.variance = says
	return rules.key(&by)
}

// varianceAgrees reports whether a stored response that was found by a variance answers the query
// of k by what its own field says. It does if that leads to the key by which it was found.
func (rt *Route) varianceAgrees(e *store.Entry, k *keyed, used rfc9111.SearchVariance) bool {
	if used.IsDefault() {
		return true
	}
	says := rt.evaluated(e).search
	return says.Equal(used) || rt.Key.keyBy(k, says) == e.Key
}

// readHints reads what is known of the path, and what is to be looked up first by it.
func (q *Request) readHints() {
	q.keyed.variance = rfc9111.SearchVariance{}
	q.hints = q.cache().varianceHints.of(&q.route.Key, &q.keyed)
	q.keyed.variance = q.hints.latest()
	q.key = q.route.Key.key(&q.keyed)
}

// lookUpOthers looks for a later response than was found by the latest hint, by the others. The
// request goes on with the key of the one that it takes.
func (q *Request) lookUpOthers() {
	for _, hint := range q.hints.all() {
		says := hint.says
		key := q.route.Key.keyBy(&q.keyed, says)
		if key == q.key {
			continue
		}
		var found store.Result
		q.lookUpKey(&key, &found)
		e, best := found.Entry, q.found.Entry
		if e == nil || best != nil && !askedBefore(best, e.RequestTime) || !q.route.varianceAgrees(e, &q.keyed, says) {
			found.Release()
			continue
		}
		q.found.Release()
		q.found, q.key, q.keyed.variance = found, key, says
	}
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

// noteVariance remembers what the response says of queries, and stores it by that.
func (x *Fetch) noteVariance(header http.Header) {
	said := x.says(header)
	if said.IsDefault() && !x.cache.varianceHints.used.Load() {
		return
	}
	x.hint(said, x.begun)
	if !said.Equal(x.keyed.variance) {
		x.keyed.variance = said
		x.key = x.route.Key.key(&x.keyed)
	}
}

func (x *Fetch) hint(said rfc9111.SearchVariance, asked time.Time) {
	x.keyed.header = headerOf(x.clientHeader)
	x.cache.varianceHints.note(&x.route.Key, &x.keyed, varianceHint{said, asked})
}

// hintAgain remembers what a response says that has just been stored. Between its header and now
// the answer to another request may have come with another field, as the first of its path, and has
// heard nothing of this one.
func (x *Fetch) hintAgain(entry *store.Entry) {
	if x.cache.varianceHints.used.Load() {
		x.hint(x.says(entry.Header), entry.RequestTime)
	}
}

// maxKeys is how many keys a request may be looked up by, and have been when a fetch began.
const maxKeys = 2 + maxHints

// hintedKeys appends the keys by which the request of the fetch is looked up, and that by which it
// was when the fetch began.
func (x *Fetch) hintedKeys(keys []store.Key) []store.Key {
	keys = append(keys, x.key)
	if x.asked != x.key {
		keys = append(keys, x.asked)
	}
	if !x.cache.varianceHints.used.Load() {
		return keys
	}
	x.keyed.header = headerOf(x.clientHeader)
	return x.cache.varianceHints.of(&x.route.Key, &x.keyed).appendKeys(keys, &x.route.Key, &x.keyed)
}

// appendKeys appends the keys of k by each hint, as far as keys lacks them.
func (h *pathHints) appendKeys(keys []store.Key, rules *KeyRules, k *keyed) []store.Key {
	for _, hint := range h.all() {
		if key := rules.keyBy(k, hint.says); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// sameVariance reports whether an answer fits the request by what the answer itself says of
// queries. A flight is shared by what its path said before. Where the answer does not fit, the
// request gets the key of what is known now.
func (q *Request) sameVariance(shared *sharedResponse) bool {
	key := q.key
	if !shared.search.IsDefault() || !q.keyed.variance.IsDefault() {
		key = q.route.Key.keyBy(&q.keyed, shared.search)
	}
	if key == shared.key {
		return true
	}
	q.readHints()
	q.varyNames = nil
	return false
}

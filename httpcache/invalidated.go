package httpcache

import (
	"hash/maphash"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/larder-cache/larder/store"
)

// invalidatedBy remembers which request last invalidated a URL (RFC 9111 4.4), for those who ask
// why nothing is stored. Only requests that have purged something write into it. What is stored
// anew is forgotten: another purge may take that.
type invalidatedBy struct {
	seed  maphash.Seed
	known *lru.Cache[uint64, invalidator] // by the hash of the stored URL
	used  atomic.Bool                     // something has been noted
	// stored is when last, by clock, something was stored under one of the URLs of a hash. What
	// is stored between a purge and its note is not purged by it.
	stored [1 << 10]atomic.Uint64
	clock  atomic.Uint64
}

// invalidator is a request that has invalidated something.
type invalidator struct {
	method, path string // the path as it is sent, without the query, which may be a secret
	at           time.Time
}

// maxInvalidated bounds how many URLs are remembered. One takes about 500 bytes at most.
const maxInvalidated = 1 << 10

// longestInvalidator is the longest method, and the longest path, that is told.
const longestInvalidator = 200

func newInvalidatedBy() *invalidatedBy {
	known, err := lru.New[uint64, invalidator](maxInvalidated)
	if err != nil {
		panic(err) // only a size of zero is an error
	}
	return &invalidatedBy{seed: maphash.MakeSeed(), known: known}
}

// begin returns what note needs to know of the moment before the purge.
func (i *invalidatedBy) begin() (begun uint64) { return i.clock.Add(1) }

// note notes that a request has invalidated stored URLs by a purge that has begun then.
func (i *invalidatedBy) note(in *invalidation, urls []string, begun uint64) {
	by := invalidator{method: shortened(in.method), at: time.Now()}
	if u, err := url.Parse(in.q.URL()); err == nil {
		by.path = shortened(u.EscapedPath())
	}
	i.used.Store(true)
	for _, stored := range urls {
		hash := maphash.String(i.seed, stored)
		i.known.Add(hash, by)
		if i.storedAt(hash).Load() > begun { // looked at last: forget may have come before
			i.known.Remove(hash)
		}
	}
}

// forget says that a response to the stored URL is stored again.
func (i *invalidatedBy) forget(stored string) {
	hash := maphash.String(i.seed, stored)
	now, at := i.clock.Add(1), i.storedAt(hash)
	for last := at.Load(); now > last && !at.CompareAndSwap(last, now); {
		last = at.Load()
	}
	if i.used.Load() {
		i.known.Remove(hash)
	}
}

func (i *invalidatedBy) storedAt(hash uint64) *atomic.Uint64 {
	return &i.stored[hash%uint64(len(i.stored))]
}

// mayBeStored returns those of the URLs that the purge of a selection can be said to take, if it
// takes anything. Where it selects more than one page, or tags, that are those under which
// something is stored, or purged and not swept yet.
func (s *selection) mayBeStored(c *Cache) (urls []string) {
	if len(s.URLs) <= urlsOfPage && len(s.Tags) == 0 {
		return s.URLs
	}
	fetching := func() bool { return false } // what is not stored yet
	if c.store.PurgeIsNoop(&s.Selectors, fetching) {
		return nil
	}
	for pair := range slices.Chunk(s.URLs, urlsOfPage) {
		if !c.store.PurgeIsNoop(&store.Selectors{URLs: pair}, fetching) {
			urls = append(urls, pair...)
		}
	}
	return urls
}

// urlsOfPage is how many URLs appendStored appends for one.
const urlsOfPage = 2

func shortened(text string) string {
	if len(text) <= longestInvalidator {
		return text
	}
	return text[:longestInvalidator] + "…"
}

// invalidated says which request has invalidated the URL, in words that go on after others; empty
// where that is not remembered.
func (q *Request) invalidated() string {
	i := q.cache().invalidatedBy
	by, ok := i.known.Peek(maphash.String(i.seed, q.storedURL()))
	if !ok {
		return ""
	}
	return "; a " + by.method + " to " + by.path + " invalidated it " + q.ago(by.at)
}

package httpcache

import (
	"hash/maphash"
	"net/url"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// invalidatedBy remembers which request last invalidated a URL (RFC 9111 4.4), for those who ask
// why nothing is stored. Only requests that have purged something write into it. What is stored
// anew is forgotten: another purge may take that.
type invalidatedBy struct {
	seed  maphash.Seed
	known *lru.Cache[uint64, invalidator] // by the hash of the stored URL
	used  atomic.Bool                     // something has been noted
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

// note notes that a request has invalidated stored URLs.
func (i *invalidatedBy) note(in *invalidation, urls []string) {
	by := invalidator{method: shortened(in.method), at: time.Now()}
	if u, err := url.Parse(in.q.URL()); err == nil {
		by.path = shortened(u.EscapedPath())
	}
	for _, stored := range urls {
		i.known.Add(maphash.String(i.seed, stored), by)
	}
	i.used.Store(true)
}

// forget says that a response to the stored URL is stored again.
func (i *invalidatedBy) forget(stored string) {
	if i.used.Load() {
		i.known.Remove(maphash.String(i.seed, stored))
	}
}

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

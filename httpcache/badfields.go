package httpcache

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/store"
)

// maxBadFields is for how many requests' fields it is remembered that the fetches of one page went
// wrong.
const maxBadFields = 4

// maxBadPages bounds each half of such a memory, in pages.
const maxBadPages = maxRecentKeys / 16

// badFields remembers for which fields of requests the fetches of a page went wrong. It is bounded
// in pages as recentKeys are.
type badFields struct {
	until atomic.Int64 // all is forgotten by then, in nanoseconds since epoch
	epoch time.Time

	mu         sync.Mutex
	young, old map[store.Key]lastFields
	turned     int64
}

// lastFields are the sums of the last fields, when they were noted, and which client sent them,
// where that counts.
type lastFields [maxBadFields]struct {
	sum    uint64
	at     int64
	client uint64 // the sum of its network
}

func newBadFields() *badFields { return &badFields{epoch: time.Now()} }

// isEmpty reports whether nothing is remembered, as nearly always. The clock is asked only where
// something has been.
func (b *badFields) isEmpty() bool {
	until := b.until.Load()
	return until == 0 || b.since(time.Now()) >= until
}

// note remembers that a fetch of a page for a request with fields of this sum went wrong.
func (b *badFields) note(page store.Key, sum uint64) { b.noteOf(page, sum, netip.Prefix{}) }

// noteOf is note for fields that a client sent.
func (b *badFields) noteOf(page store.Key, sum uint64, client netip.Prefix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.since(time.Now())
	if now-b.turned >= int64(brokenKeep) || len(b.young) >= maxBadPages {
		b.young, b.old, b.turned = make(map[store.Key]lastFields), b.young, now
	}
	if b.young == nil {
		b.young = make(map[store.Key]lastFields)
	}
	fields := b.of(page)
	oldest := 0
	for i, f := range fields {
		if f.at > 0 && f.sum == sum {
			oldest = i
			break
		}
		if f.at < fields[oldest].at {
			oldest = i
		}
	}
	fields[oldest].sum, fields[oldest].at, fields[oldest].client = sum, max(now, 1), maphash.Comparable(digestSeed, client)
	b.young[page] = fields
	b.until.Store(now + int64(brokenKeep))
}

// of returns what is remembered of a page.
func (b *badFields) of(page store.Key) lastFields {
	if fields, ok := b.young[page]; ok {
		return fields
	}
	return b.old[page]
}

// any reports whether a fetch of the page has gone wrong lately.
func (b *badFields) any(page store.Key) bool {
	_, some := b.find(page, func(_, _ uint64) bool { return true })
	return some
}

// place returns which of the last fields of the page these are, if a fetch for them has gone wrong
// lately.
func (b *badFields) place(page store.Key, sum uint64) (place int, bad bool) {
	return b.find(page, func(noted, _ uint64) bool { return noted == sum })
}

// covers reports whether what is remembered of the page counts for these fields: it is of them, or
// of two others that two clients sent.
func (b *badFields) covers(page store.Key, sum uint64) bool {
	others, first := 0, uint64(0) // the client that sent the first others
	_, found := b.find(page, func(noted, client uint64) bool {
		if others++; others == 1 {
			first = client
		}
		return noted == sum || client != first
	})
	return found
}

func (b *badFields) find(page store.Key, is func(sum, client uint64) bool) (place int, found bool) {
	if b.isEmpty() {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	after := b.since(time.Now()) - int64(brokenKeep)
	for i, f := range b.of(page) {
		if f.at > max(0, after) && is(f.sum, f.client) {
			return i, true
		}
	}
	return 0, false
}

// forget removes what is remembered of the fields: a fetch for them has gone well.
func (b *badFields) forget(page store.Key, sum uint64) {
	if _, bad := b.place(page, sum); !bad {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, pages := range [...]map[store.Key]lastFields{b.young, b.old} {
		fields, ok := pages[page]
		for i, f := range fields {
			if f.sum == sum {
				fields[i].at = 0
			}
		}
		if ok {
			pages[page] = fields
		}
	}
}

func (b *badFields) since(t time.Time) int64 { return int64(t.Sub(b.epoch)) }

package store

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// Filter narrows a listing; an empty field does not.
type Filter struct {
	// Tag is a surrogate key.
	Tag string
	// Prefix is the beginning of an absolute URL.
	Prefix string
	// Host is an authority as it stands in URLs.
	Host string
}

func (f *Filter) passes(e *Entry) bool {
	return f.passesURL(e.URL) && (f.Tag == "" || slices.Contains(e.Tags, f.Tag))
}

func (f *Filter) passesURL(url string) bool {
	return strings.HasPrefix(url, f.Prefix) && (f.Host == "" || hostOf(url) == f.Host)
}

// Item is one stored response in a listing.
type Item struct {
	// ID is the entry's.
	ID uint64
	// URL is what was asked for.
	URL string
	// Method is the method that fetched it.
	Method string
	// Status is the response's.
	Status int
	// Size is the length of the body in bytes.
	Size int64
	// Header is the response's, and must not be written to.
	Header http.Header
	// RequestTime is when the fetch began, StoredAt the ResponseTime, FreshUntil the end of freshness as
	// judged then, KeepUntil the end of all use.
	RequestTime, StoredAt, FreshUntil, KeepUntil time.Time
	// Tags are the surrogate keys without the internal ones.
	Tags []string
	// Tier is the first tier that has it: memory before disk.
	Tier Tier
	// Variant is what it was selected by.
	Variant Variant
	// Soft says that a soft purge has hit it.
	Soft bool
}

// ErrCursor is returned for a cursor that List has not given out.
var ErrCursor = errors.New("list: invalid cursor")

// List returns up to limit live entries behind cursor, ordered by URL, then by age; each once. next
// is the cursor of those that follow, empty at the end. An entry that stays is listed, whatever is
// stored or deleted between the calls.
func (s *Store) List(f Filter, limit int, cursor string) (items []Item, next string, err error) {
	after, err := decodeCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	if !s.isOpen() || limit <= 0 {
		return nil, "", nil
	}
	l := &listing{s: s, filter: f, limit: limit, now: s.now(), after: after}
	for {
		drops := s.records.drops.Load()
		if err := l.collect(); err != nil {
			return nil, "", err
		}
		if drops == s.records.drops.Load() {
			break
		}
	}
	items, more := l.page()
	if more {
		last := items[len(items)-1]
		next = base64.RawURLEncoding.EncodeToString(urlRowKey(last.URL, last.ID))
	}
	for i := range items {
		items[i].URL = BareURL(items[i].URL)
	}
	return items, next, nil
}

// place is a position in listing order.
type place struct {
	url string
	id  uint64
}

func (p place) compare(o place) int {
	return cmp.Or(strings.Compare(p.url, o.url), cmp.Compare(p.id, o.id))
}

func decodeCursor(cursor string) (place, error) {
	if cursor == "" {
		return place{}, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return place{}, ErrCursor
	}
	url, id, ok := cutURLRowKey(raw)
	if !ok {
		return place{}, ErrCursor
	}
	return place{url, id}, nil
}

// listing collects from every source the first entries behind the cursor, one more than asked for;
// the first of all of them together are then the page.
type listing struct {
	s      *Store
	filter Filter
	limit  int
	now    time.Time
	after  place
	found  []Item
	jobs   map[Key][]*job // what waited for the disk before it was read
}

// collect asks every source: memory, queue, disk, in the direction in which entries go, so that none
// is missed on its way.
func (l *listing) collect() error {
	l.found = nil
	for _, sh := range l.s.memory.shards {
		l.addShard(sh)
	}
	l.addQueue()
	if l.s.disk == nil {
		return nil
	}
	if err := l.addDisk(); err != nil && !errors.Is(err, errDetached) {
		l.s.readFailed(err)
		return fmt.Errorf("list: %w", err)
	}
	return nil
}

// addEntry takes an entry in hand when it is live and passes; it tells whether it did.
func (l *listing) addEntry(e *Entry, length int64, tier Tier, soft bool) bool {
	if (place{e.URL, e.ID}).compare(l.after) <= 0 || !l.filter.passes(e) || !live(nanos(e.KeepUntil), l.now) {
		return false
	}
	hard, softened := l.s.records.judge(e.URL, e.Tags, e.Generation, everything)
	if hard {
		return false
	}
	l.found = append(l.found, Item{
		ID: e.ID, URL: e.URL, Method: e.Method, Status: e.Status, Size: length,
		Header: e.Header, RequestTime: e.RequestTime, StoredAt: e.ResponseTime, FreshUntil: e.FreshUntil, KeepUntil: e.KeepUntil,
		Tags: visibleTags(e.Tags), Tier: tier, Variant: e.Variant, Soft: soft || softened,
	})
	return true
}

// visibleTags leaves out the internal ones.
func visibleTags(tags []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return strings.HasPrefix(t, "\x00") })
}

// first is where the listing can begin: at the cursor or at the prefix, whichever is later.
func (l *listing) first() string { return max(l.after.url, l.filter.Prefix) }

func (l *listing) addShard(sh *shard) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := 0
	if l.filter.Tag != "" {
		sh.index.match(&Selectors{Tags: []string{l.filter.Tag}}, func(it *item) { l.addItem(it) })
		return
	}
	sh.index.ascend(l.first(), 0, func(it *item) bool {
		if !bytes.HasPrefix(l.s.memory.record(it).url(), []byte(l.filter.Prefix)) {
			return false
		}
		if l.addItem(it) {
			n++
		}
		return n <= l.limit
	})
}

// addItem takes an item in memory in hand. What does not pass by its URL is not decoded.
func (l *listing) addItem(it *item) bool {
	r := l.s.memory.record(it)
	url := string(r.url())
	if (place{url, it.id}).compare(l.after) <= 0 || !l.filter.passesURL(url) {
		return false
	}
	return l.addEntry(l.s.decode(it), r.bodyLen(), MemoryTier, it.is(isSoft))
}

// addQueue adds what waits for the disk and is not resident.
func (l *listing) addQueue() {
	l.jobs = make(map[Key][]*job)
	jobs := l.s.queue.all()
	defer l.s.memory.unholdJobs(jobs)
	for _, j := range jobs {
		l.jobs[j.key] = append(l.jobs[j.key], j)
		if j.homeless() {
			l.addItem(j.item)
		}
	}
}

// addDisk walks the URL rows, or those of the tag, which are in no order.
func (l *listing) addDisk() error {
	if l.filter.Tag != "" {
		sc := scan{scanTag, l.filter.Tag, tagStart(l.filter.Tag)}
		return l.walk(&sc, 0)
	}
	sc := scan{kind: scanPrefix, value: l.filter.Prefix, from: []byte(l.filter.Prefix)}
	return l.walk(&sc, l.limit+1)
}

// walk adds up to limit entries (0: all) of a scan, a bounded number of rows a transaction.
func (l *listing) walk(sc *scan, limit int) error {
	var after []byte
	if sc.kind == scanPrefix && l.after.url >= sc.value && l.after.url != "" {
		after = urlRowKey(l.after.url, l.after.id)
	}
	n := 0
	for more := true; more; {
		step := *l // the transaction's own: it may go on when nobody waits for it any more
		from, last := after, []byte(nil)
		err := l.s.disk.view(func(tx *bbolt.Tx) error {
			t, err := openTables(tx)
			if err != nil {
				return err
			}
			rows, found := 0, n
			return sc.each(t, from, func(key, value []byte) (bool, error) {
				if step.addRow(t, key, value) {
					found++
				}
				if limit > 0 && found >= limit {
					return false, nil
				}
				if rows++; rows >= stepEntries {
					last = slices.Clone(key)
				}
				return last == nil, nil
			})
		})
		if err != nil {
			return err
		}
		n += len(step.found) - len(l.found)
		*l = step
		after, more = last, last != nil
	}
	return nil
}

func (l *listing) addRow(t *tables, key, value []byte) bool {
	row := decodeIndexRow(value)
	if !live(row.keepUntil, l.now) {
		return false
	}
	e, length, err := t.entry(rowID(key))
	if err != nil {
		return false
	}
	for _, j := range l.jobs[e.Key] {
		if j.superseded(e.ID, &e.Variant) {
			return false
		}
	}
	return l.addEntry(e, length, DiskTier, row.soft)
}

// page sorts what was found, leaves out what was found twice and cuts it at the limit.
func (l *listing) page() (items []Item, more bool) {
	slices.SortStableFunc(l.found, func(a, b Item) int { return place{a.URL, a.ID}.compare(place{b.URL, b.ID}) })
	items = slices.CompactFunc(l.found, func(a, b Item) bool { return a.ID == b.ID && a.URL == b.URL })
	if more = len(items) > l.limit; more {
		items = items[:l.limit]
	}
	return items, more
}

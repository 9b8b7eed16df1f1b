package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// Filter narrows a listing; an empty field does not.
type Filter struct {
	// Tag is a surrogate key.
	Tag string
	// Prefixes are beginnings of absolute URLs, as in Selectors: the entry's has one of them.
	Prefixes []string
	// Host is an authority, as in Selectors.
	Host string
	// URLs are as in Selectors: one of them is to name the entry.
	URLs []string
}

func (f *Filter) passes(r record) bool {
	url := string(r.url())
	return f.passesPrefix(url) && (f.Host == "" || selectsHost(f.Host, url)) && (f.Tag == "" || r.hasTag(f.Tag)) &&
		(len(f.URLs) == 0 || slices.ContainsFunc(f.URLs, func(selector string) bool { return selectsURL(selector, url) }))
}

func (f *Filter) passesPrefix(url string) bool {
	return len(f.Prefixes) == 0 || slices.ContainsFunc(f.Prefixes, func(p string) bool { return strings.HasPrefix(url, p) })
}

// ErrCursor is returned for a cursor that List has not given out.
var ErrCursor = errors.New("list: invalid cursor")

// List returns up to limit live entries behind cursor, each once: ordered by URL, then by age;
// those of a tag by age alone. next is the cursor of those that follow, empty at the end. Where
// little of what it looks at passes all filters a page may be short, or even empty, and not be the
// last. An entry that stays is listed, whatever is stored or deleted between the calls. What a call
// costs goes with limit, and not with what is stored. The error is ErrCursor for a cursor that no
// List returned, or that of a file which could not be read. A store that is not open lists nothing,
// and that is no error.
func (s *Store) List(f Filter, limit int, cursor string) (items []Item, next string, err error) {
	after, err := decodeCursor(&f, cursor)
	if err != nil {
		return nil, "", err
	}
	if limit <= 0 {
		return nil, "", nil
	}
	items, end, err := s.list(&listing{filter: f, limit: limit, after: after})
	if end != nil {
		next = end.cursor(&f)
	}
	return items, next, err
}

// list fills in the rest of a listing and carries it out.
func (s *Store) list(l *listing) (items []Item, end *place, err error) {
	if !s.isOpen() {
		return nil, nil, nil
	}
	l.memory, l.queue, l.disk, l.purges, l.now = s.memory, s.queue, s.disk, s.purges, s.now()
	l.filter.URLs = slices.Sorted(slices.Values(l.filter.URLs))
	l.filter.Prefixes = shortest(slices.Sorted(slices.Values(l.filter.Prefixes)))
	if err := l.collect(); err != nil {
		s.readFailed(err)
		return nil, nil, fmt.Errorf("list: %w", err)
	}
	items, end = l.page()
	return items, end, nil
}

// listing collects from every source the first entries behind the cursor, one more than asked for;
// the first of all of them together are then the page.
type listing struct {
	memory *memory
	queue  *queue
	disk   *disk // nil when there is no disk tier
	purges *purgeSet

	filter Filter
	limit  int
	light  bool     // items are not decoded: they have what stands in fixed places
	only   *EntryID // it is about that entry alone
	now    time.Time
	after  place
	found  []*foundItem // in order, one more than the limit at most
	end    *place       // the listing is complete up to here, where it is not to its end
	looked int          // at how many the source in hand has been
	last   place        // the last of these
}

// foundItem does not change once it is among those found.
type foundItem struct {
	Item
	place place
}

// lookedAt is how many entries of one source a page looks at, at most, beside those that pass.
const lookedAt = 2048

// collect asks every source: memory, queue, disk, in the direction in which entries go, so that
// none is missed on its way.
func (l *listing) collect() error {
	addMemory, addDisk := l.addMemory, l.addDisk
	if l.only != nil {
		addMemory, addDisk = l.addOnlyMemory, l.addOnlyDisk
	}
	addMemory()
	if l.disk == nil {
		return nil
	}
	err := addDisk()
	if err == nil {
		err = l.confirm()
	}
	if errors.Is(err, errDetached) { // what is in memory is all
		return nil
	}
	return err
}

// addMemory adds what is in the shards and in the queue.
func (l *listing) addMemory() {
	for _, sh := range l.memory.shards {
		l.looked = 0
		l.addIndex(&sh.mu, sh.index)
	}
	l.looked = 0
	l.addIndex(&l.queue.mu, l.queue.index)
}

// wants tells whether the entry at a place is to be looked at; false ends the walk through its
// source.
func (l *listing) wants(p place) bool {
	if l.end != nil && p.compare(*l.end) > 0 || len(l.found) > l.limit && p.compare(l.found[l.limit].place) >= 0 {
		return false
	}
	if l.looked++; l.looked > lookedAt+l.limit {
		l.endAt(l.last)
		return false
	}
	l.last = p
	return true
}

// endAt says that behind a place not all is known.
func (l *listing) endAt(p place) {
	if l.end == nil || p.compare(*l.end) < 0 {
		l.end = &p
	}
}

// add takes an entry in, in its place, unless it is live no more or there already.
func (l *listing) add(id uint64, r record, tier Tier, marked Severity) {
	if r.isPart() || !live(r.keepUntil(), l.now) || !l.filter.passes(r) {
		return
	}
	severity := max(marked, l.purges.recordPurgedBy(r, everything))
	if severity == Hard {
		return
	}
	at, there := slices.BinarySearchFunc(l.found, l.place(id, r), func(f *foundItem, p place) int { return f.place.compare(p) })
	if there {
		l.noteStored(at, r)
	}
	if there || at > l.limit {
		return
	}
	url, listener, _ := strings.Cut(string(r.url()), AtListener)
	item := Item{
		ID: id, Key: r.key(), URL: url, Listener: listener, Size: r.bodyLen(), StoredAt: r.responseTime(), FreshUntil: r.freshUntil(), Tier: tier, Severity: severity,
	}
	if r.isPacked() {
		item.Stored = r.stored()
	}
	if (!l.light || r.isHead()) && !item.decode(r) {
		return
	}
	l.found = slices.Insert(l.found, at, &foundItem{place: l.place(id, r), Item: item})
	if len(l.found) > l.limit+1 {
		l.found = slices.Delete(l.found, l.limit+1, len(l.found))
	}
}

// noteStored notes of an entry found in memory what it takes on disk.
func (l *listing) noteStored(at int, r record) {
	if r.isPacked() {
		found := *l.found[at]
		found.Stored = r.stored()
		l.found[at] = &found
	}
}

// place is where an entry stands in the order of the listing.
func (l *listing) place(id uint64, r record) place {
	if l.filter.Tag != "" {
		return place{id: id}
	}
	return place{string(r.url()), id}
}

// urlSpan is a range of URLs: those that begin with text, or that one, at whatever listener.
type urlSpan struct {
	text  string
	exact bool
}

func (u urlSpan) has(url string) bool {
	if u.exact {
		return selectsURL(u.text, url)
	}
	return strings.HasPrefix(url, u.text)
}

// hasBytes is has without a copy, but where the URL is exact.
func (u urlSpan) hasBytes(url []byte) bool {
	return len(url) >= len(u.text) && string(url[:len(u.text)]) == u.text && (!u.exact || selectsURL(u.text, string(url)))
}

// spans are the ranges to walk through, in order. What follows an authority is a path, a query, a
// fragment or nothing: so the URLs of longer names are not walked through.
func (f *Filter) spans() []urlSpan {
	if len(f.URLs) > 0 {
		return urlSpans(f.URLs)
	}
	prefixes := f.Prefixes
	if len(prefixes) == 0 {
		prefixes = []string{""}
	}
	var spans []urlSpan
	if f.Host == "" {
		for _, prefix := range prefixes {
			spans = append(spans, urlSpan{text: prefix})
		}
		return spans
	}
	for _, host := range hostPrefixes(f.Host) {
		for _, follows := range []string{"", "#", "/", "?"} {
			spans = append(spans, urlSpan{host + follows, follows == ""}.within(prefixes)...)
		}
	}
	return spans
}

// within returns the parts of a range whose URLs begin with one of prefixes, none of which another
// one begins with.
func (u urlSpan) within(prefixes []string) (parts []urlSpan) {
	for _, prefix := range prefixes {
		switch {
		case strings.HasPrefix(u.text, prefix):
			return []urlSpan{u}
		case u.has(prefix):
			parts = append(parts, urlSpan{text: prefix})
		}
	}
	return parts
}

// urlSpans are the ranges of selectors of URLs, which are sorted.
func urlSpans(selectors []string) []urlSpan {
	spans := make([]urlSpan, 0, len(selectors))
	for _, selector := range selectors {
		if path, _, found := strings.Cut(selector, anyQuery); found {
			spans = append(spans, urlSpan{text: path})
		} else {
			spans = append(spans, urlSpan{selector, true})
		}
	}
	return spans
}

// begin is the place from which a span is walked; false when it lies before the cursor.
func (l *listing) begin(span urlSpan) (from place, ok bool) {
	if l.after.url < span.text || l.after == (place{}) {
		return place{url: span.text}, true
	}
	return place{l.after.url, l.after.id + 1}, span.has(l.after.url)
}

// listedItems is how many items are looked at under one hold of a lock: each is decoded, or sorted
// in among those found.
const listedItems = 16

// addIndex adds what an index has, in steps under its lock.
func (l *listing) addIndex(mu *sync.Mutex, ix *index) {
	for _, w := range l.walks() {
		for more := true; more; {
			mu.Lock()
			more = w.step(ix, listedItems, func(_ *span, it *item, _ tagRow) bool {
				r := l.memory.record(it)
				if !l.wants(l.place(it.id, r)) {
					return false
				}
				if !it.is(isDead) {
					l.add(it.id, r, MemoryTier, it.severity())
				}
				return true
			})
			mu.Unlock()
		}
	}
}

// walks are those through an index, from behind the cursor.
func (l *listing) walks() (walks []itemWalk) {
	if tag := l.filter.Tag; tag != "" {
		return []itemWalk{{spans: []span{{selector: selector{kind: byTag}, tag: tag}}, begun: true, id: l.after.id + 1}}
	}
	for _, urls := range l.filter.spans() {
		if from, ok := l.begin(urls); ok {
			walks = append(walks, itemWalk{spans: []span{{selector: selector{kind: byPrefix}, urls: urls}}, begun: true, url: from.url, id: from.id})
		}
	}
	return walks
}

// addDisk walks the rows of the tag or of the URLs.
func (l *listing) addDisk() error {
	l.looked = 0
	if tag := l.filter.Tag; tag != "" {
		return l.walk(&scan{selector: selector{byTag, tag}, from: tagStart(tag)}, tagRowKey(tag, l.after.id))
	}
	for _, span := range l.filter.spans() {
		if _, ok := l.begin(span); !ok {
			continue
		}
		sc := scan{selector: selector{byPrefix, span.text}, from: []byte(span.text)}
		if span.exact {
			sc = scan{selector: selector{byURL, span.text}, from: append([]byte(span.text), 0)}
		}
		var after []byte
		if l.after.url != "" && span.has(l.after.url) {
			after = urlRowKey(l.after.url, l.after.id)
		}
		if err := l.walk(&sc, after); err != nil {
			return err
		}
	}
	return nil
}

// walk looks at the rows of a scan behind after, a bounded number of them a transaction.
func (l *listing) walk(sc *scan, after []byte) error {
	for more := true; more; {
		step, from, last := l.clone(), after, []byte(nil)
		err := l.disk.view(func(tx *bbolt.Tx) error {
			t, err := l.disk.openBuckets(tx)
			if err != nil {
				return err
			}
			rows := 0
			return sc.each(t, from, func(key, value []byte) (bool, error) {
				if !step.addRow(t, key, value) {
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
		*l = *step
		after, more = last, last != nil
	}
	return nil
}

// clone is for a transaction, which may go on after a stall.
func (l *listing) clone() *listing {
	step := *l
	step.found = slices.Clone(l.found)
	return &step
}

// addRow looks at one row; false ends the walk.
func (l *listing) addRow(t *buckets, key, value []byte) bool {
	p := place{id: rowID(key)}
	if l.filter.Tag == "" {
		p.url, _, _ = cutURLRowKey(key)
	}
	if !l.wants(p) {
		return false
	}
	row := decodeIndexRow(value)
	if !live(row.keepUntil, l.now) {
		return true
	}
	r, _, err := t.record(p.id)
	if err != nil || l.queue.supersedes(p.id, r) {
		return true
	}
	l.add(p.id, r, DiskTier, row.severity)
	return true
}

// confirm looks again at what was found on disk, in a later state of the file. What was gone from
// there since the former, because a purge had hit it whose record was gone when the entry was
// judged, or because what waited in the queue has taken its place, is gone in this one.
func (l *listing) confirm() error {
	if len(l.found) > l.limit {
		l.endAt(l.found[l.limit].place) // fewer may be left
	}
	step := l.clone()
	err := l.disk.view(func(tx *bbolt.Tx) error {
		t := l.disk.readBuckets()
		var err error
		if t.keys.Bucket, err = openBucket(tx, keysBucket); err != nil {
			return err
		}
		step.found = step.found[:0:0]
		for _, f := range l.found {
			if f = f.confirmed(&t.keys); f != nil {
				step.found = append(step.found, f)
			}
		}
		return nil
	})
	if err == nil {
		l.found = step.found
	}
	return err
}

// confirmed is an item as its key row has it now; nil when it is gone.
func (f *foundItem) confirmed(keys *bucket) *foundItem {
	if f.Tier != DiskTier {
		return f
	}
	rk := keyRowKey(f.Key, f.ID)
	row, err := decodeKeyRow(rk, keys.Get(rk))
	if err != nil {
		return nil
	}
	if row.severity <= f.Severity {
		return f
	}
	marked := *f
	marked.Severity = row.severity
	return &marked
}

// page is what was found up to the limit, and where it ends if more may follow.
func (l *listing) page() (items []Item, end *place) {
	for _, f := range l.found {
		switch {
		case l.end != nil && f.place.compare(*l.end) > 0:
			return items, l.end
		case len(items) == l.limit:
			return items, &l.found[l.limit-1].place
		}
		items = append(items, f.Item)
	}
	return items, l.end
}

package store

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Selectors say what to purge. They are OR-ed; strings are compared exactly, so the caller
// normalises URLs first.
type Selectors struct {
	// Tags are surrogate keys, internal ones included.
	Tags []string
	// URLs are absolute and go with all their variants: at every listener, or at one, as URLAt has it.
	URLs []string
	// Prefixes are beginnings of absolute URLs.
	Prefixes []string
	// Hosts are authorities as they stand in URLs, of http and https alike.
	Hosts []string
	// All selects everything.
	All bool
}

// ErrNoSelector is returned for a purge that selects nothing.
var ErrNoSelector = errors.New("purge: no selector")

func (s *Selectors) check() error {
	if !s.All && len(s.Tags)+len(s.URLs)+len(s.Prefixes)+len(s.Hosts) == 0 {
		return ErrNoSelector
	}
	for _, list := range [][]string{s.Tags, s.URLs, s.Prefixes, s.Hosts} {
		if slices.Contains(list, "") {
			return fmt.Errorf("purge: empty selector: %w", ErrNoSelector)
		}
	}
	return nil
}

// clone copies the lists, which belong to the caller.
func (s *Selectors) clone() Selectors {
	return Selectors{
		Tags: slices.Clone(s.Tags), URLs: slices.Clone(s.URLs),
		Prefixes: slices.Clone(s.Prefixes), Hosts: slices.Clone(s.Hosts), All: s.All,
	}
}

// match tells whether any selector names the entry.
func (s *Selectors) match(url string, tags []string) bool {
	if s.All || slices.ContainsFunc(s.URLs, func(selector string) bool { return selectsURL(selector, url) }) {
		return true
	}
	for _, t := range s.Tags {
		if slices.Contains(tags, t) {
			return true
		}
	}
	for _, p := range s.Prefixes {
		if strings.HasPrefix(url, p) {
			return true
		}
	}
	return len(s.Hosts) > 0 && slices.Contains(s.Hosts, hostOf(url))
}

// matchRecord is match for an entry in its stored form.
func (s *Selectors) matchRecord(r record) bool {
	return s.All || s.match(string(r.url()), r.tags())
}

// purgeRecord is one purge in force.
type purgeRecord struct {
	gen  uint64
	soft bool
	sel  Selectors

	// What follows belongs to the keeper.
	counted bool // its matches have been counted; before, nothing may be removed for its sake
	written bool // it is in the purges bucket of the open file
	// memoryOnly says that there was no row it may hit when it was counted, and that it is not
	// written therefore: none can come either.
	memoryOnly bool
	sweep      *sweep
}

// recordSet holds the purges in force, found by their selectors.
type recordSet struct {
	// newest is the generation of the latest record, 0 without any: the one load that a look-up
	// pays when nothing was purged lately, and all that an entry pays that is newer than all purges.
	newest atomic.Uint64
	// last is the generation given last, the one a fetch that begins now belongs to.
	last atomic.Uint64
	// drops counts the records taken out of force, each before it goes. Who judges something out of
	// a snapshot of the file begins again when it has changed: what the snapshot still has may have
	// been swept since, and the record dropped.
	drops atomic.Uint64

	mu       sync.RWMutex
	records  []*purgeRecord // ascending by generation
	tags     map[string][]*purgeRecord
	urls     map[string][]*purgeRecord
	hosts    map[string][]*purgeRecord
	prefixes map[string][]*purgeRecord
	lengths  map[int]int // of prefixes, with how many records have one of that length
	all      []*purgeRecord
}

func newRecordSet(generation uint64) *recordSet {
	r := &recordSet{
		tags: make(map[string][]*purgeRecord), urls: make(map[string][]*purgeRecord),
		hosts: make(map[string][]*purgeRecord), prefixes: make(map[string][]*purgeRecord),
		lengths: make(map[int]int),
	}
	r.last.Store(generation)
	return r
}

// issue puts a purge in force under the next generation. Generations follow the wall clock where
// they can, so that those of a process that starts without its file are later than those in it.
func (r *recordSet) issue(sel Selectors, soft bool, wall uint64) *purgeRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := &purgeRecord{gen: max(r.last.Load()+1, wall), soft: soft, sel: sel}
	r.add(rec)
	r.last.Store(rec.gen)
	return rec
}

// restore puts a record read from the file in force, unless it is already.
func (r *recordSet) restore(rec *purgeRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, known := range r.records {
		if known.gen == rec.gen {
			known.written = true
			return
		}
	}
	r.add(rec)
	r.last.Store(max(r.last.Load(), rec.gen))
}

func (r *recordSet) add(rec *purgeRecord) {
	r.records = append(r.records, rec)
	slices.SortFunc(r.records, func(a, b *purgeRecord) int {
		if a.gen < b.gen {
			return -1
		}
		return 1
	})
	for _, t := range rec.sel.Tags {
		r.tags[t] = append(r.tags[t], rec)
	}
	for _, u := range rec.sel.URLs {
		r.urls[u] = append(r.urls[u], rec)
	}
	for _, h := range rec.sel.Hosts {
		r.hosts[h] = append(r.hosts[h], rec)
	}
	for _, p := range rec.sel.Prefixes {
		r.prefixes[p] = append(r.prefixes[p], rec)
		r.lengths[len(p)]++
	}
	if rec.sel.All {
		r.all = append(r.all, rec)
	}
	r.newest.Store(r.records[len(r.records)-1].gen)
}

// raise makes later generations later than those in a file.
func (r *recordSet) raise(generation uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last.Store(max(r.last.Load(), generation))
}

// drop takes a record out of force. The caller has swept all it can match.
func (r *recordSet) drop(rec *purgeRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drops.Add(1)
	isRec := func(other *purgeRecord) bool { return other == rec }
	without := func(m map[string][]*purgeRecord, keys []string) {
		for _, k := range keys {
			if m[k] = slices.DeleteFunc(m[k], isRec); len(m[k]) == 0 {
				delete(m, k)
			}
		}
	}
	r.records = slices.DeleteFunc(r.records, isRec)
	without(r.tags, rec.sel.Tags)
	without(r.urls, rec.sel.URLs)
	without(r.hosts, rec.sel.Hosts)
	without(r.prefixes, rec.sel.Prefixes)
	for _, p := range rec.sel.Prefixes {
		if r.lengths[len(p)]--; r.lengths[len(p)] == 0 {
			delete(r.lengths, len(p))
		}
	}
	r.all = slices.DeleteFunc(r.all, isRec)
	var newest uint64
	if n := len(r.records); n > 0 {
		newest = r.records[n-1].gen
	}
	r.newest.Store(newest)
}

// everything is a bound for judge that takes in all records.
const everything = uint64(math.MaxUint64)

// judge tells whether a response of generation gen has been purged by a record of a generation in
// (gen, below).
func (r *recordSet) judge(url string, tags []string, gen, below uint64) (hard, soft bool) {
	if gen >= r.newest.Load() {
		return false, false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	hit := func(list []*purgeRecord) {
		for _, rec := range list {
			if rec.gen > gen && rec.gen < below {
				hard = hard || !rec.soft
				soft = soft || rec.soft
			}
		}
	}
	hit(r.all)
	for _, t := range tags {
		hit(r.tags[t])
	}
	if len(r.urls) > 0 {
		hit(r.urls[url])
		if bare := BareURL(url); len(bare) < len(url) {
			hit(r.urls[bare])
		}
	}
	if len(r.hosts) > 0 {
		hit(r.hosts[hostOf(url)])
	}
	for n := range r.lengths {
		if n <= len(url) {
			hit(r.prefixes[url[:n]])
		}
	}
	return hard, soft
}

// judgeRecord is judge for a response in its stored form, of which it reads no more than needed.
func (r *recordSet) judgeRecord(rec record, below uint64) (hard, soft bool) {
	gen := rec.generation()
	if gen >= r.newest.Load() {
		return false, false
	}
	return r.judge(string(rec.url()), rec.tags(), gen, below)
}

// snapshot copies the list of records.
func (r *recordSet) snapshot() []*purgeRecord {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.records)
}

// first is the oldest record that keep accepts.
func (r *recordSet) first(keep func(*purgeRecord) bool) *purgeRecord {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, rec := range r.records {
		if keep(rec) {
			return rec
		}
	}
	return nil
}

// countedBelow is a bound for judge that takes in the records that have been counted so far, and
// none that is issued from now on.
func (r *recordSet) countedBelow() uint64 {
	below := r.last.Load() + 1
	if rec := r.first(func(rec *purgeRecord) bool { return !rec.counted }); rec != nil {
		below = min(below, rec.gen)
	}
	return below
}

func (r *recordSet) pending() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.records)
}

// tickets counts the fetches and look-ups in the file that are under way by the generation they began in.
type tickets struct {
	mu      sync.Mutex
	open    map[uint64]int
	reading int    // look-ups under way
	reads   uint64 // look-ups begun
}

// begin reads the generation and registers it in one step: were the reading outside of the lock, a
// record could be dropped between the two that this fetch still needs.
func (t *tickets) begin(r *recordSet) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading++
	t.reads++
	return t.issue(r)
}

func (t *tickets) end(gen uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading--
	t.takeBack(gen)
}

// beginFetch and endFetch are begin and end for a fetch.
func (t *tickets) beginFetch(r *recordSet) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.issue(r)
}

func (t *tickets) endFetch(gen uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.takeBack(gen)
}

func (t *tickets) issue(r *recordSet) uint64 {
	gen := r.last.Load()
	t.open[gen]++
	return gen
}

func (t *tickets) takeBack(gen uint64) {
	if t.open[gen]--; t.open[gen] <= 0 {
		delete(t.open, gen)
	}
}

// readers tells whether look-ups are under way, and how many have begun.
func (t *tickets) readers() (reading bool, begun uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reading > 0, t.reads
}

// oldest is the lowest generation any fetch under way began in.
func (t *tickets) oldest() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	oldest := everything
	for gen := range t.open {
		oldest = min(oldest, gen)
	}
	return oldest
}

// Ticket stands for one fetch: the responses it brings are as old as its generation. Put comes
// before End.
type Ticket struct {
	store *Store
	gen   uint64
	ended atomic.Bool
}

// Begin opens the ticket of a fetch that is about to begin. Records of later purges are kept until
// End, so that its response can be judged however long it takes.
func (s *Store) Begin() *Ticket {
	return &Ticket{store: s, gen: s.tickets.beginFetch(s.records)}
}

// Generation is what the entries of this fetch carry.
func (t *Ticket) Generation() uint64 { return t.gen }

// End closes the ticket; more than once does no harm.
func (t *Ticket) End() {
	if !t.ended.Swap(true) {
		t.store.tickets.endFetch(t.gen)
	}
}

package store

import (
	"errors"
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"
)

// EntryID names one stored response among all that ever were: ids ascend, from the time at which a
// store began, and what of the key stands beside tells responses apart should the clock have been
// set back. A response that takes the place of another has an id of its own, but for a large body
// that is validated.
type EntryID struct {
	id, key uint64 // the entry's, and the beginning of its key
}

// EntryID returns the name of an item.
func (i *Item) EntryID() EntryID { return EntryID{i.ID, keyPrefix(i.Key)} }

// String returns 32 hexadecimal digits.
func (e EntryID) String() string { return fmt.Sprintf("%016x%016x", e.id, e.key) }

// ErrEntryID says that a text is not what EntryID.String returns.
var ErrEntryID = errors.New("an entry's id has 32 hexadecimal digits")

// ParseEntryID is the inverse of String. Its error is ErrEntryID.
func ParseEntryID(text string) (EntryID, error) {
	if len(text) != 32 {
		return EntryID{}, ErrEntryID
	}
	id, err := strconv.ParseUint(text[:16], 16, 64)
	key, err2 := strconv.ParseUint(text[16:], 16, 64)
	e := EntryID{id, key}
	if err != nil || err2 != nil || e.String() != text {
		return EntryID{}, ErrEntryID
	}
	return e, nil
}

// Find describes a stored response; nil if it is stored no more. The error is that of a file which
// could not be read.
func (s *Store) Find(e EntryID) (*Item, error) {
	items, _, err := s.list(&listing{limit: 1, only: &e})
	if err != nil || len(items) == 0 {
		return nil, err
	}
	return &items[0], nil
}

// Drop removes stored responses by their ids from both tiers, for good, and returns how many there
// were; a dry run only counts, and leaves out what others select. Nothing else is removed, and
// nothing that is being fetched: that will be another response. But a validation that confirms one
// of them stores nothing. No look-up that starts later finds them. An error that wraps
// ErrNotDurable says that the file may bring some back.
func (s *Store) Drop(ids []EntryID, dryRun bool, others Selectors) (matched int, err error) {
	seen, queued := make(map[EntryID]bool), true
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		item, err := s.Find(id)
		if err != nil {
			return matched, err
		}
		if item == nil || dryRun && others.match(URLAt(item.URL, item.Listener), item.Tags) {
			continue
		}
		matched++
		if !dryRun {
			queued = s.forget(item.Key, item.ID, PurgedHard) && queued
		}
	}
	if dryRun || matched == 0 || s.disk == nil {
		return matched, nil
	}
	if err := s.Sync(); err != nil {
		return matched, fmt.Errorf("%w: %w", ErrNotDurable, err)
	}
	if !queued || !s.disk.writable() {
		return matched, ErrNotDurable
	}
	return matched, nil
}

// addOnlyMemory is addMemory for one entry.
func (l *listing) addOnlyMemory() {
	e := l.only
	sh := l.memory.shards[byte(e.key>>56)%shardCount]
	sh.mu.Lock()
	for r, _ := sh.keys.get(e.key); r != 0; {
		it := l.memory.items.at(r)
		r = it.sibling
		l.addIfOnly(it)
	}
	sh.mu.Unlock()
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	for _, j := range l.queue.jobsOf(e.key) {
		if j.kind == jobPut {
			l.addIfOnly(j.item)
		}
	}
}

func (l *listing) addIfOnly(it *item) {
	if it.id == l.only.id && !it.is(isDead) {
		l.add(it.id, l.memory.record(it), MemoryTier, it.severity())
	}
}

// addOnlyDisk is addDisk for one entry. What its row says of purges, confirm finds out.
func (l *listing) addOnlyDisk() error {
	step, e := l.clone(), l.only
	err := l.disk.view(func(tx *bbolt.Tx) error {
		t, err := l.disk.openBuckets(tx)
		if err != nil {
			return err
		}
		r, _, err := t.record(e.id)
		if err == nil && keyPrefix(r.key()) == e.key && !l.queue.supersedes(e.id, r) {
			step.add(e.id, r, DiskTier, NotPurged)
		}
		return nil // what cannot be read is not there
	})
	if err == nil {
		*l = *step
	}
	return err
}

package store

import (
	"bytes"
	"hash/maphash"
	"maps"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/slots"
)

// checkAgreement compares counters and indexes with a full scan of both tiers. Nothing else may use
// the store meanwhile.
func checkAgreement(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Sync(); err != nil { // what is queued is counted, and resident or not
		t.Fatalf("Sync: %v", err)
	}
	// A sweep holds what it is about to take.
	waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
	// Expiry goes on by itself, and gives bytes back a moment after it took the entry out: only
	// what stays different is wrong.
	var stats TierStats
	var entries, bytes int64
	defer func() {
		if stats.Entries != entries || stats.Bytes != bytes {
			t.Errorf("memory stats %d entries, %d bytes; scan %d, %d", stats.Entries, stats.Bytes, entries, bytes)
		}
	}()
	waitFor(t, func() bool {
		entries, bytes = checkShards(t, s)
		stats = s.Stats().Memory
		return stats.Entries == entries && stats.Bytes == bytes
	})
	if s.disk == nil {
		return
	}
	// Expiry goes on by itself, and counts a moment after it has committed: only what stays
	// different is wrong.
	waitFor(t, func() bool {
		counted, same := s.disk.entries.Load(), false
		if err := s.disk.view(func(tx *bbolt.Tx) error {
			tb, err := openBuckets(tx)
			if same = err == nil && tb.number(metaEntries) == uint64(counted); same {
				return checkTables(t, counted, tx)
			}
			return err
		}); err != nil {
			t.Errorf("scan: %v", err)
			return true
		}
		return same
	})
	var used, rows int64
	defer func() {
		if used != rows {
			t.Errorf("%d bytes of slots are used, and those with rows have %d", used, rows)
		}
	}()
	waitFor(t, func() bool {
		used, rows = slotsOf(t, s)
		return used == rows
	})
}

// checkShards checks that each shard's counters and indexes agree with its entries, and returns
// what all hold.
func checkShards(t *testing.T, s *Store) (entries, bytes int64) {
	t.Helper()
	for i, sh := range s.memory.shards {
		sh.mu.Lock()
		var n, b int64
		refs := 0
		sh.policy.each(func(it *item) {
			n++
			b += it.cost()
			refs += int(it.tags)
			if e := sh.decoded.get(it); e != nil && e.ID != it.id {
				t.Errorf("shard %d: entry %d is decoded for %d", i, e.ID, it.id)
			}
			if it.holds.Load() != 1 || !it.is(isResident) {
				t.Errorf("shard %d: item %d has %d holds, flags %b", i, it.id, it.holds.Load(), it.flags.Load())
			}
		})
		if n != sh.entries.Load() || b != sh.bytes.Load() || int(n) != sh.index.urls.Len() {
			t.Errorf("shard %d: policy has %d entries of %d bytes, counters %d of %d, URL index %d",
				i, n, b, sh.entries.Load(), sh.bytes.Load(), sh.index.urls.Len())
		}
		refs -= checkTagLists(t, sh.index)
		if refs != 0 {
			t.Errorf("shard %d: tag index is off by %d references", i, refs)
		}
		entries, bytes = entries+n, bytes+b+sh.decoded.bytes
		sh.mu.Unlock()
	}
	return entries, bytes
}

// allTags are the places of all tags.
func (ix *index) allTags() map[uint64]tagPlace {
	all := make(map[uint64]tagPlace)
	for i := range ix.tags {
		maps.Copy(all, ix.tags[i].m)
	}
	return all
}

// checkTagLists checks that every row of a tag agrees with its entry and stands where it is found,
// and returns how many there are.
func checkTagLists(t *testing.T, x *index) (refs int) {
	for hash, place := range x.allTags() {
		var rows []tagRow
		if place&inList == 0 {
			rows = append(rows, x.row(x.m.items.at(ref(place))))
		} else {
			l := x.tags[partOf(hash)].lists[place&^inList]
			if rows = slices.Concat(l...); len(rows) < 2 || !slices.IsSortedFunc(rows, tagRow.compare) {
				t.Errorf("list of a tag: %d rows, or not in order", len(rows))
			}
			for _, block := range l {
				if len(block) == 0 || len(block) > blockRows || cap(block) > 2*len(block)+1 {
					t.Errorf("list of a tag: %d entries in %d rows", len(block), cap(block))
				}
			}
		}
		for _, have := range rows {
			it, found := x.m.items.at(have.item), false
			x.m.record(it).eachTag(func(tag []byte) { found = found || maphash.Bytes(x.m.tagSeed, tag) == hash })
			if !found || have != x.row(it) {
				t.Errorf("tag: row %+v does not agree with its entry", have)
			}
		}
		refs += len(rows)
	}
	return refs
}

// slotsOf is how many bytes of slots are used, and how many those have that rows lead to, each to
// its own. Where bodies are on their way, or not all slots are known, both are 0.
func slotsOf(t *testing.T, s *Store) (used, rows int64) {
	t.Helper()
	s.bodyWriters.mu.Lock()
	open := len(s.bodyWriters.list)
	s.bodyWriters.mu.Unlock()
	file := s.disk.openSlots()
	if open > 0 || !file.IsKnown() {
		return 0, 0
	}
	of := make(map[uint32][]byte)
	must(t, s.disk.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(chunksBucket).ForEach(func(k, v []byte) error {
			if !isSlotKey(k) {
				return nil
			}
			ref, err := decodeSlotRow(k, v)
			if other := of[ref.slot]; err == nil && other != nil {
				t.Errorf("slot %d is that of %x and of %x", ref.slot, other, k)
			}
			of[ref.slot] = bytes.Clone(k)
			return err
		})
	}))
	return file.Used(), int64(len(of)) * slots.Size
}

// checkTables checks that every index row has its record and every record its rows.
func checkTables(t *testing.T, entries int64, tx *bbolt.Tx) error {
	tb, err := openBuckets(tx)
	if err != nil {
		return err
	}
	var records, tags, chunks int
	err = tb.records.ForEach(func(k, v []byte) error {
		id := rowID(k)
		r, inline, err := openRecord(id, v)
		if err != nil {
			return err
		}
		if err := r.checkBody(id, inline); err != nil {
			return err
		}
		e, length, err := tb.entry(id)
		if err != nil {
			return err
		}
		records++
		tags += len(e.Tags)
		if inline == nil {
			chunks += int((length + chunkSize - 1) / chunkSize)
		}
		rk := keyRowKey(e.Key, id)
		row, err := decodeKeyRow(rk, tb.keys.Get(rk))
		if err != nil {
			t.Errorf("entry %d: key row: %v", id, err)
		}
		for name, missing := range map[string]bool{
			"url":     tb.urls.Get(urlRowKey(e.URL, id)) == nil,
			"expiry":  tb.expiry.Get(numberedKey(uint64(nanos(e.KeepUntil)), id)) == nil,
			"recency": tb.recency.Get(numberedKey(row.rank, id)) == nil,
		} {
			if missing {
				t.Errorf("entry %d: no %s row", id, name)
			}
		}
		for _, tag := range e.Tags {
			if tb.tags.Get(tagRowKey(tag, id)) == nil {
				t.Errorf("entry %d: no row for tag %q", id, tag)
			}
		}
		return nil
	})
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"keys", tb.keys.Stats().KeyN, records},
		{"urls", tb.urls.Stats().KeyN, records},
		{"expiry", tb.expiry.Stats().KeyN, records},
		{"recency", tb.recency.Stats().KeyN, records},
		{"tags", tb.tags.Stats().KeyN, tags},
		{"counted entries", int(entries), records},
		{"stored count", int(tb.number(metaEntries)), records},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d rows, want %d", c.name, c.got, c.want)
		}
	}
	if pending := tb.pending.Stats().KeyN; pending == 0 && tb.chunks.Stats().KeyN != chunks {
		t.Errorf("chunks: %d rows, want %d", tb.chunks.Stats().KeyN, chunks)
	}
	return err
}

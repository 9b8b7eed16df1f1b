package store

import "testing"

// TestLookupOfWhatLeavesMemoryWhileItIsPurged: a look-up that has an item in hand, and has not
// judged it yet, must not find it when it has left memory, been purged and the purge been swept
// meanwhile: no sweep has marked it, and the record of the purge has gone.
func TestLookupOfWhatLeavesMemoryWhileItIsPurged(t *testing.T) {
	s := openStore(t, Config{}, Settings{Memory: 16 << 20})
	const url = "http://example.com/"
	for _, name := range []string{"a", "b"} {
		e := testEntry(s, url, make([]byte, 3000), "all")
		e.Variant = Variant{Names: []string{"Accept-Language"}, Values: []string{name}}
		if result := s.Put(e, 0); result != Stored {
			t.Fatalf("Put: %v", result)
		}
	}
	judged := 0
	r := s.Lookup(keyOf(url), func(*Variant) int {
		if judged++; judged == 1 { // the other one is in hand
			evict(s, keyOf(url))
			if _, err := s.Purge(Selectors{Tags: []string{"all"}}, PurgeOptions{}); err != nil {
				t.Error(err)
			}
			waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
			return 0
		}
		return 1
	})
	defer r.Release()
	if r.Entry != nil {
		t.Errorf("found %v from %v after the purge was swept", r.Entry.Variant, r.Tier)
	}
}

// evict has all that memory has of a key leave it.
func evict(s *Store, key Key) {
	sh := s.memory.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var items []*item
	sh.variants(&key, func(it *item) bool {
		items = append(items, it)
		return true
	})
	for _, it := range items {
		s.memory.discard(sh, it, Capacity)
	}
}

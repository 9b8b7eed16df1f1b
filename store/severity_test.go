package store

import (
	"fmt"
	"testing"
)

// TestSeverityComesBackFromDisk: what a purge has left of an entry is said by its rows once the
// purge is not in force any more, and by the item that comes to memory from there.
func TestSeverityComesBackFromDisk(t *testing.T) {
	const url = "http://example.com/"
	for _, severity := range []Severity{Soft, Invalid} {
		dir := t.TempDir()
		s := openStore(t, Config{Path: dir, Required: true}, bothTiers)
		s.Put(signedEntry(s, url, 1, 500), 0)
		must(t, s.Sync())
		if n, err := s.Purge(Selectors{URLs: []string{url}}, PurgeOptions{Severity: severity}); n != 1 || err != nil {
			t.Errorf("%v: Purge = %d, %v", severity, n, err)
		}
		waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
		must(t, s.Close())
		s = openStore(t, Config{Path: dir, Required: true}, bothTiers)
		for _, tier := range []Tier{DiskTier, MemoryTier} {
			r := s.Lookup(keyOf(url), matchAny)
			if r.Entry == nil || r.Tier != tier || r.Severity != severity {
				t.Errorf("found %v, %v, in %v; want %v in %v", r.Entry != nil, r.Severity, r.Tier, severity, tier)
			}
			r.Release()
		}
		items, _, err := s.List(Filter{}, 10, "")
		if err != nil || len(items) != 1 || items[0].Severity != severity {
			t.Errorf("%v: listed %+v, %v", severity, items, err)
		}
		must(t, s.Close())
	}
}

// TestManyRowsAreCountedBySeverity: where there are more rows than are judged one by one, those are
// left out that an earlier purge has hit as severely, and only those.
func TestManyRowsAreCountedBySeverity(t *testing.T) {
	const few = 5
	for earlier := Soft; earlier <= Hard; earlier++ {
		for later := Soft; later <= Hard; later++ {
			s := keptByHand(t, diskTier)
			many := few + 3*countRecords
			for i := range many {
				tags := []string{"many"}
				if i >= many-few {
					tags = append(tags, "few")
				}
				s.Put(testEntry(s, fmt.Sprintf("http://example.com/%03d", i), nil, tags...), 0)
			}
			must(t, s.diskWriter.flush())
			if n := purgeNow(t, s, Selectors{Tags: []string{"few"}}, earlier); n != few {
				t.Errorf("the first one matches %d, want %d", n, few)
			}
			want := many
			if earlier >= later {
				want -= few
			}
			if n := purgeNow(t, s, Selectors{Tags: []string{"many"}}, later); n != want {
				t.Errorf("%v after %v matches %d, want %d", later, earlier, n, want)
			}
		}
	}
}

package store

import (
	"fmt"
	"testing"
)

// crowdQueue has as many deletions wait as the queue has places.
func crowdQueue(s *Store) {
	for n := range queueJobs {
		s.queue.push(deletion(uint64(1e9+n), keyOf(fmt.Sprint(n)), Removed))
	}
}

// TestDeletionThatAFullQueueRefuses: what a slow disk had in its queue left no place for the
// deletion of what is replaced or removed, and nothing was said of it.
func TestDeletionThatAFullQueueRefuses(t *testing.T) {
	const url = "http://example.com/"
	for name, tt := range map[string]struct {
		change func(s *Store)
		want   int // version
	}{
		"replaced": {func(s *Store) { s.Put(signedEntry(s, url, 2, 200), 0) }, 2},
		"removed":  {func(s *Store) { remove(s, url) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := keptByHand(t, Settings{Memory: 512 << 20, Disk: 64 << 20})
			dw := s.diskWriter
			s.Put(signedEntry(s, url, 1, 200), 0)
			must(t, dw.flush())
			crowdQueue(s)
			tt.change(s)
			dw.reported(<-dw.broken)
			for dw.late.begin(s.memory); dw.queueLate(); {
			}
			must(t, dw.flush())
			s.memory.clear()
			if version, _ := found(t, s, url); version != tt.want || !s.disk.up.Load() {
				t.Errorf("version %d is found, want %d; the file is read: %v", version, tt.want, s.disk.up.Load())
			}
		})
	}
}

// TestDeletionThatMayBeForgotten: a full queue cost the file also for the deletion of what is found
// damaged again, and of a variant too many.
func TestDeletionThatMayBeForgotten(t *testing.T) {
	s := keptByHand(t, Settings{Memory: 512 << 20, Disk: 64 << 20})
	refuse := func(state string) {
		t.Helper()
		for _, why := range []EvictionReason{Damaged, Variants} {
			if s.queue.push(deletion(1, keyOf("x"), why)) || !s.disk.up.Load() || s.diskWriter.forgot.Load() {
				t.Errorf("a %s disk, %v: the file is read: %v", state, why, s.disk.up.Load())
			}
		}
	}
	crowdQueue(s)
	refuse("slow")
	s.diskWriter.failed(&fullError{fullErrors[0]})
	refuse("full")
}

// TestFewPagesFillNoQueue: some pages that were refreshed again and again while the queue had no
// room for responses filled it with deletions that said the same, which cost the file.
func TestFewPagesFillNoQueue(t *testing.T) {
	const pages, refreshes = 200, 20
	s := keptByHand(t, Settings{Memory: 256 << 20, Disk: 64 << 20})
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n%pages) }
	for n := range pages {
		s.Put(signedEntry(s, url(n), 1, 200), 0)
	}
	must(t, s.diskWriter.flush())
	empty := fillQueue(s)
	for n := range pages * refreshes {
		s.Put(signedEntry(s, url(n), 2, 200), 0)
	}
	if jobs, _, _ := s.queue.state(); jobs != pages {
		t.Errorf("%d wait for %d pages", jobs, pages)
	}
	empty()
	must(t, s.diskWriter.flush())
	s.memory.clear()
	for n := range pages {
		if version, _ := found(t, s, url(n)); version != 0 {
			t.Fatalf("version %d is found, and was replaced", version)
		}
	}
}

// TestDeletionIsNoRepetition: one that waits does not stand for another where something comes to
// disk between the two, or where it is being carried out.
func TestDeletionIsNoRepetition(t *testing.T) {
	key := keyOf("http://example.com/")
	variant, other := (&Variant{Names: []string{"A"}, Values: []string{"1"}}).sum(), (&Variant{}).sum()
	supersede := func(below uint64, v variantSum) *job {
		return (&job{kind: jobPut, key: key, variant: v, below: below}).supersession()
	}
	put := func(id uint64, v variantSum) *job {
		return &job{kind: jobPut, key: key, id: id, below: id, variant: v, late: true}
	}
	remove := func(id uint64) *job { return deletion(id, key, Removed) }
	for name, tt := range map[string]struct {
		wait  []*job
		taken int
		then  *job
		waits int
	}{
		"the same":                {[]*job{supersede(5, variant)}, 0, supersede(7, variant), 1},
		"the same id":             {[]*job{remove(5)}, 0, remove(5), 1},
		"in hand":                 {[]*job{supersede(5, variant)}, 1, supersede(7, variant), 2},
		"behind what is in hand":  {[]*job{remove(1), remove(5)}, 1, remove(5), 2},
		"a response between":      {[]*job{supersede(5, variant), put(6, variant)}, 0, supersede(7, variant), 3},
		"a response before":       {[]*job{put(4, variant), supersede(5, variant)}, 0, supersede(7, variant), 2},
		"another variant between": {[]*job{supersede(5, variant), put(6, other)}, 0, supersede(7, variant), 2},
		"another variant":         {[]*job{supersede(5, other)}, 0, supersede(7, variant), 2},
		"a renewal between":       {[]*job{remove(5), put(5, variant)}, 0, remove(5), 3},
		"another id":              {[]*job{remove(5)}, 0, remove(6), 2},
		"a removal":               {[]*job{remove(7)}, 0, supersede(7, other), 2},
	} {
		s := keptByHand(t, bothTiers)
		e := testEntry(s, "http://example.com/", nil, "")
		it, _ := s.stage(e, nil, 0, true)
		for _, j := range append(tt.wait, tt.then) {
			if j == tt.then {
				s.queue.head(tt.taken)
			}
			if j.kind == jobPut {
				j.item = it
			}
			if !s.queue.push(j) {
				t.Errorf("%s: refused", name)
			}
		}
		if jobs, _, _ := s.queue.state(); jobs != tt.waits {
			t.Errorf("%s: %d wait, want %d", name, jobs, tt.waits)
		}
		s.queue.mu.Lock()
		s.queue.clear()
		s.queue.mu.Unlock()
		s.memory.unhold(it)
	}
}

package store

import (
	"fmt"
	"maps"
	"testing"
)

// fullByHand is a store that is kept by hand, whose disk can be full.
func fullByHand(t *testing.T) (*Store, *fullDisk) {
	t.Helper()
	s, disk := keptByHand(t, bothTiers), new(fullDisk)
	interceptWrites(t, s, func(write writeAt) writeAt {
		return func(p []byte, off int64) (int, error) { return disk.write(write, p, off) }
	})
	return s, disk
}

// fails has a step of the disk writer find no room, and the disk be tried again.
func (d *fullDisk) fails(t *testing.T, s *Store, step func() error) {
	t.Helper()
	d.full.Store(true)
	err := step()
	if !isFull(err) {
		t.Fatalf("on a full disk: %v", err)
	}
	s.diskWriter.failed(err)
	d.full.Store(false)
	s.diskWriter.resume()
}

// TestFullDiskForgetsNoUse: what had been used was taken for unused once a full disk had had no
// room to say so, or to evict others, and went before what was never asked for.
func TestFullDiskForgetsNoUse(t *testing.T) {
	const pages = 40
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	evict := func(dw *diskWriter) error { _, err := dw.evictStep(); return err }
	for _, tt := range []struct {
		name     string
		inMemory bool // it is used there
		fails    func(dw *diskWriter) error
	}{
		{"evicting, used in memory", true, evict},
		{"evicting, used on disk", false, evict},
		{"writing its use on disk", false, (*diskWriter).writeAccesses},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, disk := fullByHand(t)
			dw := s.diskWriter
			for n := range pages {
				s.Put(signedEntry(s, url(n), 1, 3000), 0)
			}
			must(t, dw.flush())
			if !tt.inMemory {
				s.memory.clear()
			}
			found(t, s, url(0))
			if !tt.inMemory {
				s.memory.clear()
			}
			settings := *s.settings.Load()
			settings.Disk = s.disk.used() * 3 / 4
			s.settings.Store(&settings)
			disk.fails(t, s, func() error { return tt.fails(dw) })
			for more := true; more; {
				var err error
				more, err = dw.evictStep()
				must(t, err)
			}
			s.memory.clear()
			if version, _ := found(t, s, url(0)); version != 1 {
				t.Error("what was used has been evicted")
			}
			if version, _ := found(t, s, url(1)); version != 0 {
				t.Error("nothing has been evicted, so that this shows nothing")
			}
		})
	}
}

// TestFullDiskForgetsNoCredit: a variant lost what it had for its uses each time that a full disk
// had no room for another one.
func TestFullDiskForgetsNoCredit(t *testing.T) {
	const limit = 2
	s, disk := fullByHand(t)
	dw := s.diskWriter
	put := func(n int) {
		e := testEntry(s, variantURL, nil)
		e.Variant = Variant{Names: []string{"Accept-Language"}, Values: []string{fmt.Sprint(n)}}
		s.Put(e, limit)
	}
	for n := range limit {
		put(n)
	}
	must(t, dw.flush())
	s.memory.clear()
	for n := range limit {
		variantWorld{t, s, limit}.finds(fmt.Sprint(n))
	}
	s.memory.clear()
	before := maps.Clone(dw.credits.of)
	if len(before) != limit {
		t.Fatalf("the credits are %v", before)
	}
	put(limit)
	disk.fails(t, s, dw.writeJobs)
	if !maps.Equal(dw.credits.of, before) {
		t.Errorf("the credits are %v, and were %v", dw.credits.of, before)
	}
}

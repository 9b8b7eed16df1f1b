package store

import (
	"testing"
)

// searches counts the look-ups that have come to the disk.
func searches(s *Store) uint64 {
	_, begun := s.tickets.readers()
	return begun
}

// TestAbsenceIsAskedForOnce: of a key that is nowhere the disk is asked once, until something of
// it, or of one that shares its counter, is stored.
func TestAbsenceIsAskedForOnce(t *testing.T) {
	const url = "http://example.com/a"
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 1, Disk: 64 << 20})
	look := func(want bool) {
		t.Helper()
		r := s.Lookup(keyOf(url), matchAny)
		if (r.Entry != nil) != want {
			t.Errorf("found %v, want %v", r.Entry != nil, want)
		}
		r.Release()
	}
	look(false)
	before := searches(s)
	look(false)
	if n := searches(s) - before; n != 0 {
		t.Errorf("the disk was asked %d times more", n)
	}
	s.Put(testEntry(s, url, []byte("body")), 0)
	look(true) // queued
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	look(true)
	if _, err := s.Purge(Selectors{URLs: []string{url}}, PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	look(false)
	s.Put(testEntry(s, url, []byte("body")), 0)
	look(true)
}

// TestAbsenceIsNotNotedTooLate: what is stored while the disk is asked is found afterwards.
func TestAbsenceIsNotNotedTooLate(t *testing.T) {
	const url = "http://example.com/a"
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 1, Disk: 64 << 20})
	key := keyOf(url)
	sh := s.memory.shard(key)
	_, _, stamp := sh.candidates(&key, nil)
	s.Put(testEntry(s, url, []byte("body")), 0)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	sh.noteAbsent(&key, stamp)
	r := s.Lookup(key, matchAny)
	if r.Entry == nil {
		t.Error("not found")
	}
	r.Release()
}

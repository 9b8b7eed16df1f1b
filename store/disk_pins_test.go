package store

import (
	"bytes"
	"fmt"
	"testing"
)

// TestReadersThatTakeNothing: a body that is replaced, purged or evicted while a client reads it
// keeps its room until the client has left. Every other entry was evicted for that, and the file
// grew by each such body.
func TestReadersThatTakeNothing(t *testing.T) {
	const budget, pages = 16 << 20, 20
	for name, next := range map[string]func(s *Store, i int) string{
		"of many URLs":            func(_ *Store, i int) string { return fmt.Sprintf("http://example.com/large/%d", i) },
		"of one URL that changes": func(*Store, int) string { return "http://example.com/large" },
		"of one URL that is purged": func(s *Store, _ int) string {
			if _, err := s.Purge(Selectors{URLs: []string{"http://example.com/large"}}, PurgeOptions{}); err != nil {
				t.Error(err)
			}
			return "http://example.com/large"
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 1, Disk: budget})
			var readers []Result
			for i := range 40 {
				url := next(s, i)
				s.Put(testEntry(s, url, make([]byte, 1<<20)), 0)
				must(t, s.Sync())
				readers = append(readers, s.Lookup(keyOf(url), matchAny))
			}
			var urls []string
			for i := range pages {
				urls = append(urls, fmt.Sprintf("http://example.com/%d", i))
				s.Put(testEntry(s, urls[i], bytes.Repeat([]byte(urls[i]), 10)), 0)
			}
			must(t, s.Sync())
			if n := hits(t, s, urls); n != pages {
				t.Errorf("%d of %d pages are there", n, pages)
			}
			if size := s.Stats().FileBytes; size > budget*3/2 {
				t.Errorf("the file has %d bytes", size)
			}
			for _, r := range readers {
				if r.Entry != nil {
					if n := len(bodyOf(t, r.Entry)); n != 1<<20 {
						t.Errorf("a reader has %d bytes", n)
					}
				}
				r.Release()
			}
			if n := s.disk.pins.deleted(); n != 0 {
				t.Errorf("%d bytes count as read", n)
			}
			s.Put(testEntry(s, "http://example.com/later", make([]byte, 1<<20)), 0)
			must(t, s.Sync())
			r := s.Lookup(keyOf("http://example.com/later"), matchAny)
			if r.Entry == nil {
				t.Error("a large body is not taken in when the readers have left")
			}
			r.Release()
			checkAgreement(t, s)
		})
	}
}

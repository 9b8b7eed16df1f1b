package store

import (
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
			urls := putPages(t, s, pages)
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

// TestReadersOfBodiesThatAreNoEntries: a body of which no entry is made keeps its room, too, while
// clients read it.
func TestReadersOfBodiesThatAreNoEntries(t *testing.T) {
	const budget, pages = 16 << 20, 20
	for name, end := range map[string]func(s *Store, d *BodyWriter){
		"never stored": func(_ *Store, d *BodyWriter) {
			d.Unstorable()
			d.Unstorable() // once more does no harm
		},
		"purged before the record is written": func(s *Store, d *BodyWriter) {
			e := testEntry(s, "http://example.com/large", nil)
			if e.Body = d.Body(); e.Body == nil {
				t.Error("the body is not whole")
				return
			}
			s.Put(e, 0)
			if _, err := s.Purge(Selectors{URLs: []string{e.URL}}, PurgeOptions{}); err != nil {
				t.Error(err)
			}
			d.Unstorable() // as when the fetch ends, which has stored it
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 1, Disk: budget})
			urls := putPages(t, s, pages)
			var writers []*BodyWriter
			for range 40 {
				d, err := s.NewBodyWriter(-1)
				if err != nil {
					continue
				}
				must(t, d.Append(make([]byte, 1<<20), unread))
				must(t, d.Seal())
				end(s, d)
				must(t, s.Sync())
				writers = append(writers, d)
			}
			if n := s.disk.pins.deleted(); n < budget/8 || n > budget/2 {
				t.Errorf("%d bytes count as deleted and read, of %d bodies", n, len(writers))
			}
			if n := hits(t, s, urls); n != pages {
				t.Errorf("%d of %d pages are there", n, pages)
			}
			if size := s.Stats().FileBytes; size > budget*3/2 {
				t.Errorf("the file has %d bytes", size)
			}
			for _, d := range writers {
				if b, err := d.Chunk(1<<20 - 1); len(b) == 0 || err != nil {
					t.Errorf("a reader has %d bytes, %v", len(b), err)
				}
				d.Close()
				d.Unstorable() // too late
			}
			if n := s.disk.pins.deleted(); n != 0 || s.bodyWriters.held != 0 {
				t.Errorf("%d bytes count as read, %d as on their way", n, s.bodyWriters.held)
			}
			allSwept(t, s, 0)
			checkAgreement(t, s)
		})
	}
}

// TestBodyOfNoEntryCountsOnce: what is written of a body and is there for its readers alone counts
// as deleted, and no longer as on its way. Counted as both it would keep out the next body.
func TestBodyOfNoEntryCountsOnce(t *testing.T) {
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 1, Disk: 16 << 20})
	var writers []*BodyWriter
	for _, size := range []int{3 << 20, 7 << 20} {
		d, err := s.NewBodyWriter(-1)
		must(t, err)
		defer d.Close()
		must(t, d.Append(make([]byte, size), unread))
		must(t, d.Seal())
		if len(writers) == 0 {
			d.Unstorable()
		}
		writers = append(writers, d)
	}
	if n := s.bodyWriters.onTheirWay(); n != 7<<20 {
		t.Errorf("%d bytes count as on their way", n)
	}
	if n := s.disk.pins.deleted(); n < 3<<20 || n >= 4<<20 {
		t.Errorf("%d bytes count as deleted and read", n)
	}
}

// TestBodyWriterThatIsUnstorable: what was given to a batch already counts when it is written, and
// nothing more is.
func TestBodyWriterThatIsUnstorable(t *testing.T) {
	s := keptByHand(t, diskTier)
	d, err := s.NewBodyWriter(-1)
	must(t, err)
	must(t, d.Append(make([]byte, 40*chunkSize), unread))
	portions, _ := s.bodyWriters.due(chunkSize)
	d.Unstorable()
	must(t, s.diskWriter.writePortions(portions[:1]))
	s.bodyWriters.done(portions)
	if n := s.disk.pins.deleted(); n != portions[0].wrote || n == 0 {
		t.Errorf("%d bytes count as deleted and read, %d were written", n, portions[0].wrote)
	}
	if err := d.Append([]byte("more"), unread); err == nil {
		t.Error("it takes more")
	}
	if d.Body() != nil {
		t.Error("it has a body")
	}
	d.Close()
	if n := s.disk.pins.deleted(); n != 0 {
		t.Errorf("%d bytes count as read", n)
	}
	sweepPending(t, s)
	if chunks, pending := chunkRows(t, s); chunks != 0 || pending != 0 {
		t.Errorf("%d chunks are left, %d ids pending", chunks, pending)
	}
}

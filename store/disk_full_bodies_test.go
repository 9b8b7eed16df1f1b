package store

import (
	"bytes"
	"errors"
	"testing"

	"github.com/larder-cache/larder/store/internal/slots"
)

// TestFullDiskOfABodyOnItsWay: what of it is on disk can be read by those who are behind, also
// when the disk is written to again, until they have left.
func TestFullDiskOfABodyOnItsWay(t *testing.T) {
	rng := seeded(t)
	s, disk, clock, _ := onFullDisk(t, t.TempDir(), diskTier)
	d, err := s.NewBodyWriter(-1)
	must(t, err)
	body := randomBody(rng, 4<<20)
	must(t, d.Append(body[:2<<20], unread))
	written, err := d.Await(t.Context(), 0)
	must(t, err)
	disk.full.Store(true)
	must(t, d.Append(body[2<<20:], unread))
	if n, err := d.Await(t.Context(), 0); n != written || !errors.Is(err, ErrNoDisk) {
		t.Errorf("Await = %d, %v; %d are written", n, err, written)
	}
	waitFor(t, func() bool { return s.Stats().Disk.State == "full" })
	isRead := func() {
		t.Helper()
		for off := int64(0); off < written; {
			piece, err := d.Chunk(off)
			if err != nil || !bytes.Equal(piece, body[off:][:len(piece)]) {
				t.Fatalf("Chunk(%d): %d bytes, %v", off, len(piece), err)
			}
			off += int64(len(piece))
		}
	}
	isRead()
	if _, err := s.NewBodyWriter(-1); !errors.Is(err, ErrNoDisk) {
		t.Errorf("NewBodyWriter: %v", err)
	}
	disk.makeRoom(t, s, clock)
	other := randomBody(rng, 3<<20)
	if r := putWritten(t, s, rng, "http://example.com/", other); r != Stored {
		t.Errorf("Put = %v", r)
	}
	must(t, s.Sync())
	isRead()
	d.Close()
	allSwept(t, s, (len(other)+chunkSize-1)/chunkSize)
	wantBody(t, s, "http://example.com/", other)
	if n := s.Stats().Errors[DiskTier]; n != 1 {
		t.Errorf("%d errors are counted", n)
	}
	checkAgreement(t, s)
}

// TestFullDiskGivesSlotsBack: what was written of a body before there was no room for the rest is
// no entry's.
func TestFullDiskGivesSlotsBack(t *testing.T) {
	rng := seeded(t)
	s, disk, clock, _ := onFullDisk(t, t.TempDir(), bothTiers)
	s.Put(testEntry(s, "http://example.com/there", randomBody(rng, 3*chunkSize)), 0)
	must(t, s.Sync())
	file := s.disk.slots.Load()
	used := file.Used()
	disk.limit.Store(used + 2*slots.Size)
	s.Put(testEntry(s, "http://example.com/", randomBody(rng, 9*chunkSize)), 0)
	if err := s.Sync(); !errors.Is(err, fullErrors[0]) {
		t.Fatalf("Sync: %v", err)
	}
	if st := s.Stats(); st.Disk.State != "full" || file.Used() != used {
		t.Errorf("%+v: %d bytes of slots are used, %d were", st.Disk, file.Used(), used)
	}
	disk.limit.Store(0)
	disk.makeRoom(t, s, clock)
	waitFor(t, func() bool { return s.Stats().Disk.Entries == 2 })
	must(t, s.Sync())
	if rows, _ := slotRows(t, s); file.Used() != int64(rows)*slots.Size {
		t.Errorf("%d bytes of slots are used by %d rows", file.Used(), rows)
	}
	checkAgreement(t, s)
}

// TestFullDiskOfBodiesOnTheirWay: of what was written together one was written, and one in part.
// Who reads has it until they have left, and then it takes no room.
func TestFullDiskOfBodiesOnTheirWay(t *testing.T) {
	rng := seeded(t)
	s, disk, clock, _ := onFullDisk(t, t.TempDir(), diskTier)
	body := randomBody(rng, 7*chunkSize)
	disk.limit.Store(10 * slots.Size)
	var writers []*BodyWriter
	for range 2 {
		d, err := s.NewBodyWriter(-1)
		must(t, err)
		writers = append(writers, d)
	}
	s.bodyWriters.mu.Lock() // both are written in one step
	unlock := s.bodyWriters.mu.Unlock
	for _, d := range writers {
		d.pieces, d.appended, d.onItsWay = []piece{{body, unread}}, int64(len(body)), int64(len(body))
		s.bodyWriters.waiting += int64(len(body))
		s.bodyWriters.held += int64(len(body))
	}
	unlock()
	all := int64(0)
	for _, d := range writers {
		written, err := d.Await(t.Context(), 0)
		if all += written; err != nil && !errors.Is(err, ErrNoDisk) {
			t.Errorf("Await: %v", err)
		}
		if written > 0 {
			got := make([]byte, written)
			if err := copyBody(got, d.body(written)); err != nil || !bytes.Equal(got, body[:written]) {
				t.Errorf("%d bytes are written: %v", written, err)
			}
		}
	}
	waitFor(t, func() bool { return s.Stats().Disk.State == "full" })
	used := s.disk.slots.Load().Used()
	if all == 0 || all > used || used != (all+chunkSize-1)/chunkSize*slots.Size {
		t.Errorf("%d bytes are written, and %d bytes of slots are used", all, used)
	}
	for _, d := range writers {
		d.Close()
	}
	disk.limit.Store(0)
	disk.makeRoom(t, s, clock)
	waitFor(t, func() bool { return s.disk.slots.Load().Used() == 0 })
	checkAgreement(t, s)
}

package store

import (
	"bytes"
	"errors"
	"testing"

	"github.com/larder-cache/larder/store/internal/slots"
)

// TestPartsOfABody: parts of bodies that are not kept count as deleted from the first byte. They
// take a quarter of the budget with all that is, evict nothing, and go when they are closed.
func TestPartsOfABody(t *testing.T) {
	const budget, pages = 16 << 20, 20
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 1, Disk: budget})
	urls := putPages(t, s, pages)
	var parts []*BodyWriter
	want := make([]byte, 1<<20)
	for i := range want {
		want[i] = byte(i * i >> 8)
	}
	for {
		d, err := s.NewPartWriter(1 << 20)
		if err != nil {
			if !errors.Is(err, ErrNoSpace) {
				t.Error(err)
			}
			break
		}
		must(t, d.Append(want[:700_000], unread))
		must(t, d.Append(want[700_000:], unread))
		must(t, d.Seal())
		parts = append(parts, d)
	}
	// Each has four chunks and 512 bytes, which take a slot too.
	if len(parts) != 3 || s.disk.pins.deleted() != 3*5*slots.Size || s.bodyWriters.onTheirWay() != 0 {
		t.Errorf("%d parts, %d bytes count as deleted, %d as on their way", len(parts), s.disk.pins.deleted(), s.bodyWriters.onTheirWay())
	}
	if n := hits(t, s, urls); n != pages {
		t.Errorf("%d of %d pages are there", n, pages)
	}
	for _, d := range parts {
		var got []byte
		for len(got) < len(want) {
			b, err := d.Chunk(int64(len(got)))
			must(t, err)
			got = append(got, b...)
		}
		if !bytes.Equal(got, want) {
			t.Error("a part has other bytes")
		}
		d.Close()
	}
	if n := s.disk.pins.deleted(); n != 0 {
		t.Errorf("%d bytes count as deleted", n)
	}
	d, err := s.NewPartWriter(1 << 20)
	must(t, err)
	must(t, d.Append(want, unread)) // its reader leaves before it is written
	d.Close()
	allSwept(t, s, 0)
	checkAgreement(t, s)
}

// TestReaderOfAPartIsNotIdleInOthers: a client that reads one part of a body is not broken off
// because it takes nothing of those that follow.
func TestReaderOfAPartIsNotIdleInOthers(t *testing.T) {
	s, clock := readersByHand(t, nil)
	interrupted := make(chan struct{}, 4)
	reader := &calling{func() { interrupted <- struct{}{} }}
	var parts []*BodyWriter
	for range 3 {
		d, err := s.NewPartWriter(1 << 20)
		must(t, err)
		d.ReadBy(reader)
		must(t, d.Append(make([]byte, 1<<20), unread))
		must(t, sealByHand(t, s, d))
		parts = append(parts, d)
	}
	for range 30 {
		s.diskWriter.breakOff()
		clock.advance(idleTime / 10)
		if _, err := parts[0].Chunk(0); err != nil {
			t.Error(err)
		}
	}
	if n := s.Stats().Interrupted; n != 0 || len(interrupted) > 0 {
		t.Fatalf("%d are broken off that take pieces", n)
	}
	s.diskWriter.breakOff()
	clock.advance(3 * idleTime)
	s.diskWriter.breakOff()
	<-interrupted
	for _, d := range parts {
		d.Close()
	}
}

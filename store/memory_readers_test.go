package store

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// heldByStreams has a client that takes nothing read each of the entries that n pages become.
func heldByStreams(t *testing.T, s *Store, clock *testClock, name string, n int) (held []*stalledClient) {
	t.Helper()
	for i := range n {
		url := fmt.Sprintf("http://example.com/%s/%d", name, i)
		s.Put(freshEntry(s, clock, url, 20<<10), 0)
		r := s.Lookup(keyOf(url), matchAny)
		if r.Entry == nil {
			continue
		}
		c := &stalledClient{
			take: make(chan struct{}), waiting: make(chan struct{}, 1), cut: make(chan struct{}), done: make(chan error, 1),
		}
		go func() {
			_, err := r.WriteBody(c, r.Entry.Body, 0, -1, c)
			r.Release()
			c.done <- err
		}()
		<-c.waiting
		held = append(held, c)
	}
	return held
}

// readersInMemory is a store without a disk, whose writer and clock are the test's.
func readersInMemory(t *testing.T, budget int64) (*Store, *testClock) {
	t.Helper()
	clock := newTestClock()
	s := New(Config{Now: clock.now}, Settings{Memory: budget})
	s.state.Store(stateOpen)
	t.Cleanup(s.memory.clear)
	return s, clock
}

// TestStreamsThatTakeNothingOfSmallBodies: those that hold small bodies in all of memory are broken
// off after 30 s, whether these are stored still or not, while others find no room, and no more of
// them at once than have an eighth of it. Where nobody wants the room, none is.
func TestStreamsThatTakeNothingOfSmallBodies(t *testing.T) {
	const budget = 4 << 20
	for name, removed := range map[string]bool{"stored": false, "removed": true} {
		t.Run(name, func(t *testing.T) {
			s, clock := readersInMemory(t, budget)
			held := heldByStreams(t, s, clock, "held", budget/(20<<10)+20)
			cost := s.memory.used.Load() / int64(len(held))
			if removed {
				for i := range held {
					if r := s.Peek(keyOf(fmt.Sprintf("http://example.com/held/%d", i)), matchAny); r.Entry != nil {
						s.Remove(r.Entry)
						r.Release()
					}
				}
				held = append(held, heldByStreams(t, s, clock, "more", 5)...) // in what is left
			}
			put := func() PutResult { return s.Put(freshEntry(s, clock, "http://example.com/new", 20<<10), 0) }
			ticks := func(d time.Duration) {
				for ; d > 0; d -= 5 * time.Second {
					s.diskWriter.breakOffSmall()
					clock.advance(5 * time.Second)
				}
			}
			s.memory.wanted.Store(false)
			ticks(2 * idleTime)
			if n := s.Stats().Interrupted; n != 0 {
				t.Fatalf("%d are broken off, and nobody wants the room", n)
			}
			if r := put(); r != RefusedFull {
				t.Fatalf("a page beside %d that are held: %v", len(held), r)
			}
			ticks(idleTime)
			if n := s.Stats().Interrupted; n != 0 {
				t.Fatalf("%d are broken off before their time", n)
			}
			s.diskWriter.breakOffSmall()
			if n := s.Stats().Interrupted; n != 0 {
				t.Fatalf("%d are broken off, and nothing has wanted the room again", n)
			}
			put()
			s.diskWriter.breakOffSmall()
			cut := uint64(budget / 8 / cost)
			wantInterrupted(t, s, cut)
			ended := 0
			for _, c := range held {
				select {
				case <-c.cut:
					c.wantCut(t)
					ended++
				default:
				}
			}
			s.diskWriter.breakOffSmall()
			if n := s.Stats().Interrupted; n != cut {
				t.Errorf("%d are broken off in the end, want %d: there is room", n, cut)
			}
			if r := put(); r != Stored || ended != int(cut) {
				t.Errorf("%d are broken off, and a page is %v then", ended, r)
			}
			for _, c := range held {
				select {
				case <-c.cut:
				default:
					c.end()
				}
			}
		})
	}
}

// TestReaderIsBrokenOffOnlyWhileItReads: a reader that has ended, and one that has its place after
// it, is not broken off; and one that took all at that very moment has no whole answer.
func TestReaderIsBrokenOffOnlyWhileItReads(t *testing.T) {
	s, clock := readersInMemory(t, 1<<20)
	c := heldByStreams(t, s, clock, "held", 1)[0]
	readers := &s.memory.readers
	readers.idle(clock.now(), 1)
	clock.advance(idleTime)
	due := readers.idle(clock.now(), 1)
	if len(due) != 1 {
		t.Fatalf("%d are due", len(due))
	}
	p := due[0].place
	p.mu.Lock()
	p.client = &calling{func() { c.take <- struct{}{} }} // it takes it just now
	p.mu.Unlock()
	if n := due[0].interrupt(); n != 1 {
		t.Errorf("%d are broken off", n)
	}
	if err := <-c.done; !errors.Is(err, ErrIdle) {
		t.Errorf("WriteBody: %v", err)
	}
	if n := due[0].interrupt(); n != 0 {
		t.Error("one that has ended is broken off")
	}
	if !p.take(s.memory.items.at(1), &calling{func() { t.Error("it has only begun") }}) {
		t.Fatal("its place is not free")
	}
	if n := due[0].interrupt(); n != 0 {
		t.Error("one that has its place is broken off")
	}
}

// TestMoreReadersThanPlaces: all are known, and none is when they have ended.
func TestMoreReadersThanPlaces(t *testing.T) {
	s, clock := readersInMemory(t, 1<<20)
	s.Put(freshEntry(s, clock, "http://example.com/", 1000), 0)
	r := s.Lookup(keyOf("http://example.com/"), matchAny)
	readers, n := &s.memory.readers, 0
	var places []*readerPlace
	for range 3 * readerPlaces {
		places = append(places, readers.begin(r.item, &calling{func() { n++ }}))
	}
	readers.idle(clock.now(), 1)
	clock.advance(idleTime)
	for _, due := range readers.idle(clock.now(), 1) {
		due.interrupt()
	}
	if n != len(places) || len(readers.extra) == 0 {
		t.Errorf("%d of %d are broken off, %d are listed", n, len(places), len(readers.extra))
	}
	for _, p := range places {
		if !readers.end(p) {
			t.Error("it does not know that it was broken off")
		}
	}
	for i := range readers.places {
		if readers.places[i].client != nil {
			t.Error("a place is not free")
		}
	}
	if len(readers.extra) > 0 {
		t.Errorf("%d are still listed", len(readers.extra))
	}
	r.Release()
}

// BenchmarkReaderPlace is what a hit on a small body in memory pays for being known.
func BenchmarkReaderPlace(b *testing.B) {
	readers, it, client := new(memoryReaders), new(item), &calling{}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			readers.end(readers.begin(it, client))
		}
	})
}

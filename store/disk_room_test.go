package store

import (
	"fmt"
	"testing"
)

// writeAll has the disk writer do all that is to be written and evicted now.
func writeAll(t *testing.T, s *Store) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.diskWriter.writeTurn(); err != nil {
			t.Fatal(err)
		}
	}
	must(t, s.diskWriter.flush())
}

// TestFileThatReadersHaveGrownIsUsedWhole: what they held of deleted bodies has left free pages,
// and those do not lie scattered. That holds after the next start as well.
func TestFileThatReadersHaveGrownIsUsedWhole(t *testing.T) {
	const budget, bodies, readers = 32 << 20, 64, 14 // more hold large bodies back, see heldBack
	fillsByLength(t)
	s := keptByHand(t, Settings{Memory: 1, Disk: budget})
	fill := func(name string) {
		for n := range bodies {
			s.Put(testEntry(s, fmt.Sprintf("http://example.com/%s/%d", name, n), make([]byte, budget/bodies)), 0)
			writeAll(t, s)
		}
	}
	state := func(when string) (used, size float64) {
		used, size = float64(s.disk.used())/budget, float64(s.disk.length())/budget
		t.Logf("%s: %.2f of the budget is used, the file has %.2f", when, used, size)
		return used, size
	}
	fill("before")
	var held []Result
	for n := range readers {
		r := s.Lookup(keyOf(fmt.Sprintf("http://example.com/before/%d", bodies-1-n)), matchAny)
		held = append(held, r)
		s.Remove(r.Entry)
	}
	fill("while they are read")
	for i := range held {
		held[i].Release()
	}
	s.diskWriter.pending = s.disk.pins.takeLeft()
	for s.diskWriter.pending {
		if _, err := s.diskWriter.pendingStep(); err != nil {
			t.Fatal(err)
		}
	}
	if _, size := state("the readers have gone"); size < 1.2 {
		t.Fatal("the file has not grown")
	}
	for _, when := range []string{"after that", "after a start"} {
		fill(when)
		if used, size := state(when); used < .85 || size > 1.5 {
			t.Error("it is not used whole")
		}
		room := s.diskWriter.diskRoom()
		s.diskWriter.detach()
		s.disk.excused.Store(0) // as in another process
		must(t, s.attach())
		if _, err := s.diskWriter.scanSlots(); err != nil {
			t.Fatal(err)
		}
		if got := s.diskWriter.diskRoom(); got != room {
			t.Errorf("%d bytes may be used after a start, %d before", got, room)
		}
	}
}

// TestRestartExcusesNothing: a file that has grown because its free pages lie scattered is not used
// more after a start than before. By 128 tags an entry, and a start after each round, one came to
// more than one and a half of its budget when a quarter was excused for nothing.
func TestRestartExcusesNothing(t *testing.T) {
	const budget = 16 << 20
	fillsByLength(t)
	s := keptByHand(t, Settings{Memory: 1, Disk: budget + budget/4})
	for n := range 128 {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", n), make([]byte, budget/64)), 0)
		writeAll(t, s)
	}
	s.Apply(inAll(Settings{Memory: 1, Disk: budget}))
	writeAll(t, s)
	room := s.diskWriter.diskRoom()
	s.diskWriter.detach()
	must(t, s.attach())
	if got := s.diskWriter.diskRoom(); got != room || room >= budget {
		t.Errorf("%d bytes may be used after a start, %d before, of %d", got, room, budget)
	}
}

// TestBodiesOnTheirWayLeaveEntries: bodies that come, and then stall, do not have what is stored
// meanwhile evicted, in a file of which less than the budget may be used.
func TestBodiesOnTheirWayLeaveEntries(t *testing.T) {
	const budget = 12 << 20
	fillsByLength(t)
	s := keptByHand(t, Settings{Memory: 1 << 20, Disk: 16 << 20})
	for n := range 64 {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", n), make([]byte, 256<<10)), 0)
		writeAll(t, s)
	}
	s.Apply(inAll(Settings{Memory: 1 << 20, Disk: budget}))
	writeAll(t, s)
	var came int64
	for {
		d, err := s.NewBodyWriter(-1)
		if err == nil {
			err = d.Append(make([]byte, 1<<20), unread)
		}
		if err != nil {
			break
		}
		defer d.Close()
		came += 1 << 20
		writeAll(t, s)
	}
	for n := range 20 {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/small/%d", n), make([]byte, 1000)), 0)
	}
	writeAll(t, s)
	t.Logf("%.2f of the budget is on its way, %.2f may be used, the file has %.2f",
		float64(came)/budget, float64(s.diskWriter.diskRoom())/budget, float64(s.disk.length())/budget)
	if n := s.disk.entries.Load(); n < 20 {
		t.Errorf("%d of 20 are on disk", n)
	}
}

// TestManyLargeBodiesThatAreReadLeaveOthers: clients that ask for large files without end, each
// another one, and take little of them, do not have the disk evict what others use.
func TestManyLargeBodiesThatAreReadLeaveOthers(t *testing.T) {
	const budget, pages, large = 32 << 20, 32, 1 << 20
	s := keptByHand(t, Settings{Memory: 1, Disk: budget})
	lookUp := func() (found int) {
		for n := range pages {
			if r := s.Lookup(keyOf(fmt.Sprintf("http://example.com/page/%d", n)), matchAny); r.Entry != nil {
				r.Release()
				found++
			}
		}
		return found
	}
	for n := range pages {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/page/%d", n), make([]byte, 20<<10)), 0)
	}
	writeAll(t, s)
	var begun []*BodyWriter
	for range 3 * budget / large {
		d, err := s.NewBodyWriter(large)
		must(t, err)
		defer d.Close() // its client reads until then
		begun = append(begun, d)
	}
	var stored, most int64
	for n, d := range begun {
		if d.Append(make([]byte, large), unread) == nil && sealByHand(t, s, d) == nil {
			e := testEntry(s, fmt.Sprintf("http://example.com/large/%d", n), nil)
			e.Body = d.Body()
			if s.Put(e, 0) == Stored {
				stored++
			}
		}
		writeAll(t, s)
		lookUp()
		most = max(most, s.disk.length())
	}
	deleted, inUse := s.disk.pins.inUse()
	t.Logf("%d large bodies were stored; %d bytes are read, %d of them deleted; the file has %.2f of its budget",
		stored, inUse, deleted, float64(most)/budget)
	if found := lookUp(); found < pages {
		t.Errorf("%d of %d pages are left", found, pages)
	}
	if stored < budget/large/4 || most > budget/2*3 {
		t.Errorf("%d large bodies were stored, the file has %d bytes", stored, most)
	}
}

// sealByHand seals a body while the disk writer's work is done.
func sealByHand(t *testing.T, s *Store, d *BodyWriter) error {
	t.Helper()
	sealed := make(chan error)
	go func() { sealed <- d.Seal() }()
	for {
		select {
		case err := <-sealed:
			return err
		default:
			writeAll(t, s)
		}
	}
}

package arena

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

// extent is one that a test has, with what it wrote there.
type extent struct {
	at   Address
	n    int
	fill byte
}

// arenaModel drives an arena and a list of what it gave out side by side.
type arenaModel struct {
	t    *testing.T
	a    *Arena
	have []extent
}

func (m *arenaModel) alloc(n int, fill byte) {
	m.t.Helper()
	at, _, err := m.a.Alloc(n, uint32(n))
	if err != nil {
		m.t.Fatal(err)
	}
	data := m.a.Bytes(at, n)
	if owner := binary.LittleEndian.Uint32(data); owner != uint32(n) {
		m.t.Errorf("extent of %d bytes belongs to %d", n, owner)
	}
	for _, part := range edges(data) {
		for i := range part {
			part[i] = fill
		}
	}
	m.have = append(m.have, extent{at, n, fill})
}

// edges are the beginning of an extent behind its owner, and its end.
func edges(data []byte) [2][]byte {
	return [2][]byte{data[4:min(len(data), pageSize)], data[max(4, len(data)-pageSize):]}
}

func (m *arenaModel) free(i int) {
	m.t.Helper()
	x := m.have[i]
	for _, part := range edges(m.a.Bytes(x.at, x.n)) {
		if bytes.Count(part, []byte{x.fill}) != len(part) {
			m.t.Errorf("extent of %d bytes at %x was written to by another", x.n, x.at)
		}
	}
	m.a.Free(x.at)
	m.have[i] = m.have[len(m.have)-1]
	m.have = m.have[:len(m.have)-1]
}

// check compares the counters with what was given out.
func (m *arenaModel) check() {
	m.t.Helper()
	var want int64
	for _, x := range m.have {
		want += m.a.ExtentSize(x.n)
	}
	if m.a.used != want {
		m.t.Errorf("%d bytes in use, want %d", m.a.used, want)
	}
	var free, dirty int64
	for _, r := range *m.a.regions.Load() {
		if r == nil {
			continue
		}
		free -= int64(len(r.owner))
		end := uint32(0)
		for _, s := range r.free {
			if s.pages == 0 || s.pages > r.largest || (s.start <= end && end != 0) {
				m.t.Errorf("free run %+v behind %d, the largest of %d", s, end, r.largest)
			}
			end = s.start + s.pages
			free += int64(s.pages)
			if dirty += s.dirty.pages(); s.dirty.pages() > 0 && (s.dirty.from < s.start || s.dirty.to > end) || s.dirty.pages() < 0 {
				m.t.Errorf("%+v of free run %+v may be resident", s.dirty, s)
			}
		}
	}
	for pages, runs := range m.a.idle {
		free += int64(pages * len(runs))
		dirty += int64(pages * len(runs))
	}
	if dirty != m.a.dirty {
		m.t.Errorf("%d free pages may be resident, but %d are counted", dirty, m.a.dirty)
	}
	if -free != m.a.pages {
		m.t.Errorf("%d pages in use, but %d are not free", m.a.pages, -free)
	}
	if limit := max(slackPages, m.a.pages/slackPart); m.a.dirty > limit {
		m.t.Errorf("%d pages kept that are free, more than %d", m.a.dirty, limit)
	}
}

func TestArenaAgainstModel(t *testing.T) {
	for name, a := range map[string]*Arena{"slabs": New(), "pages": NewOfPages()} {
		t.Run(name, func(t *testing.T) { testAgainstModel(t, a) })
	}
}

func testAgainstModel(t *testing.T, a *Arena) {
	t.Helper()
	rng := seeded(t)
	m := &arenaModel{t: t, a: a}
	for step := range 12_000 {
		grow := step/2500%2 == 0
		if len(m.have) == 0 || (rng.IntN(10) < 7) == grow {
			m.alloc(randomSize(rng), byte(rng.IntN(250)))
		} else {
			m.free(rng.IntN(len(m.have)))
		}
		if step%1000 == 0 {
			m.check()
		}
		if t.Failed() {
			t.Fatalf("step %d", step)
		}
	}
	for len(m.have) > 0 {
		m.free(len(m.have) - 1)
	}
	m.check()
	if m.a.pages != 0 || m.a.used != 0 {
		t.Errorf("%d pages, %d bytes in use in the end", m.a.pages, m.a.used)
	}
}

// randomSize is most often that of a small entry, sometimes that of a large one.
func randomSize(rng *rand.Rand) int {
	switch n := rng.IntN(100); {
	case n < 70:
		return 100 + rng.IntN(4000)
	case n < 95:
		return 4 + rng.IntN(maxSlot+4096)
	default:
		return rng.IntN(300<<10) + maxSlot
	}
}

// TestFreePagesCountUntilTheyAreGivenBack: what is cut off the beginning of a free run, of which
// only the end has been in use, is none of what may be resident. It was counted as if it were, so
// that the rest was never given back.
func TestFreePagesCountUntilTheyAreGivenBack(t *testing.T) {
	const pages, runs = 16, 512
	a := New()
	used := make(map[Address]bool) // free, and not given back since they were in use
	alloc := func() Address {
		at, _, err := a.Alloc(pages*pageSize, 1)
		if err != nil {
			t.Fatal(err)
		}
		delete(used, at)
		return at
	}
	free := func(at Address) {
		t.Helper()
		used[at] = true
		if a.Free(at); a.dirty == 0 {
			clear(used)
		}
		if n := int64(len(used)) * pages; a.dirty < n {
			t.Fatalf("%d free pages may be resident, at most %d are known", n, a.dirty)
		}
	}
	var all []Address
	for range runs {
		all = append(all, alloc())
	}
	for _, at := range all[:runs/2] {
		free(at)
	}
	for _, at := range all[runs/2:] { // each comes behind the free run, and the next is cut off its beginning
		free(at)
		if next := alloc(); next > all[runs/2] {
			t.Fatalf("%x comes behind %x, and is not of the free run", next, all[runs/2])
		}
	}
}

func TestArenaLargerThanARegion(t *testing.T) {
	m := &arenaModel{t: t, a: New()}
	m.alloc(1000, 1)
	m.alloc(regionSize+12345, 2)
	m.alloc(regionSize, 3)
	m.check()
	m.free(1)
	m.check()
	m.alloc(2*regionSize, 4)
	m.check()
	for len(m.have) > 0 {
		m.free(0)
	}
	m.check()
}

func TestSlotSizes(t *testing.T) {
	a := New()
	for n := 1; n <= maxSlot+1; n++ {
		if got := a.ExtentSize(n); got < int64(n) || (n > 1024 && got > int64(n)*9/8+8) {
			t.Fatalf("%d bytes take up %d", n, got)
		}
	}
	for i, c := range a.classes {
		if c.size*c.slots > c.pages*pageSize || c.slots > SlabSlots || (i > 0 && c.size <= a.classes[i-1].size) {
			t.Errorf("class %d: %+v", i, c)
		}
	}
}

// TestFreedBytesArePoisoned: it is what the other tests find a use after free by.
// TestRegionIsKept: an arena of which nothing is in use for a moment maps no other region for what
// comes next, as long as it keeps one, and has none left from there on.
func TestRegionIsKept(t *testing.T) {
	a := New()
	mapped := func() (n int) {
		for _, r := range *a.regions.Load() {
			if r != nil {
				n++
			}
		}
		return n
	}
	fill := func() (extents []Address) {
		for mapped() < 3 {
			at, _, err := a.Alloc(regionSize/2, 1)
			if err != nil {
				t.Fatal(err)
			}
			extents = append(extents, at)
		}
		return extents
	}
	for _, keeps := range []bool{true, false} {
		a.Keep(keeps)
		for _, at := range fill() {
			a.Free(at)
		}
		want := 0
		if keeps {
			want = 1
		}
		if n := mapped(); n != want {
			t.Errorf("%d regions are mapped when nothing is in use, want %d", n, want)
		}
	}
	a.Keep(true)
	extents := fill()
	a.Keep(false)
	if n := mapped(); n != 3 {
		t.Errorf("%d regions are mapped, want all that are in use", n)
	}
	for _, at := range extents {
		a.Free(at)
	}
	if n := mapped(); n != 0 {
		t.Errorf("%d regions are left", n)
	}
}

func TestFreedBytesArePoisoned(t *testing.T) {
	if !poisoning {
		t.Skip("only with the race detector")
	}
	a := New()
	for _, n := range []int{500, 100_000} {
		keep, _, err := a.Alloc(n, 1) // else the region goes with the last extent
		if err != nil {
			t.Fatal(err)
		}
		at, _, err := a.Alloc(n, 1)
		if err != nil {
			t.Fatal(err)
		}
		data := a.Bytes(at, n)
		a.Free(at)
		if len(bytes.Trim(data, "\xdb")) != 0 {
			t.Errorf("%d bytes can still be read after they were freed", n)
		}
		a.Free(keep)
	}
}

func BenchmarkArena(b *testing.B) {
	for _, bb := range []struct {
		name        string
		a           *Arena
		live        int
		least, most int
	}{
		{"slabs", New(), 10_000, 100, 4100},
		{"pages, one", NewOfPages(), 1, 16 << 10, 16<<10 + 1},
		{"pages, 100", NewOfPages(), 100, 4 << 10, 64 << 10},
		{"pages, 3000", NewOfPages(), 3000, 4 << 10, 64 << 10},
	} {
		b.Run(bb.name, func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			bb.a.Keep(true)
			size := func() int { return bb.least + rng.IntN(bb.most-bb.least) }
			have := make([]Address, bb.live)
			for i := range have {
				have[i], _, _ = bb.a.Alloc(size(), 1)
			}
			b.ReportAllocs()
			for b.Loop() {
				i := rng.IntN(len(have))
				bb.a.Free(have[i])
				have[i], _, _ = bb.a.Alloc(size(), 1)
			}
		})
	}
}

// seeded is a generator whose seed the test's log has.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

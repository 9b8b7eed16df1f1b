package slots

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func opened(t *testing.T, name string) *File {
	t.Helper()
	f, err := Open(func(flag int) (Storage, error) {
		file, err := os.OpenFile(name, flag, 0o600)
		if err != nil {
			return nil, err
		}
		return file, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func take(t *testing.T, f *File) uint32 {
	t.Helper()
	slot, _, err := f.Take()
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// TestNoFileBeforeTheFirstSlot: where nothing large is stored there is none.
func TestNoFileBeforeTheFirstSlot(t *testing.T) {
	name := filepath.Join(t.TempDir(), "slots")
	f := opened(t, name)
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("there is one: %v", err)
	}
	if err := f.ReadAt(make([]byte, 1), 0, 0); !errors.Is(err, ErrNoFile) {
		t.Errorf("ReadAt: %v", err)
	}
	if err := errors.Join(f.Sync(), f.Shrink()); err != nil {
		t.Error(err)
	}
	if slot, made, err := f.Take(); slot != 0 || !made || err != nil {
		t.Errorf("Take = %d, %v, %v", slot, made, err)
	}
	if slot, made, err := f.Take(); slot != 1 || made || err != nil {
		t.Errorf("Take = %d, %v, %v", slot, made, err)
	}
}

// TestBeforeAllIsKnown: what is taken before Known is beyond what the file had, whatever is marked,
// and what is given back before it was marked counts no more.
func TestBeforeAllIsKnown(t *testing.T) {
	name := filepath.Join(t.TempDir(), "slots")
	if err := os.WriteFile(name, make([]byte, 4*Size-1), 0o600); err != nil {
		t.Fatal(err)
	}
	f := opened(t, name)
	f.Assume(3, 4)
	f.Mark(2)
	f.Mark(4) // there is none
	if slot := take(t, f); slot != 4 {
		t.Errorf("slot %d is taken, which may be another's", slot)
	}
	if used := f.Used(); used != 4*Size {
		t.Errorf("%d bytes are used", used)
	}
	reader := f.Enter()
	f.Give(0) // it was one of the three
	if used := f.Used(); used != 3*Size {
		t.Errorf("%d bytes are used", used)
	}
	f.Mark(1)
	f.Known()
	if used := f.Used(); used != 3*Size || f.Len() != 5*Size {
		t.Errorf("%d bytes are used of %d", used, f.Len())
	}
	if slot := take(t, f); slot != 3 {
		t.Errorf("slot %d, want the one that is free and has no reader", slot)
	}
	f.Leave(reader)
	if a, b := take(t, f), take(t, f); a != 0 || b != 5 {
		t.Errorf("slots %d and %d, want what is free and then the end", a, b)
	}
}

// TestGivenSlotIsReadToTheEnd: as long as one who may know of it reads, it is not taken again.
func TestGivenSlotIsReadToTheEnd(t *testing.T) {
	f := opened(t, filepath.Join(t.TempDir(), "slots"))
	slot := take(t, f)
	first := f.Enter()
	f.Give(slot)
	second := f.Enter() // does not know of it
	if other := take(t, f); other == slot {
		t.Fatal("it is another's while it is read")
	}
	f.Leave(first)
	f.Leave(second)
	if again := take(t, f); again != slot {
		t.Errorf("slot %d is taken, want %d, which has no reader any more", again, slot)
	}
}

// TestClosed: nothing is taken, read or written any more, and no file is made.
func TestClosed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "slots")
	for _, f := range []*File{opened(t, name), Closed()} {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, err := f.Take()
		for what, err := range map[string]error{
			"Take": err, "ReadAt": f.ReadAt(make([]byte, 1), 0, 0), "WriteAt": f.WriteAt(make([]byte, 1), 0), "Sync": f.Sync(),
		} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a file: %v", err)
	}
}

// TestShrinkCutsTheEndOff, and nothing that is taken.
func TestShrinkCutsTheEndOff(t *testing.T) {
	name := filepath.Join(t.TempDir(), "slots")
	f := opened(t, name)
	want := bytes.Repeat([]byte("a"), Size)
	for range 70 {
		if err := f.WriteAt(want, take(t, f)); err != nil {
			t.Fatal(err)
		}
	}
	for slot := range uint32(70) {
		if slot != 3 {
			f.Give(slot)
		}
	}
	if err := f.Shrink(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Size() != 4*Size || f.Len() != info.Size() {
		t.Errorf("%v, %v", info.Size(), err)
	}
	got := make([]byte, Size)
	if err := f.ReadAt(got, 3, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what is left: %v", err)
	}
	if err := f.ReadAt(got, 4, 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("beyond the end: %v", err)
	}
	if slot := take(t, f); slot != 0 {
		t.Errorf("slot %d", slot)
	}
	if err := f.Reset(); err != nil || f.Len() != 4*Size {
		t.Errorf("Reset: %d bytes, %v", f.Len(), err)
	}
}

// model is what a File should be: which slots are taken, with what is in them, and who reads.
type model struct {
	t       *testing.T
	rng     *rand.Rand
	f       *File
	stamp   byte
	taken   map[uint32]byte
	readers []reader
}

type reader struct {
	epoch uint32
	saw   map[uint32]byte
}

func (m *model) check(slots map[uint32]byte) {
	for slot, want := range slots {
		got := make([]byte, 1)
		if err := m.f.ReadAt(got, slot, 0); err != nil || got[0] != want {
			m.t.Fatalf("slot %d has %d, %v; want %d", slot, got[0], err, want)
		}
	}
}

func (m *model) take() {
	slot := take(m.t, m.f)
	if _, taken := m.taken[slot]; taken {
		m.t.Fatalf("slot %d is taken twice", slot)
	}
	m.stamp++
	m.taken[slot] = m.stamp
	if err := m.f.WriteAt([]byte{m.stamp}, slot); err != nil {
		m.t.Fatal(err)
	}
}

func (m *model) give() {
	for slot := range m.taken {
		m.f.Give(slot)
		delete(m.taken, slot)
		return
	}
}

func (m *model) leave() {
	if len(m.readers) == 0 {
		return
	}
	i := m.rng.IntN(len(m.readers))
	m.check(m.readers[i].saw)
	m.f.Leave(m.readers[i].epoch)
	m.readers = slices.Delete(m.readers, i, i+1)
}

func (m *model) step() {
	switch m.rng.IntN(8) {
	case 0, 1, 2:
		m.take()
	case 3, 4:
		m.give()
	case 5:
		m.readers = append(m.readers, reader{m.f.Enter(), maps.Clone(m.taken)})
	case 6:
		m.leave()
	case 7:
		if err := m.f.Shrink(); err != nil {
			m.t.Fatal(err)
		}
	}
	if used := m.f.Used(); used != int64(len(m.taken))*Size {
		m.t.Fatalf("%d bytes are used, %d slots taken", used, len(m.taken))
	}
}

// TestModel: whatever is done, before all is known and after that, no slot is two's, none that is
// read is written to, and what is counted is what is taken.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 0)), taken: make(map[uint32]byte)}
	name := filepath.Join(t.TempDir(), "slots")
	for range 5 {
		m.f = opened(t, name)
		m.f.Assume(uint64(len(m.taken)), 0)
		unmarked := slices.Collect(maps.Keys(m.taken))
		for range 1000 {
			m.step()
			if n := len(unmarked); n > 0 && m.rng.IntN(4) == 0 {
				if _, still := m.taken[unmarked[n-1]]; still {
					m.f.Mark(unmarked[n-1])
				}
				if unmarked = unmarked[:n-1]; n == 1 {
					m.f.Known()
				}
			}
		}
		m.check(m.taken)
		if err := m.f.Close(); err != nil {
			t.Fatal(err)
		}
		m.readers = nil
	}
}

// TestFileThatIsShorterThanWrittenDown: slots that it has lost are taken until it is known who has
// them. Else the keeper's deletion of what is lost would give back what has come there since.
func TestFileThatIsShorterThanWrittenDown(t *testing.T) {
	f := opened(t, filepath.Join(t.TempDir(), "slots"))
	f.Assume(2, 5)
	if f.IsKnown() || f.Used() != 2*Size {
		t.Errorf("known %v, %d bytes used", f.IsKnown(), f.Used())
	}
	if slot := take(t, f); slot != 5 {
		t.Errorf("slot %d may be another's", slot)
	}
	f.Mark(4)
	f.Mark(1)
	f.Known()
	if err := f.ReadAt(make([]byte, 1), 4, 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("what is lost is read: %v", err)
	}
	if a, b := take(t, f), take(t, f); a != 0 || b != 2 {
		t.Errorf("slots %d and %d", a, b)
	}
}

package store

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/store/internal/slots"
)

// faultyBodies is the file of large bodies on a disk with a fault.
type faultyBodies struct {
	slots.Storage
	bad   atomic.Int64 // from here on nothing can be read; 0: everything can
	syncs atomic.Int64 // how many syncs fail
}

func (f *faultyBodies) ReadAt(p []byte, off int64) (int, error) {
	if bad := f.bad.Load(); bad > 0 && off+int64(len(p)) > bad {
		return 0, syscall.EIO
	}
	return f.Storage.ReadAt(p, off)
}

func (f *faultyBodies) Sync() error {
	if f.syncs.Add(-1) >= 0 {
		return syscall.EIO
	}
	return f.Storage.Sync()
}

// onFaultyBodies has a store use them, before it is opened.
func onFaultyBodies(s *Store) *faultyBodies {
	faulty := new(faultyBodies)
	s.disk.bodiesStorage = func(f *os.File) slots.Storage {
		faulty.Storage = f
		return faulty
	}
	return faulty
}

// attachedByHand is keptByHand of a store that was prepared.
func attachedByHand(t *testing.T, s *Store) {
	t.Helper()
	must(t, s.attach())
	s.state.Store(stateOpen)
	t.Cleanup(func() {
		s.diskWriter.endSweeps()
		s.diskWriter.detach()
		s.memory.clear()
	})
}

// TestBadSectorInASlot costs the entry, as a damaged page does, and nothing else: a compaction that
// meets it goes on. It gave the whole tier up.
func TestBadSectorInASlot(t *testing.T) {
	rng := seeded(t)
	s := New(Config{Path: t.TempDir(), Required: true}, diskTier)
	faulty := onFaultyBodies(s)
	must(t, s.Open())
	t.Cleanup(func() { _ = s.Close() })
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	for n := range 2 {
		s.Put(testEntry(s, url(n), randomBody(rng, 3*chunkSize)), 0)
		must(t, s.Sync())
	}
	_, err := s.Purge(Selectors{URLs: []string{url(0)}}, PurgeOptions{})
	must(t, err)
	waitFor(t, func() bool { return s.disk.slots.Load().Used() == 3*slots.Size })
	faulty.bad.Store(4*slots.Size + 40_000)
	_, err = s.Compact(t.Context())
	if st := s.Stats(); err != nil || st.Disk.State != "open" || st.Disk.Entries != 0 {
		t.Fatalf("Compact: %v; %+v", err, st.Disk)
	}
	wantBody(t, s, url(1), nil)
	if n := s.Stats().Errors[DiskTier]; n != 1 {
		t.Errorf("%d errors are counted", n)
	}
	allSwept(t, s, 0)
	waitFor(t, func() bool { return s.disk.slots.Load().Used() == 0 })
}

// TestRewrittenChunksGiveTheirSlotsBack: what was written of a body before the tier failed is
// written once more, to the same rows. The slots that these led to had no row, and counted.
func TestRewrittenChunksGiveTheirSlotsBack(t *testing.T) {
	rng := seeded(t)
	s := keptByHand(t, Settings{Memory: 64 << 20, Disk: 64 << 20})
	s.Put(testEntry(s, "http://example.com/", randomBody(rng, 10<<20)), 0)
	must(t, s.diskWriter.writeJobs()) // a part of it
	s.diskWriter.failed(errors.New("injected"))
	must(t, s.attach())
	for more := true; more; {
		var err error
		more, err = s.diskWriter.scanSlots()
		must(t, err)
	}
	s.diskWriter.late.begin(s.memory)
	for s.diskWriter.queueLate() {
	}
	must(t, s.diskWriter.flush())
	sweepPending(t, s)
	rows, _ := slotRows(t, s)
	if used := s.disk.slots.Load().Used() / slots.Size; rows == 0 || used != int64(rows) {
		t.Errorf("%d slots are used, %d have rows", used, rows)
	}
}

// TestReaderOfABodyWriterThatCloses: it was told of damage, which was counted.
func TestReaderOfABodyWriterThatCloses(t *testing.T) {
	rng := seeded(t)
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, diskTier)
	d, err := s.NewBodyWriter(-1)
	must(t, err)
	must(t, d.Append(randomBody(rng, 2*chunkSize), unread))
	written, err := d.Await(t.Context(), 0)
	must(t, err)
	b := d.body(written) // as Chunk does, after it has looked
	d.Close()
	if _, err := b.Chunk(0); !errors.Is(err, errNotThere) {
		t.Errorf("Chunk: %v", err)
	}
	if n := s.Stats().Errors[DiskTier]; n != 0 {
		t.Errorf("%d errors are counted", n)
	}
}

// sealedByHand writes a body, doing the disk writer's steps, until Seal returns.
func sealedByHand(t *testing.T, s *Store, d *BodyWriter) error {
	t.Helper()
	sealed := make(chan error, 1)
	go func() { sealed <- d.Seal() }()
	for {
		if _, err := s.diskWriter.writeBodies(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-sealed:
			return err
		case <-time.After(time.Millisecond): // for the sync, which nothing here is told of
		}
	}
}

// TestReaderAfterTheFileWasOpenedAnew: a stored body is read by its rows, also by one who has it of
// its BodyWriter, which knew slots of before.
func TestReaderAfterTheFileWasOpenedAnew(t *testing.T) {
	rng := seeded(t)
	s := keptByHand(t, Settings{Memory: 1 << 20, Disk: 64 << 20})
	d, err := s.NewBodyWriter(-1)
	must(t, err)
	defer d.Close()
	must(t, d.Append(randomBody(rng, 2*chunkSize), unread))
	must(t, sealedByHand(t, s, d))
	e := testEntry(s, "http://example.com/", nil)
	e.Body = d.Body()
	if r := s.Put(e, 0); r != Stored {
		t.Fatalf("Put = %v", r)
	}
	must(t, s.diskWriter.flush())
	s.diskWriter.failed(errors.New("injected"))
	must(t, s.attach())
	if _, err := e.Body.Chunk(0); err != nil {
		t.Errorf("it is in the file: %v", err)
	}
}

// TestSyncThatFailsIsNotBelievedLater: the next one succeeds without what the first has lost. The
// body is not stored.
func TestSyncThatFailsIsNotBelievedLater(t *testing.T) {
	rng := seeded(t)
	s := New(Config{Path: t.TempDir(), Required: true}, Settings{Memory: 1 << 20, Disk: 64 << 20})
	onFaultyBodies(s).syncs.Store(1)
	s.bodyWriters.patience = 100 * time.Millisecond
	attachedByHand(t, s)
	d, err := s.NewBodyWriter(-1)
	must(t, err)
	defer d.Close()
	must(t, d.Append(randomBody(rng, 2*chunkSize), unread))
	if err := sealedByHand(t, s, d); !errors.Is(err, ErrDiskSlow) {
		t.Errorf("Seal: %v", err)
	}
	if err := <-s.diskWriter.broken; !errors.Is(err, syscall.EIO) {
		t.Errorf("the disk writer hears of %v", err)
	}
}

// TestLookupBehindASyncOfBodies: it waited for that, behind a compaction that waits for all who use
// the file.
func TestLookupBehindASyncOfBodies(t *testing.T) {
	cfg := Config{Path: t.TempDir(), Required: true}
	synctest.Test(t, func(t *testing.T) {
		s := New(cfg, Settings{Memory: 1, Disk: 64 << 20})
		still := &stillBodies{on: make(chan struct{}), reached: make(chan struct{}, 1000)}
		s.disk.bodiesStorage = func(f *os.File) slots.Storage {
			still.Storage = f
			return still
		}
		must(t, s.Open())
		s.Put(signedEntry(s, "http://example.com/", 1, 500), 0)
		must(t, s.Sync())
		still.call = "sync"
		d, err := s.NewBodyWriter(-1)
		must(t, err)
		must(t, d.Append(make([]byte, 2*syncBytes), unread))
		<-still.reached
		go func() { _, _ = s.Compact(t.Context()) }()
		synctest.Wait()
		within(t, "a look-up", 0, func() {
			if version, _ := found(t, s, "http://example.com/"); version != 1 {
				t.Errorf("version %d", version)
			}
		})
		close(still.on)
		d.Close()
		must(t, s.Close())
	})
}

// TestChunksAreNotMovedBack: while what is below is still read it is not free, and what comes next
// is the end.
func TestChunksAreNotMovedBack(t *testing.T) {
	rng := seeded(t)
	s := keptByHand(t, Settings{Memory: 1, Disk: 64 << 20})
	first := testEntry(s, "http://example.com/a", randomBody(rng, 3*chunkSize))
	s.Put(first, 0)
	must(t, s.diskWriter.flush())
	s.Put(testEntry(s, "http://example.com/b", randomBody(rng, 3*chunkSize)), 0)
	must(t, s.diskWriter.flush())
	file := s.disk.slots.Load()
	reader := file.Enter()
	must(t, s.diskWriter.transact(func(b *batch) error { return b.remove(first.ID, first.Key, Capacity) }))
	move := func() {
		for m := (slotMove{}); !m.done; {
			must(t, s.diskWriter.moveSlots(&m))
		}
	}
	before := file.Len()
	if move(); file.Len() != before {
		t.Errorf("the file has %d bytes, %d before", file.Len(), before)
	}
	file.Leave(reader)
	if move(); file.Len() != 3*slots.Size {
		t.Errorf("the file has %d bytes", file.Len())
	}
}

// TestBodyThatIsReadIsMoved: else one client would keep a file long.
func TestBodyThatIsReadIsMoved(t *testing.T) {
	rng := seeded(t)
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, diskTier)
	const first, second = "http://example.com/a", "http://example.com/b"
	s.Put(testEntry(s, first, randomBody(rng, 20*chunkSize)), 0)
	must(t, s.Sync())
	body := randomBody(rng, 3*chunkSize)
	s.Put(testEntry(s, second, body), 0)
	must(t, s.Sync())
	r := s.Lookup(keyOf(second), matchAny)
	defer r.Release()
	_, err := s.Purge(Selectors{URLs: []string{first}}, PurgeOptions{})
	must(t, err)
	waitFor(t, func() bool { return s.disk.slots.Load().Used() == 3*slots.Size })
	_, err = s.Compact(t.Context())
	must(t, err)
	if n := s.disk.slots.Load().Len(); n != 3*slots.Size {
		t.Errorf("the file has %d bytes", n)
	}
	if got := bodyOf(t, r.Entry); string(got) != string(body) {
		t.Error("another body")
	}
}

// TestReadersOfABodyOnItsWay read while it is written: the race detector looks on.
func TestReadersOfABodyOnItsWay(t *testing.T) {
	rng := seeded(t)
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 1, Disk: 256 << 20})
	d, err := s.NewBodyWriter(-1)
	must(t, err)
	defer d.Close()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = d.Chunk(0)
				}
			}
		})
	}
	for range 10 {
		must(t, d.Append(randomBody(rng, 1<<20), unread))
		_, err := d.Await(t.Context(), 0)
		must(t, err)
	}
	close(stop)
	readers.Wait()
}

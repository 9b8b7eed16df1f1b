package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/slots"
)

// slotRows counts the chunks of all bodies in slots, and those in rows.
func slotRows(t *testing.T, s *Store) (inSlots, inRows int) {
	t.Helper()
	must(t, s.disk.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(chunksBucket).ForEach(func(k, _ []byte) error {
			if isSlotKey(k) {
				inSlots++
			} else {
				inRows++
			}
			return nil
		})
	}))
	return inSlots, inRows
}

// TestLargeBodiesAreInSlots: full chunks stand in the file of large bodies, which is there from the
// first one on, and what is less than one stands in its row. They are found after a restart, and
// the file gets shorter when they go.
func TestLargeBodiesAreInSlots(t *testing.T) {
	rng := seeded(t)
	dir := t.TempDir()
	bodies := filepath.Join(dir, BodiesName)
	cfg := Config{Path: dir, Required: true}
	s := openImpatient(t, cfg, diskTier)
	url := func(name string) string { return "http://example.com/" + name }
	small, queued, written := url("small"), url("queued"), url("written")
	s.Put(testEntry(s, small, randomBody(rng, chunkSize-1)), 0)
	must(t, s.Sync())
	if _, err := os.Stat(bodies); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a file of large bodies without any: %v", err)
	}
	want := map[string][]byte{queued: randomBody(rng, 3*chunkSize+1), written: randomBody(rng, 2*chunkSize)}
	s.Put(testEntry(s, queued, want[queued]), 0)
	if r := putWritten(t, s, rng, written, want[written]); r != Stored {
		t.Fatalf("Put = %v", r)
	}
	must(t, s.Sync())
	if inSlots, inRows := slotRows(t, s); inSlots != 5 || inRows != 2 {
		t.Errorf("%d chunks in slots, %d in rows", inSlots, inRows)
	}
	info, err := os.Stat(bodies)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() <= 4*slots.Size || info.Size() > 5*slots.Size {
		t.Errorf("%s: %v, %v", bodies, info, err)
	}
	if st := s.Stats(); st.FileBytes != s.disk.size.Load()+5*slots.Size {
		t.Errorf("the files have %d bytes", st.FileBytes)
	}
	used := s.Stats().Disk.Bytes
	must(t, s.Close())
	s = openImpatient(t, cfg, diskTier)
	if got := s.Stats().Disk.Bytes; got < used-1<<20 || got > used+1<<20 {
		t.Errorf("%d bytes are used after a restart, %d before", got, used)
	}
	for url, body := range want {
		wantBody(t, s, url, body)
	}
	checkAgreement(t, s)
	if n, err := s.Purge(Selectors{All: true}, PurgeOptions{}); n != 3 || err != nil {
		t.Errorf("Purge = %d, %v", n, err)
	}
	waitFor(t, func() bool {
		info, err := os.Stat(bodies)
		return err == nil && info.Size() == 0
	})
	checkAgreement(t, s)
}

// TestSlotsOfABodyThatIsNotStored are free again, when it has no reader any more.
func TestSlotsOfABodyThatIsNotStored(t *testing.T) {
	rng := seeded(t)
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, diskTier)
	body := randomBody(rng, 2*chunkSize+10)
	for _, seal := range []bool{false, true} {
		d, err := s.NewBodyWriter(-1)
		must(t, err)
		must(t, d.Append(body, unread))
		_, err = d.Await(t.Context(), chunkSize-1)
		must(t, err)
		if seal {
			must(t, d.Seal())
		}
		d.Unstorable()
		for off := int64(0); off < chunkSize*2; {
			piece, err := d.Chunk(off)
			if err != nil || !bytes.HasPrefix(body[off:], piece) {
				t.Fatalf("sealed %v: Chunk(%d) = %d bytes, %v", seal, off, len(piece), err)
			}
			off += int64(len(piece))
		}
		d.Close()
		allSwept(t, s, 0)
		waitFor(t, func() bool { return s.disk.slots.Load().Used() == 0 })
	}
}

// TestChunksOfAReleaseWithoutSlots are read, and written anew in slots.
func TestChunksOfAReleaseWithoutSlots(t *testing.T) {
	rng := seeded(t)
	s := keptByHand(t, Settings{Memory: 1, Disk: 64 << 20})
	const url = "http://example.com/"
	body := randomBody(rng, 2*chunkSize+100)
	e := testEntry(s, url, body)
	s.Put(e, 0)
	must(t, s.diskWriter.flush())
	must(t, s.diskWriter.transact(func(b *batch) error {
		if _, err := b.deleteChunks(e.ID); err != nil {
			return err
		}
		for n := range 3 {
			data := body[n*chunkSize : min((n+1)*chunkSize, len(body))]
			if err := b.putChunkValue(e.ID, n, append(roomForChunk(len(data)), data...)); err != nil {
				return err
			}
		}
		return nil
	}))
	if inSlots, inRows := slotRows(t, s); inSlots != 0 || inRows != 3 {
		t.Fatalf("%d chunks in slots, %d in rows", inSlots, inRows)
	}
	wantBody(t, s, url, body)
	s.Put(testEntry(s, url, body), 0)
	must(t, s.diskWriter.flush())
	sweepPending(t, s)
	if inSlots, inRows := slotRows(t, s); inSlots != 2 || inRows != 1 {
		t.Errorf("%d chunks in slots, %d in rows", inSlots, inRows)
	}
	wantBody(t, s, url, body)
}

// TestBodiesOfAnotherFile: a database whose file of large bodies is another one, an older one, cut
// short or gone has misses, and never another's bytes.
func TestBodiesOfAnotherFile(t *testing.T) {
	rng := seeded(t)
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	filled := func(dir string, from int) {
		s := openStore(t, Config{Path: dir, Required: true}, diskTier)
		for n := range 4 {
			s.Put(signedEntry(s, url(n+from), 1, 2*chunkSize), 0)
			must(t, s.Sync())
		}
		must(t, s.Close())
	}
	for name, spoil := range map[string]func(dir string){
		"another's": func(dir string) {
			other := t.TempDir()
			filled(other, 100)
			must(t, os.Rename(filepath.Join(other, BodiesName), filepath.Join(dir, BodiesName)))
		},
		"cut short": func(dir string) { must(t, os.Truncate(filepath.Join(dir, BodiesName), 3*slots.Size/2)) },
		"gone":      func(dir string) { must(t, os.Remove(filepath.Join(dir, BodiesName))) },
		"shuffled": func(dir string) {
			file := filepath.Join(dir, BodiesName)
			image, err := os.ReadFile(file)
			must(t, err)
			image = longer(image, 8*slots.Size)
			first := bytes.Clone(image[:slots.Size])
			copy(image, image[slots.Size:])
			copy(image[7*slots.Size:], first)
			must(t, os.WriteFile(file, image, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			filled(dir, 0)
			spoil(dir)
			s := openStore(t, Config{Path: dir, Required: true}, diskTier)
			for n := range 4 {
				found(t, s, url(n)) // it is signed, or nothing
			}
			if s.Stats().Errors[DiskTier] == 0 {
				t.Error("no damage is counted")
			}
			for n := range 4 {
				s.Put(signedEntry(s, url(n), 2+rng.IntN(3), 2*chunkSize), 0)
			}
			must(t, s.Sync())
			for n := range 4 {
				if version, _ := found(t, s, url(n)); version < 2 {
					t.Errorf("%s is not stored anew", url(n))
				}
			}
			checkAgreement(t, s)
		})
	}
}

// TestBodiesTakenAway: that the file of large bodies is removed while it is open is noticed within
// 10 s, as that of the database is. What is in memory, or stored from then on, is there after a
// restart.
func TestBodiesTakenAway(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be removed")
	}
	cfg := Config{Path: filepath.Join(t.TempDir(), "larder"), Required: true}
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	synctest.Test(t, func(t *testing.T) {
		s := New(cfg, bothTiers)
		must(t, s.Open())
		s.Put(signedEntry(s, url(0), 1, 2*chunkSize), 0)
		must(t, s.Sync())
		must(t, os.Remove(s.disk.bodies))
		time.Sleep(10 * time.Second)
		if st := s.Stats(); st.Errors[DiskTier] == 0 || st.Disk.State != "open" {
			t.Errorf("after 10 s: stats %+v, errors %v", st.Disk, st.Errors)
		}
		s.Put(signedEntry(s, url(1), 1, 2*chunkSize), 0)
		must(t, s.Close())
		synctest.Wait()
	})
	cfg.Now = bubbleTime
	s := openStore(t, cfg, diskTier)
	for n := range 2 {
		if version, _ := found(t, s, url(n)); version != 1 {
			t.Errorf("%s is not there after a restart", url(n))
		}
	}
}

// stillBodies has one kind of call to the file of large bodies not return while it is on.
type stillBodies struct {
	slots.Storage
	call    string
	on      chan struct{}
	reached chan struct{}
}

func (f *stillBodies) stand(call string) {
	if call == f.call {
		f.reached <- struct{}{}
		<-f.on
	}
}

func (f *stillBodies) ReadAt(p []byte, off int64) (int, error) {
	f.stand("read")
	return f.Storage.ReadAt(p, off)
}

func (f *stillBodies) WriteAt(p []byte, off int64) (int, error) {
	f.stand("write")
	return f.Storage.WriteAt(p, off)
}

func (f *stillBodies) Sync() error {
	f.stand("sync")
	return f.Storage.Sync()
}

// TestFaultBodiesStandStill has a call to the file of large bodies not return. The disk tier is
// given up after 10 s, a purge has its answer by then, and the store closes. Nothing that was
// purged comes back, and what was stored before is there.
func TestFaultBodiesStandStill(t *testing.T) {
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	for _, call := range []string{"read", "write", "sync"} {
		t.Run(call, func(t *testing.T) {
			cfg := Config{Path: t.TempDir(), Required: true}
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(1, 2))
				s := New(cfg, Settings{Memory: 1, Disk: 64 << 20})
				still := &stillBodies{on: make(chan struct{}), reached: make(chan struct{}, 1000)}
				s.disk.bodiesStorage = func(f *os.File) slots.Storage {
					still.Storage = f
					return still
				}
				must(t, s.Open())
				s.Put(signedEntry(s, url(0), 1, 2*chunkSize), 0)
				s.Put(signedEntry(s, url(1), 1, 500), 0)
				must(t, s.Sync())
				still.call = call
				body := randomBody(rng, 3<<20)
				d, err := s.NewBodyWriter(int64(len(body)))
				must(t, err)
				within(t, call, 2*stallTime, func() {
					switch call {
					case "read":
						found(t, s, url(0))
					default:
						must(t, d.Append(body, unread))
						if err := d.Seal(); err == nil {
							t.Error("the body is sealed")
						}
					}
				})
				<-still.reached
				within(t, "a purge", stallTime, func() {
					_, _ = s.Purge(Selectors{URLs: []string{url(1)}}, PurgeOptions{})
				})
				d.Close()
				within(t, "Close", stallTime, func() { _ = s.Close() })
				close(still.on)
				synctest.Wait()
			})
			cfg.Now = bubbleTime
			s := openStore(t, cfg, diskTier)
			if version, _ := found(t, s, url(1)); version != 0 {
				t.Error("what was purged is back")
			}
			checkAgreement(t, s)
		})
	}
}

// TestScanOfSlotsGoesOnMeanwhile: after a restart rows are written, deleted and read before all
// slots are known, and none is another's.
func TestScanOfSlotsGoesOnMeanwhile(t *testing.T) {
	rng := seeded(t)
	s := keptByHand(t, Settings{Memory: 1, Disk: 64 << 20})
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	put := func(n, version int) {
		s.Put(signedEntry(s, url(n), version, 2*chunkSize+rng.IntN(chunkSize)), 0)
		must(t, s.diskWriter.flush())
	}
	for n := range 10 {
		put(n, 1)
	}
	s.diskWriter.detach()
	must(t, s.attach())
	s.diskWriter.slotRowsAtOnce = 7
	for n := range 5 {
		put(n*2, 2) // takes the place of what is not known yet, or is
		if _, err := s.diskWriter.scanSlots(); err != nil || s.disk.slots.Load().IsKnown() {
			t.Fatalf("all is known at once: %v", err)
		}
	}
	sweepPending(t, s)
	for more := true; more; {
		var err error
		more, err = s.diskWriter.scanSlots()
		must(t, err)
	}
	put(20, 1)
	for n := range 10 {
		if version, _ := found(t, s, url(n)); version != 1+(n+1)%2 {
			t.Errorf("%s: version %d", url(n), version)
		}
	}
	if used, rows := slotsOf(t, s); used != rows || rows == 0 {
		t.Errorf("%d bytes of slots are used, and those with rows have %d", used, rows)
	}
}

// TestRoomForSlots: what is free in the database is no room for large bodies. The two files came to
// 1.62 times the budget.
func TestRoomForSlots(t *testing.T) {
	const mib = 1 << 20
	s := keptByHand(t, Settings{Memory: 1, Disk: 64 * mib})
	for range 4 {
		_, _, err := s.disk.slots.Load().Take()
		must(t, err)
	}
	for _, tt := range []struct {
		budget, database, n int64
		lacks               bool
	}{
		{64 * mib, 74 * mib, 21 * mib, false},
		{64 * mib, 74 * mib, 21*mib + 1, true},
		{64 * mib, 96 * mib, 1, true},
		{8 * mib, 10 * mib, 5 * mib, false}, // see operating.md: a small file comes to twice its budget
		{8 * mib, 10 * mib, 5*mib + 1, true},
	} {
		s.disk.size.Store(tt.database)
		if lacks := s.disk.lacksSlots(tt.budget, tt.n); lacks != tt.lacks {
			t.Errorf("%d bytes beside %d and 1 MiB, of a budget of %d: lacks slots %v", tt.n, tt.database, tt.budget, lacks)
		}
	}
	s.disk.size.Store(96 * mib)
	s.disk.slots.Load().Give(0, 1)
	for n, lacks := range map[int64]bool{2 * slots.Size: false, 2*slots.Size + 1: true} {
		if got := s.disk.lacksSlots(64*mib, n); got != lacks {
			t.Errorf("%d bytes where two slots are free: lacks slots %v", n, got)
		}
	}
}

// TestFilesOfACacheThatTurnsToLargeBodies stay within one and a half times the budget, and what
// large bodies lack they have after a compaction, which comes by itself.
func TestFilesOfACacheThatTurnsToLargeBodies(t *testing.T) {
	const budget = 32 << 20
	rng := seeded(t)
	s := keptByHand(t, Settings{Memory: 1, Disk: budget})
	for n := range 30_000 {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/small/%d", n), randomBody(rng, 1000)), 0)
		if n%1000 == 0 {
			writeAll(t, s)
		}
	}
	writeAll(t, s)
	put := func(from, to int) (stored int) {
		for n := from; n < to; n++ {
			url := fmt.Sprintf("http://example.com/large/%d", n)
			s.Put(testEntry(s, url, randomBody(rng, 2<<20)), 0)
			writeAll(t, s)
			sweepPending(t, s)
			if size := s.disk.length(); size > budget/2*3 {
				t.Fatalf("after %d large bodies the files have %.2f of the budget", n, float64(size)/budget)
			}
			r := s.Lookup(keyOf(url), matchAny)
			if r.Entry != nil {
				stored++
			}
			r.Release()
		}
		return stored
	}
	before := put(0, 30)
	s.diskWriter.pending = false
	s.diskWriter.wantCompaction()
	for more := s.diskWriter.compactDue; more; {
		_, err := s.diskWriter.compactStep()
		must(t, err)
		more = s.diskWriter.compacting != nil
	}
	if size := s.disk.size.Load(); size > budget/2 {
		t.Errorf("the database has %d bytes after that", size)
	}
	if after := put(30, 60); after != 30 {
		t.Errorf("%d of 30 large bodies are stored, %d before the compaction", after, before)
	}
	if used, rows := slotsOf(t, s); used != rows || rows == 0 {
		t.Errorf("%d bytes of slots are used, and those with rows have %d", used, rows)
	}
}

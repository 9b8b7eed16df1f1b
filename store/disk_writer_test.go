package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/boltcheck"
)

// keptByHand is a store with its file, open but for the disk writer's goroutine: the test takes the
// steps.
func keptByHand(t testing.TB, settings Settings) *Store {
	t.Helper()
	s := New(Config{Path: t.TempDir(), Required: true}, inAll(settings))
	if err := s.attach(); err != nil {
		t.Fatal(err)
	}
	s.state.Store(stateOpen)
	t.Cleanup(func() {
		s.diskWriter.endSweeps()
		s.diskWriter.detach()
		s.memory.clear()
	})
	return s
}

// purgeByHand purges a tag as the disk writer does.
func purgeByHand(s *Store, tag string) *purgeRecord {
	rec := s.purges.issue(Selectors{Tags: []string{tag}}, Hard, 0)
	s.diskWriter.waiting.Add(1)
	s.diskWriter.commitPurges([]*PurgeRequest{{rec: rec, done: make(chan struct{})}})
	return rec
}

// TestSweepLeavesTurnsToWrites: where a sync takes as long as the pace gives a step, the next step
// of the sweep is always due. What waits to be written has its turn all the same.
func TestSweepLeavesTurnsToWrites(t *testing.T) {
	s := keptByHand(t, bothTiers)
	for i := range 10 * busyStep { // more than the steps below take at most
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), nil, "tag"), 0)
	}
	if err := s.diskWriter.flush(); err != nil {
		t.Fatal(err)
	}
	rec := purgeByHand(s, "tag")
	for rec.sweep == nil || !rec.sweep.memoryDone() {
		s.diskWriter.step()
	}
	s.Put(testEntry(s, "http://example.com/new", make([]byte, lingerBytes)), 0)
	for range 4 {
		s.diskWriter.pace.due = s.diskWriter.pace.last // as after a slow sync
		s.diskWriter.step()
	}
	if s.purges.pending() == 0 {
		t.Fatal("the sweep is over, so that this shows nothing")
	}
	if n, _, _ := s.queue.state(); n > 0 {
		t.Error("nothing was written while the sweep went on")
	}
}

// TestWritesHaveTheirTurnUnderPurges: purges that come without a gap, each with something to sweep,
// keep nothing from the disk. They are swept as fast as they come.
func TestWritesHaveTheirTurnUnderPurges(t *testing.T) {
	s := keptByHand(t, bothTiers)
	fetch := s.Begin() // an older one, so that each is swept twice
	s.Put(testEntry(s, "http://example.com/kept", make([]byte, lingerBytes)), 0)
	const storm = 64
	most := 0
	for i := range storm {
		url := fmt.Sprintf("http://example.com/%d", i)
		s.Put(testEntry(s, url, nil, "tag"), 0)
		rec := s.purges.issue(Selectors{URLs: []string{url}, Tags: []string{fmt.Sprint("own-", i)}}, Hard, 0)
		s.diskWriter.waiting.Add(1) // the next one waits already
		s.diskWriter.commitPurges([]*PurgeRequest{{rec: rec, done: make(chan struct{})}})
		s.diskWriter.waiting.Add(1)
		s.diskWriter.step()
		s.diskWriter.waiting.Add(-1)
		most = max(most, len(s.diskWriter.sweeps.memory)+len(s.diskWriter.sweeps.disk))
	}
	if s.disk.entries.Load() == 0 {
		t.Error("nothing was written while purges came")
	}
	if most > storm/2 {
		t.Errorf("%d purges of %d were not swept", most, storm)
	}
	fetch.End()
	for s.purges.pending() > 0 {
		if !s.diskWriter.step() {
			s.diskWriter.pace.due = s.diskWriter.pace.last
		}
	}
}

// TestSweepGivenUpHoldsNothing: a file that comes anew begins the sweeps anew, and what they have
// met is given back.
func TestSweepGivenUpHoldsNothing(t *testing.T) {
	s := keptByHand(t, bothTiers)
	for i := range 4 * stepItems * shardCount {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), nil, "tag"), 0)
	}
	if err := s.diskWriter.flush(); err != nil {
		t.Fatal(err)
	}
	rec := purgeByHand(s, "tag")
	for rec.sweep == nil || rec.sweep.shard < shardCount/2 {
		s.diskWriter.sweepMemory(rec)
	}
	s.diskWriter.detach()
	if err := s.attach(); err != nil {
		t.Fatal(err)
	}
	s.memory.clear()
	if n := s.memory.used.Load(); n != 0 {
		t.Errorf("%d bytes are counted of an empty tier", n)
	}
}

// TestSyncEnds: what is put while Sync waits is not waited for.
func TestSyncEnds(t *testing.T) {
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, bothTiers)
	stop := make(chan struct{})
	var load sync.WaitGroup
	for writer := range 4 {
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					s.Put(signedEntry(s, fmt.Sprintf("http://example.com/%d/%d", writer, n%50), n+1, 100), 0)
				}
			}
		})
	}
	for range 3 {
		if err := s.Sync(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	load.Wait()
}

// TestSweepDoesSomething: a step of a sweep removes an entry even when its time is up before it has
// begun, as on a slow machine for as long as purges wait.
func TestSweepDoesSomething(t *testing.T) {
	s := keptByHand(t, bothTiers)
	for i := range 3 {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), nil, "tag"), 0)
	}
	must(t, s.diskWriter.flush())
	rec := purgeByHand(s, "tag")
	for len(s.diskWriter.sweeps.disk) == 0 {
		s.diskWriter.step()
	}
	rec.sweep.scans = scansOf(&rec.sel)
	s.diskWriter.waiting.Add(1)
	defer s.diskWriter.waiting.Add(-1)
	must(t, s.diskWriter.transact(func(b *batch) error {
		b.began = time.Time{}
		left := stepEntries
		through, err := b.sweepPurges(s.diskWriter.sweeps.disk, &left)
		if left == stepEntries {
			t.Errorf("nothing was swept, through with %d", through)
		}
		return err
	}))
}

// TestExpiryHasItsTurnUnderSweeps: while purges leave something to sweep without a gap, what has
// expired goes all the same.
func TestExpiryHasItsTurnUnderSweeps(t *testing.T) {
	clock := newTestClock()
	s := keptByHand(t, bothTiers)
	s.now, s.diskWriter.now = clock.now, clock.now
	for i := range 10 * paceMost {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), nil, "tag"), 0)
	}
	short := testEntry(s, "http://example.com/short", nil)
	short.KeepUntil = clock.now().Add(time.Second)
	s.Put(short, 0)
	must(t, s.diskWriter.flush())
	clock.advance(2 * time.Second)
	purgeByHand(s, "tag")
	for len(s.diskWriter.sweeps.disk) == 0 {
		s.diskWriter.sweepMemoryStep()
	}
	s.diskWriter.expiring = true
	for range 2 {
		s.diskWriter.pace.due = s.diskWriter.pace.last
		if _, err := s.diskWriter.pacedStep(); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.diskWriter.sweeps.disk) == 0 {
		t.Fatal("the sweep is over, so that this shows nothing")
	}
	if n := s.counts.evictions[DiskTier][Expired].Load(); n != 1 {
		t.Errorf("%d have been removed that had expired, want 1", n)
	}
}

// TestTickComesBetweenSteps: work without a gap keeps nothing from the disk writer that comes with
// the clock.
func TestTickComesBetweenSteps(t *testing.T) {
	s := keptByHand(t, bothTiers)
	tick := make(chan time.Time, 1)
	tick <- time.Now()
	for range 2 {
		s.diskWriter.answer(tick)
	}
	if s.diskWriter.ticks != 1 {
		t.Errorf("%d ticks were noticed, want 1", s.diskWriter.ticks)
	}
}

// TestBatchDoesSomething: even when its time was up before it began.
func TestBatchDoesSomething(t *testing.T) {
	b := &batch{writer: newDiskWriter(New(Config{}, bothTiers))}
	if b.full() {
		t.Error("full before anything was done")
	}
	if !b.full() {
		t.Error("not full after its time")
	}
}

// TestWritesGiveWay: writing lets others have the core, but not while the queue fills up, nor when
// what it writes has waited so long that it might miss its second.
func TestWritesGiveWay(t *testing.T) {
	for _, tc := range []struct {
		name    string
		waiting int64
		age     time.Duration
		want    bool
	}{
		{"fresh", batchBytes, lingerTime, true},
		{"the queue fills up", queueBytes / 2, lingerTime, false},
		{"late", batchBytes, lateTime, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := givesWay(tc.waiting, tc.age); got != tc.want {
				t.Errorf("givesWay(%d, %v) = %v", tc.waiting, tc.age, got)
			}
		})
	}
}

// TestBatchIsFullSoonerForAPurge: a purge that waits ends a batch, and also one whose jobs are late
// themselves, only not so soon.
func TestBatchIsFullSoonerForAPurge(t *testing.T) {
	s := keptByHand(t, Settings{Memory: 1 << 20, Disk: 1 << 30})
	for _, tc := range []struct {
		name        string
		purge, late bool
		bytes       int
		want        bool
	}{
		{"all that fits", false, false, batchBytes, true},
		{"not all", false, false, batchBytes - 1, false},
		{"not all, late", false, true, batchBytes - 1, false},
		{"a purge", true, false, batchBytes / hurry, true},
		{"a purge, late", true, true, batchBytes / lateHurry, true},
		{"a purge, late, too little", true, true, batchBytes/lateHurry - 1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.purge {
				s.diskWriter.waiting.Add(1)
				defer s.diskWriter.waiting.Add(-1)
			}
			b := &batch{writer: s.diskWriter, began: time.Now(), asked: true, late: tc.late, bytes: tc.bytes}
			if got := b.full(); got != tc.want {
				t.Errorf("full() = %v with %d bytes", got, tc.bytes)
			}
		})
	}
}

// TestWedgedFileIsAbandoned: of two readers of a damaged file the one meets an error, which is
// reported, and the other a panic that leaves bbolt's locks held. To close the database would take
// as long as these are, which is for ever.
func TestWedgedFileIsAbandoned(t *testing.T) {
	s := keptByHand(t, bothTiers)
	stuck, err := s.disk.use.db.Begin(false) // what closing waits for
	if err != nil {
		t.Fatal(err)
	}
	db := s.disk.use.db
	t.Cleanup(func() {
		_ = stuck.Rollback()
		_ = db.Close()
	})
	var wedged *wedgedError
	if err := s.disk.use.finish(nil, fmt.Errorf("in Begin: %w", errPanicked)); !errors.As(err, &wedged) {
		t.Fatalf("finish: %v, want a %T", err, wedged)
	}
	s.diskWriter.failed(boltcheck.ErrLost) // returns
	if err := s.attach(); err != nil {
		t.Errorf("the file is not let go of: %v", err)
	}
}

// fillQueue has the queue be full, as far as it knows, until empty is called.
func fillQueue(s *Store) (empty func()) {
	add := func(n int64) {
		s.queue.mu.Lock()
		defer s.queue.mu.Unlock()
		s.queue.bytes += n
	}
	add(queueBytes)
	return func() { add(-queueBytes) }
}

// isOnDiskNow tells whether an entry has a record in the file.
func isOnDiskNow(t *testing.T, s *Store, e *Entry) (is bool) {
	t.Helper()
	if err := s.disk.view(func(tx *bbolt.Tx) error {
		is = tx.Bucket(recordsBucket).Get(idBytes(e.ID)) != nil
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return is
}

// writeLateByHand writes what is queued, and what is late.
func writeLateByHand(t *testing.T, s *Store) {
	t.Helper()
	must(t, s.diskWriter.flush())
	s.diskWriter.late.begin(s.memory)
	for !s.diskWriter.late.through() {
		s.diskWriter.queueLate()
		must(t, s.diskWriter.flush())
	}
}

// TestWhatFoundTheQueueFullIsWrittenLater: a burst of stores does not leave what came meanwhile in
// memory alone for good. What was replaced, removed or purged since is not written.
func TestWhatFoundTheQueueFullIsWrittenLater(t *testing.T) {
	s := keptByHand(t, bothTiers)
	small := testEntry(s, "http://example.com/small", []byte("small"), "tag")
	large := testEntry(s, "http://example.com/large", make([]byte, 3*chunkSize))
	replaced := testEntry(s, "http://example.com/replaced", []byte("old"))
	removed := testEntry(s, "http://example.com/removed", []byte("removed"))
	purged := testEntry(s, "http://example.com/purged", []byte("purged"), "gone")
	renewed := testEntry(s, "http://example.com/renewed", []byte("renewed"))
	empty := fillQueue(s)
	for _, e := range []*Entry{small, large, replaced, removed, purged, renewed} {
		if result := s.Put(e, 0); result != Stored {
			t.Fatalf("%s: %v", e.URL, result)
		}
	}
	newer := testEntry(s, "http://example.com/replaced", []byte("new"))
	s.Put(newer, 0)
	s.Remove(removed)
	for s.diskWriter.step() {
	}
	if isOnDiskNow(t, s, small) || s.Stats().Skipped != 7 {
		t.Fatalf("%d skipped, so that this shows nothing", s.Stats().Skipped)
	}
	empty()
	purgeByHand(s, "gone")
	renewal := renewed.Renewal()
	s.Put(renewal, 0)
	writeLateByHand(t, s)
	for _, c := range []struct {
		e    *Entry
		want bool
	}{{small, true}, {large, true}, {newer, true}, {renewal, true}, {replaced, false}, {removed, false}, {purged, false}} {
		if got := isOnDiskNow(t, s, c.e); got != c.want {
			t.Errorf("%s (%d) on disk: %t, want %t", c.e.URL, c.e.ID, got, c.want)
		}
	}
	wantBody(t, s, large.URL, make([]byte, 3*chunkSize))
}

// TestCloseWritesWhatFoundTheQueueFull: an orderly stop leaves nothing in memory alone.
func TestCloseWritesWhatFoundTheQueueFull(t *testing.T) {
	path := t.TempDir()
	s := New(Config{Path: path, Required: true}, inAll(bothTiers))
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	e := testEntry(s, "http://example.com/", []byte("late"))
	empty := fillQueue(s)
	s.Put(e, 0)
	empty()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = New(Config{Path: path, Required: true}, inAll(bothTiers))
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !isOnDiskNow(t, s, e) {
		t.Error("it is not on disk")
	}
}

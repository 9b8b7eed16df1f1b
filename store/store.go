package store

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/boltcheck"
)

// Store keeps responses in two tiers. All methods are safe for concurrent use. Before Open and
// after Close, look-ups miss and entries are refused.
type Store struct {
	cfg         Config
	log         *slog.Logger
	now         func() time.Time
	settings    atomic.Pointer[Settings]
	counts      counters
	memory      *memory
	queue       *queue
	bodyWriters bodyWriters
	disk        *disk // nil when there is no disk tier
	purges      *purgeSet
	tickets     tickets
	ids         atomic.Uint64 // the last given
	attachedAt  atomic.Uint64 // the last given when the file was opened
	position    storePosition
	labels      labels
	diskWriter  *diskWriter
	placeAsked  atomic.Int64 // when PurgeIsNoop last looked for the file's name

	state atomic.Uint32
	ready chan struct{}
	life  sync.Mutex // of Open, Apply and Close
}

// The states of a store.
const (
	stateNew    uint32 = iota
	stateFailed        // Open has failed, and may be tried again
	stateOpen
	stateClosed
)

// New makes a store; it opens no file and starts nothing before Open.
func New(cfg Config, settings Settings) *Store {
	s := &Store{cfg: cfg, log: cfg.Logger, now: cfg.Now, ready: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.settings.Store(&settings)
	s.memory = newMemory(settings, &s.counts, s.now)
	s.queue = newQueue(s.memory)
	s.memory.queue = s.queue
	if cfg.Path != "" {
		s.disk = newDisk(cfg)
		s.disk.onStall = s.report
		s.queue.forgets = s.forgets
	}
	// Both counters begin by the clock, so that what a process does without its file comes after
	// what is in it.
	s.purges = newPurgeSet(uint64(nanos(s.now())))
	s.ids.Store(uint64(s.now().UnixMicro()))
	s.tickets.open = make(map[uint64]*openGeneration)
	s.diskWriter = newDiskWriter(s)
	s.bodyWriters.store, s.bodyWriters.disk, s.bodyWriters.settings = s, s.disk, &s.settings
	s.bodyWriters.wake, s.bodyWriters.patience = s.diskWriter.wake, bodyWriteTimeout
	return s
}

// Open opens the file and starts the background work. It may be called more than once; after an
// error it may be tried again. Without a path, or when the disk is not required, it does not fail.
func (s *Store) Open() error {
	s.life.Lock()
	defer s.life.Unlock()
	switch s.state.Load() {
	case stateOpen:
		return nil
	case stateClosed:
		return ErrClosed
	}
	s.state.Store(stateNew)
	if s.disk != nil {
		if err := s.attach(); err != nil {
			s.counts.errors[DiskTier].Add(1)
			if s.cfg.Required {
				s.state.Store(stateFailed) // first: see refuseEarly
				s.diskWriter.refuseWaiting(err)
				return err
			}
			s.log.Warn("disk tier is not available; running from memory",
				slog.Duration("retry", retryTime), slog.Any("error", err), slog.String("file", s.disk.path))
			s.diskWriter.retryAt = s.now().Add(retryTime)
		}
	} else {
		s.diskWriter.sweepAnew()
	}
	s.state.Store(stateOpen)
	go s.diskWriter.run()
	close(s.ready)
	return nil
}

// Discard has Open begin a new file where there is one, and is called before it: what is in that
// has missed purges.
func (s *Store) Discard() {
	s.life.Lock()
	defer s.life.Unlock()
	if !s.isOpen() {
		s.diskWriter.discard = true
	}
}

// refuseEarly answers the purges that wait for a store which could not be opened. Open does so
// itself for those that have come before it failed.
func (s *Store) refuseEarly() {
	s.life.Lock()
	defer s.life.Unlock()
	if s.state.Load() == stateFailed { // else another Open has done it, or Close
		s.diskWriter.refuseWaiting(errNotOpened)
	}
}

// errNotOpened says that the file could not be opened when it was tried.
var errNotOpened = errors.New("the disk tier could not be opened")

// Ready is closed when Open has succeeded, also when it did without its disk.
func (s *Store) Ready() <-chan struct{} { return s.ready }

func (s *Store) isOpen() bool { return s.state.Load() == stateOpen }

// Apply puts settings in force. Smaller budgets evict: memory before it returns, disk soon after.
func (s *Store) Apply(settings Settings) {
	s.life.Lock()
	defer s.life.Unlock()
	old := s.settings.Swap(&settings)
	s.memory.apply(*old, settings)
	s.diskWriter.wake()
}

// Settings returns those in force.
func (s *Store) Settings() Settings { return *s.settings.Load() }

// HasDisk reports whether there is a disk tier, which may have responses of an earlier process.
func (s *Store) HasDisk() bool { return s.disk != nil }

// Close writes what is queued and closes the file. More than once does no harm. The error is that
// of closing the file; the store is closed all the same.
func (s *Store) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	was := s.state.Swap(stateClosed)
	if was != stateOpen {
		for !s.diskWriter.requests.end() {
			s.diskWriter.refuseWaiting(ErrClosed)
		}
		return nil
	}
	close(s.diskWriter.stop)
	<-s.diskWriter.done
	s.diskWriter.detachQueue()
	var err error
	if s.disk != nil {
		err = s.disk.detach()
	}
	s.memory.clear()
	return err
}

// Sync waits until everything put before is on disk, or known not to get there. It returns the
// error that kept it from there. From a disk that is full that is one at once, until it is tried
// again.
func (s *Store) Sync() error {
	if !s.isOpen() {
		return ErrClosed
	}
	reply := make(chan error, 1)
	select {
	case s.diskWriter.syncs <- reply:
		return <-reply
	case <-s.diskWriter.done:
		return ErrClosed
	}
}

// LargestBody is the length in bytes past which no body has a place: half of the disk budget, or
// the memory budget where that is more or the disk is off, has failed or is full.
func (s *Store) LargestBody() int64 {
	settings := s.settings.Load()
	if s.disk == nil || !s.disk.writable() {
		return settings.Memory
	}
	return max(settings.Memory, settings.largestOnDisk())
}

// Stats describes the store.
func (s *Store) Stats() Stats {
	settings := s.settings.Load()
	st := Stats{
		Memory:        TierStats{Entries: s.memory.entries(), Bytes: s.memory.used.Load(), Budget: settings.Memory, State: s.lifeState()},
		Disk:          TierStats{State: "off"},
		InFlight:      s.memory.inFlightNow(),
		PurgesPending: s.purges.pending(),
	}
	_, st.Queue, _ = s.queue.state()
	st.Queue += s.bodyWriters.queued()
	if s.disk != nil {
		st.Disk = TierStats{
			Entries: max(0, s.disk.entries.Load()-s.disk.parts.Load()), Bytes: s.disk.used(), Budget: settings.Disk, State: s.lifeState(),
		}
		st.DiskHeld = s.disk.pins.deleted()
		switch up := s.disk.up.Load(); {
		case up:
			st.FileBytes = s.disk.length()
			if s.isOpen() && s.disk.full.Load() {
				st.Disk.State = "full"
			}
		case s.isOpen():
			st.Disk.State = "failed"
		}
	}
	s.counts.read(&st)
	return st
}

func (s *Store) lifeState() string {
	switch s.state.Load() {
	case stateNew, stateFailed:
		return "opening"
	case stateOpen:
		return "open"
	default:
		return "closed"
	}
}

// attach opens the file and puts it to use. One that cannot be used is put out of the way, and a
// new one begun.
func (s *Store) attach() error {
	o, err := s.openFile()
	var other *schemaError
	switch foreign := errors.Is(err, errForeign); {
	case errors.Is(err, errMissed), errors.As(err, &other):
		if err := s.discardFile(other); err != nil {
			return err
		}
		o, err = s.openFile()
	case foreign, errors.Is(err, errDamaged):
		if err := s.keepFile(foreign, err); err != nil {
			return err
		}
		o, err = s.openFile()
	}
	if err != nil {
		return err
	}
	if err := s.disk.apart(s.disk.wait(), s.disk.unmark, nil); err != nil {
		s.diskWriter.tell(slog.LevelWarn, "disk tier: the mark of missed purges cannot be removed, so the file is begun anew at the next start",
			slog.String("name", s.disk.path+markSuffix), slog.Any("error", err))
	}
	s.attachedAt.Store(s.ids.Load())
	s.disk.excused.Store(o.excused)
	s.queue.setOpen(true) // first: what is found has a place to be deleted
	s.disk.attach(o.use)
	s.disk.excuse(s.settings.Load().Disk, 0)
	s.position.opened(o.position)
	s.memory.forgetDisk(!o.known)
	s.diskWriter.attached, s.diskWriter.expiring, s.diskWriter.pending, s.diskWriter.writing = true, true, true, 0
	s.diskWriter.dropping, s.diskWriter.removed, s.diskWriter.discard, s.diskWriter.noRoomToSweep = false, false, false, false
	s.bodyWriters.setAccepting(true)
	return nil
}

// discardFile removes a file that nothing is wrong with and that cannot be used: it has missed
// purges, or its schema is another.
func (s *Store) discardFile(other *schemaError) error {
	err := s.disk.drop(s.now())
	switch file := slog.String("file", s.disk.path); {
	case err != nil && other != nil:
		return fmt.Errorf("disk tier: %s cannot be removed, and has %w: %w", s.disk.path, other, err)
	case err != nil:
		return fmt.Errorf("disk tier: %s cannot be removed, and has missed purges: %w", s.disk.path, err)
	case other != nil:
		s.log.Info("disk tier: the file is of another release of Larder, so a new one is begun",
			file, slog.Uint64("schema", other.version), slog.Int("schema_here", SchemaVersion))
	default:
		s.log.Info("disk tier: the file has missed purges since it was last in use, so a new one is begun", file)
	}
	return nil
}

// keepFile sets a file aside that cannot be used, so that it can be looked into.
func (s *Store) keepFile(foreign bool, cause error) error {
	s.counts.errors[DiskTier].Add(1)
	why := "corrupt"
	if foreign {
		why = "replaced"
	}
	name, err := s.disk.setAside(why, s.now())
	if err != nil {
		return fmt.Errorf("%w; %w", cause, err)
	}
	s.diskWriter.tell(slog.LevelError, "disk tier: the file cannot be used; it is set aside and a new one begun",
		slog.String("name", name), slog.Any("error", cause))
	return nil
}

// errForeign says that a file was put in the place of the one that was open. It may hold what was
// purged since it was written, by purges that have been swept in ours and are not known any more.
var errForeign = errors.New("this file was put in the place of the one in use, and may hold what has been purged")

// errMissed says that purges were made while the file was not open.
var errMissed = errors.New("this file has missed purges")

// prepared is an opened file with what was read from it.
type prepared struct {
	*use
	known    bool // it is as this process left it
	position []byte
	excused  int64 // as of its last commit
}

// openFile opens the file, checks it, and brings its purges and ours together.
func (s *Store) openFile() (*prepared, error) {
	o, err := s.disk.open(s.settings.Load().Disk)
	if err != nil {
		return nil, err
	}
	p := &prepared{use: o}
	var id, entries, parts uint64
	var found, ours []*purgeRecord
	isNew := false
	err = o.update(func(tx *bbolt.Tx) error {
		name, _ := tx.Cursor().First()
		switch isNew = name == nil; {
		case name != nil && s.diskWriter.removed:
			return errForeign
		case name != nil && (s.diskWriter.discard || o.missed):
			return errMissed
		}
		t, err := schema(tx)
		if err != nil {
			return err
		}
		id = t.number(metaID)
		entries, parts = t.number(metaEntries), t.number(metaParts)
		p.position = t.position()
		p.excused = int64(min(t.number(metaExcused), math.MaxInt64))
		o.slots.Assume(t.number(metaSlots), t.number(metaSlotsEnd))
		unknown, err := t.bringLabels(&s.labels)
		if err != nil {
			return err
		}
		if unknown && s.purges.pending() > 0 {
			s.purges.setCounted(s.purges.issue(Selectors{All: true}, Invalid, uint64(nanos(s.now()))))
		}
		found, ours, err = t.restorePurges(s.purges)
		return err
	})
	if err == nil && isNew { // nothing of it leads to any bodies
		err = o.do(o.slots.Reset, nil, longWork{own: true})
	}
	if err != nil {
		err = fmt.Errorf("disk tier: %s: %w", s.disk.path, err)
		return nil, errors.Join(err, o.close())
	}
	s.diskWriter.endSweeps()
	// They are written now, and none is swept here.
	for _, rec := range ours {
		rec.written, rec.memoryOnly = true, false
	}
	for _, rec := range found {
		s.purges.restore(rec)
	}
	s.diskWriter.sweepAnew()
	p.known = s.diskWriter.attached && id == s.diskWriter.lastID && entries == s.diskWriter.lastEntries
	s.raiseIDs(id)
	s.disk.entries.Store(int64(entries))
	s.disk.parts.Store(int64(parts))
	return p, nil
}

// schemaError says that another release has written a file, of which this one reads nothing.
type schemaError struct{ version uint64 }

// Error names both schemas.
func (e *schemaError) Error() string {
	return fmt.Sprintf("schema version %d, want %d", e.version, SchemaVersion)
}

// maxSchema is beyond the schemas that releases will have. A larger number is damage.
const maxSchema = 1 << 16

// checkSchema is asked before anything else is looked for: another schema may have other buckets.
func checkSchema(tx *bbolt.Tx) error {
	t := buckets{meta: bucket{Bucket: tx.Bucket(metaBucket)}}
	if t.meta.Bucket == nil {
		return fmt.Errorf("bucket %s is missing: %w", metaBucket, errDamaged)
	}
	switch v := t.number(metaSchema); {
	case v == SchemaVersion:
		return nil
	case v == 0 || v > maxSchema:
		return fmt.Errorf("schema version %d: %w", v, errDamaged)
	default:
		return &schemaError{v}
	}
}

// schema makes the buckets of a new file and checks those of an old one.
func schema(tx *bbolt.Tx) (*buckets, error) {
	if name, _ := tx.Cursor().First(); name == nil {
		for _, bucket := range allBuckets {
			if _, err := tx.CreateBucket(bucket); err != nil {
				return nil, fmt.Errorf("create bucket %s: %w", bucket, err)
			}
		}
		if err := tx.Bucket(metaBucket).Put(metaSchema, idBytes(SchemaVersion)); err != nil {
			return nil, fmt.Errorf("write schema version: %w", err)
		}
	}
	if err := checkSchema(tx); err != nil {
		return nil, err
	}
	if err := addKept(tx); err != nil {
		return nil, err
	}
	return openBuckets(tx)
}

// addKept adds the bucket that files from before it lack. Entries that have no row there go in
// their turn.
func addKept(tx *bbolt.Tx) error {
	if _, err := tx.CreateBucketIfNotExists(keptBucket); err != nil {
		return fmt.Errorf("create bucket %s: %w", keptBucket, err)
	}
	return nil
}

// raiseIDs keeps ids ascending over all there are in a file.
func (s *Store) raiseIDs(id uint64) {
	for {
		last := s.ids.Load()
		if last >= id || s.ids.CompareAndSwap(last, id) {
			return
		}
	}
}

// readFailed is what a reader does with an error of the disk: it counts, and it has the file given
// up when that has become unusable.
func (s *Store) readFailed(err error) {
	if errors.Is(err, errLate) {
		s.counts.errors[DiskTier].Add(1)
		return
	}
	if errors.Is(err, errDetached) || errors.Is(err, errStalled) { // the disk writer counts it
		return
	}
	s.counts.errors[DiskTier].Add(1)
	if s.disk.isPast(err) {
		return
	}
	_, wedged := errors.AsType[*wedgedError](err)
	if wedged || errors.Is(err, boltcheck.ErrLost) || s.disk.panics.Load() >= maxPanics {
		s.report(err)
	}
}

// report has the disk writer give the file up.
func (s *Store) report(err error) {
	select {
	case s.diskWriter.broken <- err:
	default: // it is told already
	}
}

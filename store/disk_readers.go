package store

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A body that is deleted while clients read it keeps its room until they have left, and a client
// may take nothing for as long as it likes. Evicting others for that would empty the tier. So such
// bodies take room beyond the budget, up to three eighths of it: nothing is evicted for that
// (spared).
//
// Up to an eighth of the budget nothing else comes of it. Past that
//
//   - a body with chunks of its own is let in by its risk, which is that it comes to be read in the
//     same way: only if it and what is deleted and read already take at most a quarter of the
//     budget together (heldBack),
//   - nor is it let in, or goes on to come, where what is deleted, read or on its way without that
//     would take more than three quarters of the budget (crowdedBy),
//   - what is being read, and would bring it past that, is evicted last (batch.evict). So that this
//     is not at the cost of what others use, a quarter is left to what is not being read,
//   - the readers of a body of which nothing has been taken for idleTime, or less than slowestPace,
//     are broken off, those of the body that is overdue the longest first, and of no more than
//     bring it down to an eighth. So it ends by itself. A client that takes slowestPace reads to
//     the end, and so does one that reads what is stored still.
//
// What is used stays within 11/8 of the budget for that, so that an eighth is left to one and a
// half for free pages that do not lie side by side. In a file of 16 MiB these have taken a sixth.
// Let B be the budget, L what entries have, H what is deleted and read, and W what is on its way
// and no entry yet: what is used is L + H + W. A body that is deleted moves from L or W to H, and
// what is used stays. It gets more by a batch, before which evictStep evicts until L + H + W, with
// the batch, is at most B + min(H, 3B/8), or no entry is left. Where none is, what would bring it
// past 11B/8 is not written: wanted refuses an entry, and due gives up a body on its way.

// idleTime is how long readers may take nothing at all.
const idleTime = 30 * time.Second

// slowestPace is what the readers of a deleted body have to take of it, in bytes a second. What
// they take at once is credited, because the system has it for a slow client then, and a write ends
// when a third of its buffer is free again. By default that is a third of 4 MiB at most, which is
// mostCredit: 171 s. So who stops is broken off within idleTime and that, and who has taken nothing
// within idleTime. In package coalesce, pace.go has the same two for what is on its way.
const (
	slowestPace = 8 << 10
	mostCredit  = 4 << 20 / 3
)

// credit is the time that bytes are good for which have been taken at once. It is what silence is
// in package coalesce.
func credit(bytes int64) time.Duration {
	return time.Duration(min(bytes, mostCredit)) * time.Second / slowestPace
}

// Interrupter is who reads a stored body for a client, or for several. It is a pointer, so that it
// can be told from others.
type Interrupter interface {
	// Interrupt breaks off writes of the body that hang, so that they fail, and returns of how many
	// clients. It is called on a goroutine of its own. For a body on disk it is called again after
	// a while where that is still read.
	Interrupt() int
}

// ErrIdle says that a client has been broken off: it has taken nothing for 30 s, or less than 8
// KiB/s, of a body on disk that is not stored any more, or not all of a small one in memory in
// 30 s, and kept others from being stored.
var ErrIdle = errors.New("the client is too slow with a body that keeps others from being stored")

// heldBack tells whether a body of n bytes, with chunks of its own, is not taken in.
func (d *disk) heldBack(budget, n int64) bool {
	held := d.pins.deleted()
	return held > budget/8 && held+n > budget/4
}

// crowdedBy tells whether n bytes, of bodies that are no entries yet, would leave less than a
// quarter of the budget to what is not being read. That matters where much is deleted and read.
func (d *disk) crowdedBy(budget, n int64) bool {
	deleted, inUse := d.pins.inUse()
	return deleted > budget/8 && inUse+n > budget/4*3
}

// spared is how much of what is used no entry is evicted for.
func (dw *diskWriter) spared() int64 { return min(dw.disk.pins.deleted(), dw.diskBudget()/8*3) }

// outgrows tells whether n more bytes would bring the file past its bound, for what is deleted and
// read.
func (d *disk) outgrows(budget, n int64) bool {
	return d.pins.deleted() > budget/8 && d.used()+n > budget/8*11
}

// lacksRoom tells whether n more bytes of large bodies have no place: no slots, and not enough
// pages that are free in the database. These need not lie side by side, so that there have to be
// more than n bytes of them.
func (d *disk) lacksRoom(budget, n int64) bool {
	return d.lacksSlots(budget, n) && d.size.Load()-d.pages.Load() < n+n/4+budget/16
}

// lacksSlots tells whether n more bytes of slots would bring both files past one and a half of the
// budget, or past twice a small one. Until the database is compacted large bodies stand in its free
// pages then.
func (d *disk) lacksSlots(budget, n int64) bool {
	n -= d.openSlots().Free()
	most := budget / 2 * 3
	if budget < 16<<20 {
		most = budget * 2
	}
	return n > 0 && d.length()+n > most
}

// addReader adds a reader of a body that is pinned.
func (p *pins) addReader(id uint64, r Interrupter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers[id] = append(p.readers[id], r)
	if held := p.held[id]; held != nil {
		held.join(r)
	}
}

// removeReader takes a reader off.
func (p *pins) removeReader(id uint64, r Interrupter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rest := slices.DeleteFunc(p.readers[id], func(o Interrupter) bool { return o == r })
	if len(rest) > 0 {
		p.readers[id] = rest
	} else {
		delete(p.readers, id)
	}
}

// took notes that bytes of a body are taken.
func (p *pins) took(id uint64, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if held := p.held[id]; held != nil {
		held.taken += bytes
	} else if p.count[id] > 0 {
		p.taken[id] += bytes
	}
}

// idle looks at what is deleted and read, and returns the readers that are to be broken off: those
// of bodies of which too little is taken, until all others are at most so many bytes.
func (p *pins) idle(now time.Time, bytes int64) (readers []Interrupter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var due []uint64
	left, taken := p.heldBytes, p.takenBy()
	for id, held := range p.held {
		if held.bytes == 0 {
			continue // a BodyWriter is closed, and what it wrote may be stored
		}
		n := held.taken
		for _, r := range p.readers[id] {
			n = max(n, taken[r])
		}
		if held.look(now, n); !now.Before(held.due) && len(p.readers[id]) > 0 {
			due = append(due, id)
		}
	}
	slices.SortFunc(due, func(a, b uint64) int {
		return cmp.Or(p.held[a].due.Compare(p.held[b].due), cmp.Compare(a, b))
	})
	for _, id := range due {
		if left <= bytes {
			break
		}
		p.held[id].due = now.Add(idleTime)
		left -= p.held[id].bytes
		readers = append(readers, p.readers[id]...)
	}
	return readers
}

// takenBy is what readers have taken of all that is deleted since the last look. Who reads a body
// in parts takes nothing of the others meanwhile.
func (p *pins) takenBy() map[Interrupter]int64 {
	taken := make(map[Interrupter]int64)
	for id, held := range p.held {
		if held.taken == 0 {
			continue
		}
		for _, r := range p.readers[id] {
			taken[r] += held.taken
		}
	}
	return taken
}

// look notes what has been taken since the last look.
func (l *leftover) look(now time.Time, taken int64) {
	if l.joined || l.due.IsZero() {
		l.due = lastOf(l.due, now.Add(idleTime))
	}
	if taken > 0 {
		l.due = lastOf(l.due, now).Add(credit(taken))
		if most := now.Add(idleTime + credit(mostCredit)); l.due.After(most) {
			l.due = most
		}
	}
	l.joined, l.taken = false, 0
}

// lastOf is later of package coalesce.
func lastOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// clientReader is one client's WriteBody.
type clientReader struct {
	client Interrupter

	mu          sync.Mutex
	over        bool
	interrupted bool
}

// Interrupt implements Interrupter. The client is interrupted once, and not any more when WriteBody
// has returned: by then its connection may have another answer.
func (r *clientReader) Interrupt() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.interrupted {
		return 0
	}
	r.interrupted = true
	return r.client.Interrupt()
}

// end tells whether the client was interrupted.
func (r *clientReader) end() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	return r.interrupted
}

// shortage is a time in which clients that read what was deleted keep bodies from the disk, or are
// broken off for that: from the first of either until there was none for calmTime.
type shortage struct {
	on   atomic.Bool
	last atomic.Int64 // of the store's clock: the last of either
}

// holdsBack is heldBack for a body that is about to come, and notes the shortage.
func (s *Store) holdsBack(n int64) bool {
	held := s.isHeldBack(n)
	if held {
		s.diskWriter.noteShortage()
	}
	return held
}

func (s *Store) isHeldBack(n int64) bool {
	budget := s.settings.Load().Disk
	return s.disk.heldBack(budget, n) || s.disk.crowdedBy(budget, s.bodyWriters.onTheirWay()+n)
}

// noteShortage says once that there is one.
func (dw *diskWriter) noteShortage() {
	sh := &dw.shortage
	sh.last.Store(nanos(dw.now()))
	if !sh.on.CompareAndSwap(false, true) {
		return
	}
	dw.log.Warn("disk tier: clients that are slow to read hold much of what was deleted; large bodies may stay in memory only",
		slog.Int64("held_bytes", dw.disk.pins.deleted()), slog.Int64("disk", dw.diskBudget()), slog.String("file", dw.disk.path))
}

// breakOff breaks off readers that take nothing of what is deleted, where that is much, and says
// when a shortage is over.
func (dw *diskWriter) breakOff() {
	now, budget := dw.now(), dw.diskBudget()
	readers := dw.disk.pins.idle(now, budget/8)
	for _, r := range readers {
		go func() {
			dw.counts.interrupted.Add(uint64(r.Interrupt()))
		}()
	}
	if len(readers) > 0 {
		dw.noteShortage()
	}
	sh := &dw.shortage
	if !sh.on.Load() || nanos(now)-sh.last.Load() < int64(calmTime) || dw.disk.pins.deleted() > budget/8 {
		return
	}
	sh.on.Store(false)
	dw.log.Info("disk tier takes in large bodies again", slog.String("file", dw.disk.path))
}

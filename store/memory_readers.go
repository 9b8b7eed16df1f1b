package store

import (
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// What clients are sent from memory gives no room (see shrink), and streams of HTTP/2 without a
// window take nothing of it for as long as they like. Of larger items the sum is bounded; of small
// ones it takes thousands of streams to fill the budget, which a few connections have. So who reads
// a small item is known, and while nothing is left that would give room, those that have not taken
// it within idleTime are broken off: the longest first, and no more at once than have an eighth of
// the budget. A client that is merely slow takes so small a body in that time.
//
// This runs at each hit, so it takes neither a lock that others wait for nor memory: a reader has
// one of many places, and finds a free one by chance. Only where it finds none is it listed.

// readerPlaces is how many places there are, and readerTries how many a reader looks at.
const (
	readerPlaces = 1024
	readerTries  = 4
)

// memoryReaders are those that read small items for clients.
type memoryReaders struct {
	places [readerPlaces]readerPlace

	mu    sync.Mutex
	extra map[*readerPlace]struct{} // of those that have found no place
}

// readerPlace is a reader's, or free where it has no client.
type readerPlace struct {
	listed bool // in extra
	mu     sync.Mutex
	client Interrupter
	item   *item
	turn   uint32    // how many had it before
	since  time.Time // when it was first seen to be read; zero: not yet
	cut    bool
}

// take makes the place a reader's; false where it is not free.
func (p *readerPlace) take(it *item, client Interrupter) bool {
	if !p.mu.TryLock() {
		return false
	}
	defer p.mu.Unlock()
	if p.client != nil {
		return false
	}
	p.client, p.item, p.since, p.cut = client, it, time.Time{}, false
	p.turn++
	return true
}

// leave frees the place, and tells whether the reader was broken off.
func (p *readerPlace) leave() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client, p.item = nil, nil
	return p.cut
}

// begin notes a reader of an item that it holds.
func (rs *memoryReaders) begin(it *item, client Interrupter) *readerPlace {
	at := rand.Uint32() //nolint:gosec // a place is no secret
	for range readerTries {
		if p := &rs.places[at%readerPlaces]; p.take(it, client) {
			return p
		}
		at += readerPlaces / readerTries
	}
	p := &readerPlace{listed: true, client: client, item: it}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.extra == nil {
		rs.extra = make(map[*readerPlace]struct{})
	}
	rs.extra[p] = struct{}{}
	return p
}

// end ends what begin has begun, and tells whether the reader was broken off. It is not any more
// then: its connection may have another answer.
func (rs *memoryReaders) end(p *readerPlace) (cut bool) {
	if cut = p.leave(); !p.listed {
		return cut
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.extra, p)
	return cut
}

// idleReader is a reader that is to be broken off, if it is still there then.
type idleReader struct {
	place *readerPlace
	turn  uint32
	item  *item
	cost  int64
	since time.Time
}

// interrupt breaks it off, and returns of how many clients.
func (r *idleReader) interrupt() int {
	r.place.mu.Lock()
	defer r.place.mu.Unlock()
	if r.place.client == nil || r.place.turn != r.turn {
		return 0
	}
	r.place.cut = true
	return r.place.client.Interrupt()
}

// idle returns the readers that have been at it for idleTime: those of items of so many bytes
// together, the longest first.
func (rs *memoryReaders) idle(now time.Time, bytes int64) (due []idleReader) {
	look := func(p *readerPlace) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case p.client == nil || p.cut:
		case p.since.IsZero():
			p.since = now
		case now.Sub(p.since) >= idleTime:
			due = append(due, idleReader{p, p.turn, p.item, p.item.cost(), p.since})
		}
	}
	for i := range rs.places {
		look(&rs.places[i])
	}
	rs.mu.Lock()
	for p := range rs.extra {
		look(p)
	}
	rs.mu.Unlock()
	slices.SortFunc(due, func(a, b idleReader) int { return a.since.Compare(b.since) })
	counted := make(map[*item]bool)
	for i, r := range due {
		if counted[r.item] {
			continue
		}
		if counted[r.item] = true; i > 0 && bytes < r.cost {
			return due[:i]
		}
		bytes -= r.cost
	}
	return due
}

// WriteBody is WriteBody for what r has found. In addition client is interrupted if it has not
// taken a small body in memory for 30 s, and nothing else would give room to what comes. The error
// is ErrIdle then.
func (r *Result) WriteBody(w io.Writer, b Body, off, n int64, client Interrupter) (written int64, err error) {
	if r.item == nil || r.item.isLarge() {
		return WriteBody(w, b, off, n, client)
	}
	readers := &r.memory.readers
	p := readers.begin(r.item, client)
	defer func() {
		if readers.end(p) && err == nil {
			err = ErrIdle
		}
	}()
	if r.pinned != nil { // b is on disk, and the record alone in memory
		return WriteBody(w, b, off, n, client)
	}
	for end := endOf(b, off, n); off+written < end; { // as writeByChunk, whose frame is left out
		piece, err := b.Chunk(off + written)
		if err != nil {
			return written, errReading(err)
		}
		n, err := w.Write(piece[:min(int64(len(piece)), end-off-written)])
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// breakOffSmall breaks off readers of small items that take nothing, if something has found no room
// since the last time. It looks at them for a while after that: their time counts from then.
func (dw *diskWriter) breakOffSmall() {
	now, m := dw.now(), dw.memory
	wanted := m.wanted.Swap(false)
	if wanted {
		dw.roomWanted = now
	}
	if dw.roomWanted.IsZero() || now.Sub(dw.roomWanted) > 2*idleTime {
		return
	}
	due := m.readers.idle(now, m.budget.Load()/8)
	if !wanted {
		return // what was broken off before has given room
	}
	for _, r := range due {
		go func() {
			dw.counts.interrupted.Add(uint64(r.interrupt()))
		}()
	}
}

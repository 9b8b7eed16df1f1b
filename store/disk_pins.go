package store

import (
	"sync"
	"time"
)

// pins are entries whose chunks are read without a transaction. Deleting one leaves its chunks
// until the last reader is through.
type pins struct {
	mu    sync.Mutex
	count map[uint64]int
	going map[uint64]struct{} // a transaction that deletes their chunks is under way
	left  bool                // one of held is not pinned any more: its chunks can be swept
	held  map[uint64]*leftover
	// heldBytes is what all of these take.
	heldBytes int64
	// read has the lengths of those that are stored and not deleted, and readBytes is their sum.
	// What is compressed takes less of the file.
	read      map[uint64]int64
	readBytes int64
	readers   map[uint64][]Interrupter // see disk_readers.go
	taken     map[uint64]int64         // bytes taken of those that are not deleted
	// spoiled are known to be damaged. Each is noted as long as it is pinned: by then its deletion
	// is queued, and look-ups find it no more.
	spoiled map[uint64]struct{}
}

// leftover is what has been deleted while it was pinned.
type leftover struct {
	bytes  int64     // of the file
	read   int64     // its length, where it was counted as stored
	taken  int64     // bytes of it that were, since it was last looked at
	joined bool      // a client has come since then
	due    time.Time // when more has to be taken; zero: it was not looked at yet
	// clients are all that have come since it was deleted: no more than had it pinned.
	clients map[Interrupter]struct{}
}

// join notes a reader. One that reads a body in parts comes again with each, and has no more time
// for that.
func (l *leftover) join(r Interrupter) {
	if part, ok := r.(*clientReader); ok {
		r = part.client
	}
	if _, known := l.clients[r]; known {
		return
	}
	if l.clients == nil {
		l.clients = make(map[Interrupter]struct{})
	}
	l.clients[r], l.joined = struct{}{}, true
}

func (p *pins) init() {
	p.count, p.going = make(map[uint64]int), make(map[uint64]struct{})
	p.held, p.readers = make(map[uint64]*leftover), make(map[uint64][]Interrupter)
	p.read, p.taken = make(map[uint64]int64), make(map[uint64]int64)
}

// pin keeps the chunks of id, a body of so many bytes, until unpin; false when they are being
// deleted already. The caller checks in a transaction begun after pin that the chunks are still
// there: a deletion that committed before was not told of the pin. The length is 0 for what is not
// stored yet.
func (p *pins) pin(id uint64, length int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, going := p.going[id]; going {
		return false
	}
	p.count[id]++
	if length > 0 {
		p.countRead(id, length)
	}
	return true
}

// noteStored notes that what is pinned is stored by now, or with 0 that it is not after all.
func (p *pins) noteStored(id uint64, length int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.countRead(id, length)
}

// countRead counts the length of what is pinned and stored, or with 0 does so no more.
func (p *pins) countRead(id uint64, length int64) {
	if held := p.held[id]; p.count[id] == 0 || held != nil && held.bytes > 0 {
		length = 0
	}
	p.readBytes += length - p.read[id]
	if length > 0 {
		p.read[id] = length
	} else {
		delete(p.read, id)
	}
}

func (p *pins) unpin(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count[id]--; p.count[id] > 0 {
		return
	}
	delete(p.count, id)
	delete(p.spoiled, id)
	delete(p.taken, id)
	p.countRead(id, 0)
	if held := p.held[id]; held != nil {
		delete(p.held, id)
		p.heldBytes -= held.bytes
		p.left = true
	}
}

// delete asks to delete the chunks of id within a transaction that ends with settle; false means
// that a reader is at them. They have so many bytes, 0 where that is not known.
func (p *pins) delete(id uint64, bytes int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count[id] > 0 {
		held := p.held[id]
		if held == nil {
			held = &leftover{taken: p.taken[id]}
			p.held[id] = held
			delete(p.taken, id)
		}
		if held.bytes == 0 {
			held.bytes = bytes
			p.heldBytes += bytes
			if bytes > 0 {
				held.read = p.read[id]
				p.countRead(id, 0)
			}
		}
		return false
	}
	p.going[id] = struct{}{}
	return true
}

// grew counts more bytes of what has been deleted and is still read.
func (p *pins) grew(id uint64, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if held := p.held[id]; held != nil {
		held.bytes += bytes
		p.heldBytes += bytes
	}
}

// settle ends the transaction that delete was asked for.
func (p *pins) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.going)
}

// takeLeft tells, once, that chunks of deleted entries are not read any more.
func (p *pins) takeLeft() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.left
	p.left = false
	return left
}

// deleted is how many bytes of the file have been deleted and are still read.
func (p *pins) deleted() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heldBytes
}

// inUse is that, and how many bytes the bodies have that are stored and read.
func (p *pins) inUse() (deleted, all int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heldBytes, p.heldBytes + p.readBytes
}

func (p *pins) pinned(id uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count[id] > 0
}

// spoil notes that a chunk of id is damaged; false when that is known.
func (p *pins) spoil(id uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.spoiled[id]; known {
		return false
	}
	if p.count[id] > 0 {
		if p.spoiled == nil {
			p.spoiled = make(map[uint64]struct{})
		}
		p.spoiled[id] = struct{}{}
	}
	return true
}

func (p *pins) isSpoiled(id uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, spoiled := p.spoiled[id]
	return spoiled
}

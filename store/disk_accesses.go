package store

import "sync"

// accesses are the entries that disk look-ups have used since their rank was written, with how
// often. Past its bound it forgets: recency is a hint.
type accesses struct {
	mu   sync.Mutex
	uses map[uint64]uint8
}

const maxAccesses = 1 << 16

// add notes uses of id.
func (t *accesses) add(id uint64, times uint8) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.uses == nil {
		t.uses = make(map[uint64]uint8)
	}
	if n, known := t.uses[id]; known || len(t.uses) < maxAccesses {
		t.uses[id] = n + min(times, 255-n)
	}
}

// noteUse notes that a look-up has found an entry on disk.
func (dw *diskWriter) noteUse(e *Entry) {
	dw.accesses.add(e.ID, 1)
	if len(e.Variant.Names) > 0 || e.Variant.Coding != "" { // else it is the only one of its key
		dw.credits.use(e.ID)
	}
}

// take returns and forgets the uses of id.
func (t *accesses) take(id uint64) uint8 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.uses[id]
	delete(t.uses, id)
	return n
}

// some returns up to n ids.
func (t *accesses) some(n int) []uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []uint64
	for id := range t.uses {
		if len(ids) == n {
			break
		}
		ids = append(ids, id)
	}
	return ids
}

func (t *accesses) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.uses)
}

func (t *accesses) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.uses)
}

package store

import (
	"sync"
	"time"
)

// departures remembers why the responses of a key have left the store, for those who ask why
// nothing is found. It is a table of fixed size in which the last departure of several keys takes
// the place of the one before.
type departures struct {
	mu    sync.Mutex
	table [departureCount]departure
}

// departureCount is how many departures are remembered at most.
const departureCount = 1 << 12

// departure is one of them, in 16 bytes.
type departure struct {
	prefix  uint64 // of the key
	at      uint32 // Unix time in seconds, 0 for none
	because EvictionReason
}

// note remembers a departure. A response that was replaced by another of its key is none.
func (d *departures) note(key Key, why EvictionReason, now time.Time) {
	if why == Replaced || key == (Key{}) {
		return
	}
	prefix := keyPrefix(key)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.table[prefix%departureCount] = departure{prefix, uint32(now.Unix()), why}
}

// Departed returns why the last response of a key that has left a tier did so, and when. known is
// false where that is not remembered. The other tier may still have it.
func (s *Store) Departed(key Key) (why EvictionReason, at time.Time, known bool) {
	d, prefix := &s.memory.departed, keyPrefix(key)
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.table[prefix%departureCount]
	if e.at == 0 || e.prefix != prefix {
		return 0, time.Time{}, false
	}
	return e.because, time.Unix(int64(e.at), 0), true
}

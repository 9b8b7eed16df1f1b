package httpcache

import (
	"sync"
	"time"

	"github.com/larder-cache/larder/store"
)

// recentKeys remembers when a key was last noted. It is bounded in number, and forgets in halves: a
// key is remembered at least until as many other keys as fit into a half have been noted. So a
// flood of other keys pushes out quiet keys, not those in use. Who must not miss any asks
// notedSince, which knows how far back what has been forgotten reaches.
type recentKeys struct {
	capacity int           // of a half
	keep     time.Duration // how long a key is remembered; it may be up to twice as long
	grain    time.Duration // a key is noted again after this time only: looking takes a shared lock

	mu         sync.RWMutex
	young, old map[store.Key]int64 // nanoseconds since epoch, as the rest
	turned     int64               // what is in old was noted until then
	last       int64               // a key was noted last then
	forgotten  int64               // what has been forgotten was noted until then
	epoch      time.Time
}

// maxRecentKeys bounds each half of such a memory. A key takes 40 bytes and the map's own cost,
// about 8 MiB in all when both halves are full.
const maxRecentKeys = 1 << 16

func newRecentKeys(capacity int, keep, grain time.Duration) *recentKeys {
	return &recentKeys{capacity: capacity, keep: keep, grain: grain, epoch: time.Now()}
}

// age returns how long before now key was noted, 0 if that was after it. known is false if it is
// not remembered.
func (m *recentKeys) age(key store.Key, now time.Time) (age time.Duration, known bool) {
	at, known := m.notedAt(key)
	if !known {
		return 0, false
	}
	age = time.Duration(max(m.since(now)-at, 0))
	return age, age < 2*m.keep
}

// lately reports whether key was noted so long before now, at most, as it is remembered for
// certain.
func (m *recentKeys) lately(key store.Key, now time.Time) bool {
	age, known := m.age(key, now)
	return known && age < m.keep
}

// notedAt returns when key was noted.
func (m *recentKeys) notedAt(key store.Key) (at int64, known bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if at, known = m.young[key]; !known {
		at, known = m.old[key]
	}
	return at, known
}

// notedSince reports whether key has been noted after a time, or may have been: what was noted
// after it has been forgotten in part.
func (m *recentKeys) notedSince(key store.Key, after time.Time) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return max(m.young[key], m.old[key], m.forgotten) > max(0, m.since(after))
}

// note remembers key as of that time, or as of when a key was noted last if that is later.
func (m *recentKeys) note(key store.Key, at time.Time) {
	if age, known := m.age(key, at); known && age < m.grain {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := max(m.since(at), m.last)
	switch age := time.Duration(now - m.turned); {
	case age >= 2*m.keep:
		m.old, m.young, m.turned, m.forgotten = nil, nil, now, m.last
	case age >= m.keep || len(m.young) >= m.capacity:
		if len(m.old) > 0 {
			m.forgotten = m.turned
		}
		m.old, m.young, m.turned = m.young, nil, now
	}
	if m.young == nil {
		m.young = make(map[store.Key]int64)
	}
	m.young[key], m.last = now, now
}

// forget removes key.
func (m *recentKeys) forget(key store.Key) {
	if _, known := m.notedAt(key); !known {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.young, key)
	delete(m.old, key)
}

// since returns a time as it is kept.
func (m *recentKeys) since(t time.Time) int64 { return int64(t.Sub(m.epoch)) }

package larder

import (
	"sync"
	"time"

	"github.com/larder-cache/larder/store"
)

// hitForMiss remembers keys whose responses could not be shared, so that requests for them do not wait for each other
// (Varnish: hit-for-miss). It is bounded in time and number and forgets in halves: a key lives for one to three generations, less when
// more keys come than fit.
type hitForMiss struct {
	mu            sync.RWMutex
	young, old    map[store.Key]struct{}
	turned        time.Time
	now           func() time.Time
	generationTTL time.Duration
	capacity      int
}

const (
	// hitForMissTTL is the shortest time a key is remembered. Varnish's default is 120 s; ours can be short because an answer that may
	// be stored ends it at once.
	hitForMissTTL = 30 * time.Second
	// hitForMissKeys bounds one generation: 32 bytes and the map's own cost each, about 8 MiB in all when full.
	hitForMissKeys = 1 << 16
)

func newHitForMiss() *hitForMiss {
	return &hitForMiss{now: time.Now, generationTTL: hitForMissTTL, capacity: hitForMissKeys}
}

// refreshRest is the shortest time between a background refresh that failed and the next one of its key. While the origin is down each
// request for a stale response would start one as soon as the last has failed, and an origin that fails because it has too much to do fails
// fast.
const refreshRest = time.Second

// newRefreshRests returns a memory of keys whose background refresh has failed: the same, for shorter.
func newRefreshRests() *hitForMiss {
	m := newHitForMiss()
	m.generationTTL = refreshRest
	return m
}

// has reports whether key was lately found not shareable.
func (m *hitForMiss) has(key store.Key) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, young := m.young[key]
	_, old := m.old[key]
	if !young && !old { // as a rule; the clock costs more than the maps
		return false
	}
	age := m.now().Sub(m.turned)
	return young && age < 2*m.generationTTL || old && age < m.generationTTL
}

// remember notes that a response to key could not be shared.
func (m *hitForMiss) remember(key store.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	switch age := now.Sub(m.turned); {
	case age >= 2*m.generationTTL:
		m.old, m.young, m.turned = nil, nil, now
	case age >= m.generationTTL || len(m.young) >= m.capacity:
		m.old, m.young, m.turned = m.young, nil, now
	}
	if m.young == nil {
		m.young = make(map[store.Key]struct{})
	}
	m.young[key] = struct{}{}
}

// forget is called as soon as an answer comes that may be stored.
func (m *hitForMiss) forget(key store.Key) {
	if !m.has(key) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.young, key)
	delete(m.old, key)
}

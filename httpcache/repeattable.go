package httpcache

import (
	"encoding/binary"
	"math"
	"sync"
	"time"

	"github.com/larder-cache/larder/store"
)

// repeatTable counts how often each key has come, in windows of time. A window begins with the
// first request for its key and ends at a fixed time after that, however many follow. So a count is
// never of more requests than have come in the time, a client that is refused knows when to come
// back, and one that goes on regardless is not kept out for longer.
//
// Its room is fixed and holds no pointers. Keys are hashes of which 192 bits are compared, so two
// of them do not share a count. Where a set of slots is full the key with the lowest count makes
// way: a flood of new keys pushes out others that have come once, not those that repeat. What is
// pushed out is counted from one again. So a flood has requests go uncounted, and none refused.
type repeatTable struct {
	made  sync.Once // with the first request that is counted
	sets  []repeatSet
	epoch time.Time
}

const (
	// repeatSets and repeatWays make 65,536 slots, which take 3 MiB.
	repeatSets = 1 << 13
	repeatWays = 8
)

type repeatSet struct {
	mu    sync.Mutex
	slots [repeatWays]repeatSlot
}

// repeatSlot is the window of one key. The zero value is one that is over.
type repeatSlot struct {
	key   [24]byte
	until time.Duration // since the epoch
	count uint16
}

// count counts a request for key and returns how many have come in its window, this one among them,
// and how long that still lasts. A new one lasts for within.
func (t *repeatTable) count(key store.Key, now time.Time, within time.Duration) (times uint16, left time.Duration) {
	set, at := t.at(key, now)
	set.mu.Lock()
	defer set.mu.Unlock()
	slot, known := set.find(key, at)
	if !known {
		*slot = repeatSlot{key: [24]byte(key[:24]), until: at + within}
	}
	if slot.count < math.MaxUint16 {
		slot.count++
	}
	return slot.count, slot.until - at
}

// wouldCount returns what count would, and counts nothing.
func (t *repeatTable) wouldCount(key store.Key, now time.Time, within time.Duration) (times uint16, left time.Duration) {
	set, at := t.at(key, now)
	set.mu.Lock()
	defer set.mu.Unlock()
	if slot, known := set.find(key, at); known {
		return slot.count + min(1, math.MaxUint16-slot.count), slot.until - at
	}
	return 1, within
}

// at returns the set of a key, and the time since the epoch.
func (t *repeatTable) at(key store.Key, now time.Time) (*repeatSet, time.Duration) {
	t.made.Do(func() { t.sets, t.epoch = make([]repeatSet, repeatSets), now })
	return &t.sets[binary.LittleEndian.Uint64(key[24:])%repeatSets], now.Sub(t.epoch)
}

// find returns the slot of a key. known is false if it has none, and slot is then that which makes
// way.
func (s *repeatSet) find(key store.Key, at time.Duration) (slot *repeatSlot, known bool) {
	slot = &s.slots[0]
	for i := range s.slots {
		other := &s.slots[i]
		if other.until > at && other.key == [24]byte(key[:24]) {
			return other, true
		}
		if other.goesBefore(slot, at) {
			slot = other
		}
	}
	return slot, false
}

// goesBefore reports whether the window makes way before another: it is over, or counts less, or
// ends sooner.
func (s *repeatSlot) goesBefore(other *repeatSlot, at time.Duration) bool {
	switch over, otherOver := s.until <= at, other.until <= at; {
	case over || otherOver:
		return over && !otherOver
	case s.count != other.count:
		return s.count < other.count
	}
	return s.until < other.until
}

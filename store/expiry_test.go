package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestExpiryGivesBackAllRoom compares what the walks leave resident with what is alive, while
// entries come and lives are of all lengths: a shard that is passed over because nothing in it can
// have expired must have nothing expired in it.
func TestExpiryGivesBackAllRoom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	clock := newTestClock()
	s := New(Config{Now: clock.now}, Settings{Memory: 64 << 20})
	s.state.Store(stateOpen)
	t.Cleanup(s.memory.clear)

	var lives []time.Time
	put := func() {
		e := testEntry(s, fmt.Sprintf("http://example.com/%d", len(lives)), nil)
		e.KeepUntil = clock.now().Add(time.Duration(1 + rng.Int64N(int64(time.Hour))))
		s.Put(e, 0)
		lives = append(lives, e.KeepUntil)
	}
	for range 2 * expireStep * shardCount { // so that a walk through a shard takes several steps
		put()
	}
	for range 12 {
		clock.advance(time.Duration(rng.Int64N(int64(10 * time.Minute))))
		for range 30 { // two walks at least
			s.diskWriter.expireMemory()
			put()
		}
		// What came since the last whole walk lives for a nanosecond at least, and the clock
		// stands.
		var want int64
		for _, until := range lives {
			if until.After(clock.now()) {
				want++
			}
		}
		if got := s.memory.entries(); got != want {
			t.Fatalf("%d entries are resident, %d alive", got, want)
		}
	}
}

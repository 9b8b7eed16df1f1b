package larder

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

// clockedHitForMiss has a clock to turn.
func clockedHitForMiss() (*hitForMiss, *time.Time) {
	now := time.Unix(1e9, 0)
	m := newHitForMiss()
	m.now = func() time.Time { return now }
	return m, &now
}

func numberedKey(n int) store.Key {
	var key store.Key
	binary.BigEndian.PutUint64(key[:], uint64(n))
	return key
}

func TestHitForMissRemembersForAWhile(t *testing.T) {
	for _, tc := range []struct {
		name  string
		turns []time.Duration // moments at which another key is remembered
		asked time.Duration
		want  bool
	}{
		{"at once", nil, 0, true},
		{"at the end of its time", nil, hitForMissTTL, true},
		{"nobody came meanwhile, just in time", nil, 2*hitForMissTTL - 1, true},
		{"nobody came meanwhile, too late", nil, 2 * hitForMissTTL, false},
		{"one generation on", []time.Duration{hitForMissTTL}, 2*hitForMissTTL - 1, true},
		{"one generation on, over", []time.Duration{hitForMissTTL}, 2 * hitForMissTTL, false},
		{"two generations on", []time.Duration{hitForMissTTL, 2 * hitForMissTTL}, 2 * hitForMissTTL, false},
		{"a late turn, still there", []time.Duration{2*hitForMissTTL - 1}, 3*hitForMissTTL - 2, true},
		{"a late turn, over", []time.Duration{2*hitForMissTTL - 1}, 3*hitForMissTTL - 1, false},
		{"a turn after all is over", []time.Duration{2 * hitForMissTTL}, 2 * hitForMissTTL, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, now := clockedHitForMiss()
			start := *now
			m.remember(numberedKey(0))
			for i, at := range tc.turns {
				*now = start.Add(at)
				m.remember(numberedKey(i + 1))
			}
			*now = start.Add(tc.asked)
			if got := m.has(numberedKey(0)); got != tc.want {
				t.Errorf("has = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestHitForMissForgets(t *testing.T) {
	m, now := clockedHitForMiss()
	m.forget(numberedKey(1)) // of nothing
	m.remember(numberedKey(1))
	m.remember(numberedKey(2))
	*now = now.Add(hitForMissTTL)
	m.remember(numberedKey(3)) // 1 and 2 are of the old generation now
	m.remember(numberedKey(2)) // and 2 of both
	for _, n := range []int{1, 2, 3} {
		if !m.has(numberedKey(n)) {
			t.Errorf("%d is forgotten too early", n)
		}
		m.forget(numberedKey(n))
		if m.has(numberedKey(n)) {
			t.Errorf("%d is remembered", n)
		}
	}
}

func TestHitForMissIsBounded(t *testing.T) {
	m, _ := clockedHitForMiss()
	m.capacity = 10
	for n := range 1000 {
		m.remember(numberedKey(n))
		if size := len(m.young) + len(m.old); size > 2*m.capacity {
			t.Fatalf("%d keys after %d, with room for %d a generation", size, n+1, m.capacity)
		}
		if !m.has(numberedKey(n)) {
			t.Fatalf("%d is forgotten at once", n)
		}
	}
	if !m.has(numberedKey(999 - m.capacity + 1)) {
		t.Error("fewer keys than fit are remembered")
	}
}

// TestHitForMissAtRandom compares with the moments at which keys were remembered: for a generation surely, after three surely not.
func TestHitForMissAtRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	m, now := clockedHitForMiss()
	last := make(map[int]time.Time)
	for range 20000 {
		*now = now.Add(time.Duration(random.Int64N(int64(hitForMissTTL / 10))))
		n := random.IntN(100)
		switch random.IntN(4) {
		case 0:
			m.remember(numberedKey(n))
			last[n] = *now
		case 1:
			m.forget(numberedKey(n))
			delete(last, n)
		default:
			at, remembered := last[n]
			age := now.Sub(at)
			switch got := m.has(numberedKey(n)); {
			case got && (!remembered || age >= 3*hitForMissTTL):
				t.Fatalf("%d is remembered after %v", n, age)
			case !got && remembered && age < hitForMissTTL:
				t.Fatalf("%d is forgotten after %v", n, age)
			}
		}
	}
}

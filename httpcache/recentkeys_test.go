package httpcache

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

// clockedRecentKeys come with a clock to turn.
func clockedRecentKeys(capacity int, keep, grain time.Duration) (*recentKeys, *time.Time) {
	m := newRecentKeys(capacity, keep, grain)
	now := m.epoch
	return m, &now
}

func numberedKey(n int) store.Key {
	var key store.Key
	binary.BigEndian.PutUint64(key[:], uint64(n))
	return key
}

func TestRecentKeysAreRemembered(t *testing.T) {
	const keep = time.Minute
	for _, tc := range []struct {
		name  string
		turns []time.Duration // moments at which another key is noted
		asked time.Duration
		want  bool
	}{
		{"at once", nil, 0, true},
		{"at the end of its time", nil, keep, true},
		{"nothing else meanwhile, just in time", nil, 2*keep - 1, true},
		{"nothing else meanwhile, too late", nil, 2 * keep, false},
		{"one half on", []time.Duration{keep}, 2*keep - 1, true},
		{"one half on, over", []time.Duration{keep}, 2 * keep, false},
		{"two halves on", []time.Duration{keep, 2 * keep}, 2*keep - 1, true},
		{"a turn after all is over", []time.Duration{2 * keep}, 2 * keep, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, now := clockedRecentKeys(100, keep, 0)
			start := *now
			m.note(numberedKey(0), *now)
			for i, at := range tc.turns {
				*now = start.Add(min(at, tc.asked))
				m.note(numberedKey(i+1), *now)
			}
			*now = start.Add(tc.asked)
			age, known := m.age(numberedKey(0), *now)
			if known != tc.want || known && age != tc.asked {
				t.Errorf("known is %v, of age %v; want %v, %v", known, age, tc.want, tc.asked)
			}
		})
	}
}

func TestRecentKeysAreForgotten(t *testing.T) {
	const keep = time.Minute
	m, now := clockedRecentKeys(100, keep, 0)
	m.forget(numberedKey(1)) // of nothing
	m.note(numberedKey(1), *now)
	m.note(numberedKey(2), *now)
	*now = now.Add(keep)
	m.note(numberedKey(3), *now) // 1 and 2 are of the old half now
	m.note(numberedKey(2), *now) // and 2 of both
	for _, n := range []int{1, 2, 3} {
		if _, known := m.age(numberedKey(n), *now); !known {
			t.Errorf("%d is forgotten too early", n)
		}
		m.forget(numberedKey(n))
		if _, known := m.age(numberedKey(n), *now); known {
			t.Errorf("%d is remembered", n)
		}
	}
}

// Within a grain a key that is noted again keeps its time, so that what is noted at every request
// is not written at every request.
func TestRecentKeysHaveAGrain(t *testing.T) {
	m, now := clockedRecentKeys(100, time.Minute, time.Second)
	m.note(numberedKey(0), *now)
	for _, tc := range []struct{ passes, want time.Duration }{
		{time.Second - 1, time.Second - 1},
		{1, 0},
	} {
		*now = now.Add(tc.passes)
		m.note(numberedKey(0), *now)
		if age, _ := m.age(numberedKey(0), *now); age != tc.want {
			t.Errorf("noted %v later its age is %v, want %v", tc.passes, age, tc.want)
		}
	}
}

// A flood of keys takes bounded room, and pushes out none that is noted again while a half of them
// comes.
func TestFloodOfRecentKeys(t *testing.T) {
	const capacity, inUse = 10, 5000
	m, now := clockedRecentKeys(capacity, time.Hour, 0)
	for n := range 1000 {
		m.note(numberedKey(n), *now)
		if n%(capacity-2) == 0 {
			m.note(numberedKey(inUse), *now)
		}
		if size := len(m.young) + len(m.old); size > 2*capacity {
			t.Fatalf("%d keys after %d, with room for %d in a half", size, n+1, capacity)
		}
		if _, known := m.age(numberedKey(inUse), *now); !known {
			t.Fatalf("the key in use is forgotten after %d others", n+1)
		}
	}
	if _, known := m.age(numberedKey(999-capacity+2), *now); !known {
		t.Error("fewer keys than fit are remembered")
	}
}

// TestRecentKeysAtRandom compares with the moments at which keys were noted: for keep surely, after
// twice that surely not.
func TestRecentKeysAtRandom(t *testing.T) {
	const keep = time.Minute
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	m, now := clockedRecentKeys(1000, keep, 0)
	last := make(map[int]time.Time)
	for range 20000 {
		*now = now.Add(time.Duration(random.Int64N(int64(keep / 10))))
		n := random.IntN(100)
		switch random.IntN(4) {
		case 0:
			m.note(numberedKey(n), *now)
			last[n] = *now
		case 1:
			m.forget(numberedKey(n))
			delete(last, n)
		default:
			at, noted := last[n]
			want := now.Sub(at)
			switch age, known := m.age(numberedKey(n), *now); {
			case known && (!noted || want >= 2*keep || age != want):
				t.Fatalf("%d is remembered with age %v, want %v, noted %v", n, age, want, noted)
			case !known && noted && want < keep:
				t.Fatalf("%d is forgotten after %v", n, want)
			}
		}
	}
}

// TestNotedSinceAtRandom compares with the moments at which keys were noted, however many have been
// forgotten: none that was noted meanwhile is missed, and of a time since which nothing has been
// forgotten nothing else is said to be noted.
func TestNotedSinceAtRandom(t *testing.T) {
	const keep, capacity = time.Minute, 20
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	m, now := clockedRecentKeys(capacity, keep, 0)
	last := make(map[int]time.Time)
	for range 20000 {
		*now = now.Add(1 + time.Duration(random.ExpFloat64()*float64(keep)/capacity))
		if random.IntN(1000) == 0 {
			*now = now.Add(3 * keep)
		}
		n, asked := random.IntN(200), now.Add(-time.Duration(random.Int64N(int64(4*keep))))
		if random.IntN(2) == 0 {
			m.note(numberedKey(n), *now)
			last[n] = *now
			continue
		}
		at, noted := last[n]
		want := noted && at.After(asked)
		got := m.notedSince(numberedKey(n), asked)
		if want && !got {
			t.Fatalf("%d, noted %v ago, is not known to be noted in the last %v", n, now.Sub(at), now.Sub(asked))
		}
		if got && !want && now.Sub(asked) < keep && keysSince(last, asked) < capacity {
			t.Fatalf("%d, noted %v ago, is said to be noted in the last %v", n, now.Sub(at), now.Sub(asked))
		}
	}
}

func keysSince(last map[int]time.Time, at time.Time) (n int) {
	for _, noted := range last {
		if noted.After(at) {
			n++
		}
	}
	return n
}

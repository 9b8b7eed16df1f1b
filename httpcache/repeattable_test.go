package httpcache

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

// keyInSet is a key of the set of a table that is numbered so.
func keyInSet(n, set uint64) (key store.Key) {
	binary.LittleEndian.PutUint64(key[:], n)
	binary.LittleEndian.PutUint64(key[24:], set)
	return key
}

// A window begins with the first request and ends when its time is over, whatever comes in it.
func TestRepeatWindow(t *testing.T) {
	var table repeatTable
	key, epoch := keyInSet(1, 0), time.Unix(1e9, 0)
	for _, step := range []struct {
		at, left time.Duration
		times    uint16
	}{
		{0, 60, 1},
		{1, 59, 2},
		{59, 1, 3},
		{60, 60, 1},
		{119, 1, 2},
		{300, 60, 1},
		{299, 61, 2}, // a request that has been overtaken
	} {
		now := epoch.Add(step.at * time.Second)
		would, _ := table.wouldCount(key, now, time.Minute)
		times, left := table.count(key, now, time.Minute)
		if times != step.times || would != times || left != step.left*time.Second {
			t.Errorf("at %d s: %d times (would be %d), %v left; want %d and %d s", step.at, times, would, left, step.times, step.left)
		}
	}
}

// No count is of more requests than have come in the time, whatever else comes.
func TestRepeatsAreNeverOvercounted(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var table repeatTable
	came := make(map[store.Key][]time.Time)
	now, within := time.Unix(1e9, 0), time.Minute
	for range 20_000 {
		now = now.Add(time.Duration(random.IntN(100)) * time.Millisecond)
		set := random.Uint64N(2)
		key := keyInSet(random.Uint64N(4+36*set), set) // the second has no room for all its keys
		came[key] = append(came[key], now)
		for len(came[key]) > 0 && now.Sub(came[key][0]) >= within {
			came[key] = came[key][1:]
		}
		times, left := table.count(key, now, within)
		if int(times) > len(came[key]) || times == 0 || left <= 0 || left > within {
			t.Fatalf("key %x: %d times with %v left; it came %d times", key[:8], times, left, len(came[key]))
		}
	}
}

// A flood of new keys pushes out no key that repeats, and takes no more room.
func TestFloodLeavesRepeatsCounted(t *testing.T) {
	var table repeatTable
	now := time.Unix(1e9, 0)
	kept := keyInSet(1, 5)
	for range 2 {
		table.count(kept, now, time.Hour)
	}
	n := uint64(1)
	allocs := testing.AllocsPerRun(20_000, func() {
		n++
		table.count(keyInSet(n, 5), now, time.Hour)
	})
	if times, _ := table.count(kept, now, time.Hour); times != 3 {
		t.Errorf("%d times, want 3", times)
	}
	if allocs != 0 {
		t.Errorf("%v allocations for each key", allocs)
	}
}

// Keys that fall into one slot are told apart.
func TestRepeatsOfOneSetAreToldApart(t *testing.T) {
	var table repeatTable
	now := time.Unix(1e9, 0)
	for n := range uint64(repeatWays) {
		for times := uint16(1); times <= 10; times++ {
			if got, _ := table.count(keyInSet(n, repeatSets*n), now, time.Hour); got != times {
				t.Errorf("key %d: %d times, want %d", n, got, times)
			}
		}
	}
}

// A count that has come to its end stays there.
func TestRepeatsWithoutEnd(t *testing.T) {
	var table repeatTable
	now, key := time.Unix(1e9, 0), keyInSet(1, 1)
	for range MaxRepeats + 2 {
		table.count(key, now, time.Hour)
	}
	would, _ := table.wouldCount(key, now, time.Hour)
	if times, _ := table.count(key, now, time.Hour); times != MaxRepeats+1 || would != times {
		t.Errorf("%d times, and would be %d, want %d", times, would, MaxRepeats+1)
	}
}

func TestRepeatTableIsForManyGoroutines(t *testing.T) {
	var table repeatTable
	now := time.Unix(1e9, 0)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for n := range uint64(1000) {
				table.count(keyInSet(n%4, n%4), now, time.Hour)
			}
		})
	}
	all.Wait()
	for n := range uint64(4) {
		if times, _ := table.wouldCount(keyInSet(n, n), now, time.Hour); times != 2001 {
			t.Errorf("key %d: %d times, want 2001", n, times)
		}
	}
}

func BenchmarkRepeatTable(b *testing.B) {
	var table repeatTable
	now := time.Now()
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n++
		table.count(keyInSet(n, n), now, time.Minute)
	}
}

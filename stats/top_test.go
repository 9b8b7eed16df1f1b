package stats

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

var begin = time.Unix(1_000_000_000, 0)

const halfLife = time.Hour

func TestTopIsExactForFewKeys(t *testing.T) {
	top := NewTop(4, halfLife)
	for key, times := range map[string]int{"a": 5, "b": 1, "c": 3} {
		for range times {
			top.Add(begin, key, 2, "r"+key)
		}
	}
	top.Add(begin, "d", 0, "") // no weight: no row
	want := []Row{{"a", 10, 10. / 18, "ra"}, {"c", 6, 6. / 18, "rc"}, {"b", 2, 2. / 18, "rb"}}
	if got := top.Rows(begin, 10); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := top.Rows(begin, 2); !reflect.DeepEqual(got, want[:2]) {
		t.Errorf("the first two are %+v", got)
	}
	if got := NewTop(4, halfLife).Rows(begin, 10); len(got) > 0 {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestTopTellsTheCommonestReason(t *testing.T) {
	top := NewTop(4, halfLife)
	for why, times := range map[string]int{"no-store": 7, "private": 5, "vary": 1, "": 9} {
		for range times {
			top.Add(begin, "a", 1, why)
		}
	}
	if got := top.Rows(begin, 1)[0].Why; got != "no-store" {
		t.Errorf("got %q", got)
	}
	for i := range 1000 { // more reasons than are told apart
		top.Add(begin, "b", 1, fmt.Sprint("rare", i))
		top.Add(begin, "b", 1, "common")
	}
	if got := top.Rows(begin, 1)[0].Why; got != "common" {
		t.Errorf("of many: %q", got)
	}
}

func TestTopForgets(t *testing.T) {
	top := NewTop(4, halfLife)
	for range 8 {
		top.Add(begin, "before", 1, "x")
	}
	top.Add(begin, "once", 1, "x")
	now := begin.Add(3 * halfLife)
	top.Add(now, "now", 3, "y")
	want := []Row{{"now", 3, 3. / 4, "y"}, {"before", 1, 1. / 4, "x"}}
	if got := top.Rows(now, 10); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := top.Rows(now.AddDate(100, 0, 0), 10); len(got) > 0 {
		t.Errorf("after a century: %+v", got)
	}
	top.Add(now.AddDate(100, 0, 0), "then", 1, "")
	if got := top.Rows(now.AddDate(100, 0, 0), 10); len(got) != 1 || got[0].Share != 1 {
		t.Errorf("after that: %+v", got)
	}
}

// TestTopTellsLongKeysApart: what is kept of a key is short, and the rest of it counts all the
// same.
func TestTopTellsLongKeysApart(t *testing.T) {
	top := NewTop(4, halfLife)
	long := "http://example.com/" + strings.Repeat("é", 4096)
	top.Add(begin, long+"1", 2, "")
	top.Add(begin, long+"2", 1, "")
	rows := top.Rows(begin, 10)
	if len(rows) != 2 || rows[0].Count != 2 || rows[1].Count != 1 {
		t.Fatalf("got %+v", rows)
	}
	for _, r := range rows {
		if len(r.Key) > maxKeyBytes || !strings.HasSuffix(r.Key, "é…") {
			t.Errorf("%d bytes: %q", len(r.Key), r.Key)
		}
	}
}

// TestTopOfZipf compares with exact counts: no count is too high, none too low by more than its
// bound, and what must be found is.
func TestTopOfZipf(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, s := range []float64{1.01, 1.2, 2} {
		const size, events = 500, 50_000
		r := rand.New(rand.NewPCG(seed, 0))
		zipf := rand.NewZipf(r, s, 1, 1<<20)
		top, exact, total := NewTop(size, halfLife), make(map[string]uint64), uint64(0)
		for range events {
			key, weight := fmt.Sprint("/", zipf.Uint64()), 1+r.Uint64N(3)
			top.Add(begin, key, weight, "")
			exact[key], total = exact[key]+weight, total+weight
		}
		checkTop(t, top, exact, total, size)
		heaviest := slices.SortedFunc(maps.Keys(exact), func(a, b string) int { return int(exact[b]) - int(exact[a]) })
		shown := top.Rows(begin, 20)
		for _, key := range heaviest[:10] {
			if !slices.ContainsFunc(shown, func(r Row) bool { return r.Key == key }) {
				t.Errorf("s=%v: %s, %d of %d, is not among the first 20", s, key, exact[key], total)
			}
		}
	}
}

// checkTop holds the rows to the bounds of Space-Saving.
func checkTop(t *testing.T, top *Top, exact map[string]uint64, total uint64, size int) {
	t.Helper()
	rows, bound := top.Rows(begin, size+1), total/uint64(size)
	if len(rows) > size {
		t.Errorf("%d rows", len(rows))
	}
	found := make(map[string]bool)
	for i, r := range rows {
		found[r.Key] = true
		if r.Count > exact[r.Key] || exact[r.Key]-r.Count > bound {
			t.Errorf("%q has %d, exactly %d; total %d", r.Key, r.Count, exact[r.Key], total)
		}
		if i > 0 && r.Count > rows[i-1].Count {
			t.Errorf("row %d has more than the one before", i)
		}
	}
	for key, count := range exact {
		if count > bound && !found[key] {
			t.Errorf("%q is missing, which has %d of %d", key, count, total)
		}
	}
}

// TestTopIsBounded adds millions of long keys, each once.
func TestTopIsBounded(t *testing.T) {
	const size, most = 1000, 1000 * 1024
	keys := 2_000_000
	if raceDetector { // which makes it ten times as slow
		keys /= 20
	}
	top := NewTop(size, halfLife)
	key := append([]byte("http://example.com/12345678"), strings.Repeat("x", 600)...)
	before := heapInUse()
	for i := range keys {
		binary.BigEndian.PutUint64(key[19:], uint64(i))
		top.Add(begin, string(key), 1, "no-store")
	}
	if grown := heapInUse() - before; grown > most {
		t.Errorf("%d bytes for %d keys, want at most %d", grown, size, most)
	}
	if rows := top.Rows(begin, keys); len(rows) != size || rows[0].Count > 2 {
		t.Errorf("%d rows, the first %+v", len(rows), rows[0])
	}
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// FuzzTop holds the bounds for any order of keys and weights. Each pair of bytes is a key and its
// weight.
func FuzzTop(f *testing.F) {
	f.Add([]byte("a1b2c3d4a5a6a7"))
	f.Add([]byte("\x00\x01\x01\xff\x02\x01\x03\x01\x04\x01\x00\x01\x05\x02"))
	f.Fuzz(func(t *testing.T, events []byte) {
		const size = 3
		top, exact, total := NewTop(size, halfLife), make(map[string]uint64), uint64(0)
		for i := 0; i+1 < len(events); i += 2 {
			key, weight := fmt.Sprint(events[i]), uint64(events[i+1])
			top.Add(begin, key, weight, key)
			exact[key], total = exact[key]+weight, total+weight
			if len(top.rows) != len(top.byHash) || len(top.rows) > size {
				t.Fatalf("%d rows, %d by hash", len(top.rows), len(top.byHash))
			}
		}
		checkTop(t, top, exact, total, size)
		var least uint64
		for i, r := range top.rows {
			least += r.count
			if r.place != i || i > 0 && top.rows[(i-1)/2].count > r.count || r.over > r.count {
				t.Errorf("row %d of the heap is %+v", i, r)
			}
		}
		if least > total {
			t.Errorf("the rows have %d together, of %d", least, total)
		}
		for _, r := range top.Rows(begin, size) {
			if r.Why != r.Key {
				t.Errorf("%q has the reason %q", r.Key, r.Why)
			}
		}
	})
}

func BenchmarkTop(b *testing.B) {
	top, keys := NewTop(1000, halfLife), make([]string, 4096)
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, 1<<20)
	for i := range keys {
		keys[i] = fmt.Sprint("https://example.com/products/", zipf.Uint64())
	}
	i := 0
	for b.Loop() {
		top.Add(begin, keys[i%len(keys)], 1, "no-store")
		i++
	}
}

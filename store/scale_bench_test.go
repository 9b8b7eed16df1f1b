package store

import (
	"fmt"
	"testing"
)

// BenchmarkScaleEntries looks up hits among ever more entries: the cost is to stay flat but for the
// processor's caches. BenchmarkScaleGoroutines does so with ever more goroutines a core: no lock
// may be one that all share.
//
//	go test -run '^$' -bench Scale -cpu 1,2 ./store .

func BenchmarkScaleEntries(b *testing.B) {
	for _, n := range []int{1e3, 1e4, 1e5, 1e6} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, keys := filled(b, n)
			for i := 0; b.Loop(); i++ {
				lookUp(b, s, keys[i*7919%n])
			}
		})
	}
}

func BenchmarkScaleGoroutines(b *testing.B) {
	for _, each := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprint(each), func(b *testing.B) {
			const n = 10_000
			s, keys := filled(b, n)
			b.SetParallelism(each)
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					lookUp(b, s, keys[i*7919%n])
				}
			})
		})
	}
}

// BenchmarkScaleOneEntry has all goroutines ask for the same entry, as when one page is what
// everybody wants.
func BenchmarkScaleOneEntry(b *testing.B) {
	for _, each := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprint(each), func(b *testing.B) {
			s, keys := filled(b, 1000)
			b.SetParallelism(each)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					lookUp(b, s, keys[0])
				}
			})
		})
	}
}

// filled is a store in memory with n entries of 100 bytes.
func filled(b *testing.B, n int) (*Store, []Key) {
	s := openStore(b, Config{}, Settings{Memory: 8 << 30})
	keys := make([]Key, n)
	for i := range keys {
		e := testEntry(s, fmt.Sprintf("http://example.com/%d", i), make([]byte, 100))
		if result := s.Put(e, 0); result != Stored {
			b.Fatal(result)
		}
		keys[i] = e.Key
	}
	b.ReportAllocs()
	return s, keys
}

func lookUp(b *testing.B, s *Store, key Key) {
	r := s.Lookup(key, matchAny)
	if r.Entry == nil {
		b.Fatal("a miss")
	}
	r.Release()
}

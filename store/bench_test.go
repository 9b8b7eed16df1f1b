package store

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/cputime"
)

func BenchmarkLookupMemoryHit(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := openStore(b, Config{}, Settings{Memory: 256 << 20})
			keys := make([]Key, 1000)
			for i := range keys {
				e := testEntry(s, fmt.Sprintf("http://example.com/%d", i), make([]byte, size))
				s.Put(e, 0)
				keys[i] = e.Key
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					r := s.Lookup(keys[i%len(keys)], matchAny)
					if r.Entry == nil {
						b.Fatal("miss")
					}
					r.Release()
				}
			})
		})
	}
}

func BenchmarkLookupDiskHit(b *testing.B) {
	for _, memory := range []int64{1, 8 << 20} {
		b.Run(fmt.Sprint("memory ", memory), func(b *testing.B) { benchmarkLookupDiskHit(b, memory) })
	}
}

// benchmarkLookupDiskHit asks in turn for ten times as much as memory holds.
func benchmarkLookupDiskHit(b *testing.B, memory int64) {
	s := openStore(b, Config{Path: b.TempDir(), Required: true}, Settings{Memory: memory, Disk: 1 << 30})
	keys := make([]Key, 5000)
	for i := range keys {
		e := testEntry(s, fmt.Sprintf("http://example.com/%d", i), make([]byte, 16<<10))
		s.Put(e, 0)
		keys[i] = e.Key
		if i%1000 == 0 {
			_ = s.Sync()
		}
	}
	if err := s.Sync(); err != nil {
		b.Fatal(err)
	}
	benchLookups(b, s, keys)
}

// BenchmarkReadLargeBody reads a body that is on disk alone, as its answer is written.
func BenchmarkReadLargeBody(b *testing.B) {
	s := openStore(b, Config{Path: b.TempDir(), Required: true}, Settings{Memory: 1, Disk: 1 << 30})
	e := testEntry(s, "http://example.com/large", make([]byte, 32<<20))
	s.Put(e, 0)
	if err := s.Sync(); err != nil {
		b.Fatal(err)
	}
	r := s.Lookup(e.Key, matchAny)
	defer r.Release()
	b.SetBytes(r.Entry.Body.Len())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := WriteBody(io.Discard, r.Entry.Body, 0, -1, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// benchLookups looks the keys up in turn, all of which are there, and reports the processor time.
func benchLookups(b *testing.B, s *Store, keys []Key) {
	b.Helper()
	b.ReportAllocs()
	used := cputime.Used()
	for i := 0; b.Loop(); i++ {
		r := s.Lookup(keys[i%len(keys)], matchAny)
		if r.Entry == nil {
			b.Fatal("miss")
		}
		r.Release()
	}
	b.ReportMetric(float64((cputime.Used()-used).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

func BenchmarkPut(b *testing.B) {
	for _, disk := range []bool{false, true} {
		b.Run(fmt.Sprintf("disk %v", disk), func(b *testing.B) {
			cfg := Config{Required: true}
			if disk {
				cfg.Path = b.TempDir()
			}
			s := openStore(b, cfg, Settings{Memory: 64 << 20, Disk: 4 << 30})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), make([]byte, 1<<10), "a", "b"), 0)
				for disk && s.queue.waiting() > queueBytes/2 {
					if err := s.Sync(); err != nil {
						b.Fatal(err)
					}
				}
			}
			if disk {
				if err := s.Sync(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(s.Stats().Skipped), "skipped")
			}
		})
	}
}

// BenchmarkPurgeTag purges one tag of 100,000 entries. "answer" is until the purge holds and has
// answered, "swept" until all room is given back.
func BenchmarkPurgeTag(b *testing.B) {
	const entries = 100_000
	for _, disk := range []bool{false, true} {
		b.Run(fmt.Sprintf("disk %v", disk), func(b *testing.B) {
			var answer, swept time.Duration
			for range b.N {
				b.StopTimer()
				cfg := Config{Required: true}
				if disk {
					cfg.Path = b.TempDir()
				}
				s := openStore(b, cfg, Settings{Memory: 512 << 20, Disk: 4 << 30})
				for i := range entries {
					s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), bytes.Repeat([]byte("x"), 1<<10), "t"), 0)
					if i%5000 == 0 {
						_ = s.Sync()
					}
				}
				if err := s.Sync(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				began := time.Now()
				n, err := s.Purge(Selectors{Tags: []string{"t"}}, PurgeOptions{})
				if n != entries || err != nil {
					b.Fatalf("Purge = %d, %v", n, err)
				}
				answer += time.Since(began)
				for s.Stats().PurgesPending > 0 {
					time.Sleep(time.Millisecond)
				}
				swept += time.Since(began)
				_ = s.Close()
			}
			b.ReportMetric(float64(answer.Milliseconds())/float64(b.N), "answer-ms")
			b.ReportMetric(float64(swept.Milliseconds())/float64(b.N), "swept-ms")
		})
	}
}

// BenchmarkSweepStall tells how long a hit waits for its core while a purge of 100,000 entries is
// counted and swept. Run it with -cpu 1. A goroutine takes turns with the disk writer; what is
// measured is the processor time between two of its turns, which other processes do not lengthen.
func BenchmarkSweepStall(b *testing.B) {
	const entries = 100_000
	for range b.N {
		b.StopTimer()
		s := openStore(b, Config{Path: b.TempDir(), Required: true}, Settings{Memory: 512 << 20, Disk: 4 << 30})
		for i := range entries {
			s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), make([]byte, 1<<10), "t", fmt.Sprint(i)), 0)
			drainQueue(b, s, queueBytes/2)
		}
		drainQueue(b, s, 0)
		runtime.GC()
		b.StartTimer()
		answered := make(chan time.Duration, 1)
		began := time.Now()
		go func() {
			if n, err := s.Purge(Selectors{Tags: []string{"t"}}, PurgeOptions{}); n != entries || err != nil {
				b.Errorf("Purge = %d, %v", n, err)
			}
			answered <- time.Since(began)
		}()
		used := cputime.Used()
		gaps := turns(func() bool { return len(answered) == 0 || s.Stats().PurgesPending > 0 })
		swept := time.Since(began)
		slices.Sort(gaps)
		b.ReportMetric(float64((<-answered).Microseconds())/1e3, "answer-ms")
		b.ReportMetric(swept.Seconds(), "swept-s")
		work := cputime.Used() - used - time.Duration(len(gaps))*turnTime
		b.ReportMetric(float64(work.Microseconds())/entries, "cpu-us/entry")
		b.ReportMetric(float64(gaps[len(gaps)*99/100].Microseconds()), "stall-p99-us")
		b.ReportMetric(float64(gaps[len(gaps)*999/1000].Microseconds()), "stall-p999-us")
		b.ReportMetric(float64(gaps[len(gaps)-1].Microseconds()), "stall-max-us")
		_ = s.Close()
	}
}

// turnTime is what a hit takes.
const turnTime = 25 * time.Microsecond

// turns works and yields in turn while more agrees, and returns the processor time that each yield
// cost.
func turns(more func() bool) (gaps []time.Duration) {
	for more() {
		for end := cputime.Used() + turnTime; cputime.Used() < end; {
		}
		left := cputime.Used()
		runtime.Gosched()
		gaps = append(gaps, cputime.Used()-left)
	}
	return gaps
}

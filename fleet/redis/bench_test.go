//go:build unix

package redis

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
)

// each times what is done, one after the other, and says the median and the 99th percentile.
func each(b *testing.B, do func()) {
	b.Helper()
	do()
	b.ResetTimer()
	took := make([]time.Duration, 0, b.N)
	for range b.N {
		begun := time.Now()
		do()
		took = append(took, time.Since(begun))
	}
	percentiles(b, took)
}

func percentiles(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkFind is a look-up in the shared tier: a record of 1 KiB and the index of its key. The
// same server is asked for 1 KiB by redis-benchmark, which is in C and has nothing to do.
func BenchmarkFind(b *testing.B) {
	s := newServer(b)
	e := s.open(b)
	must(b, e.PutRecord(b.Context(), "key", "variant", make([]byte, 1<<10), make([]byte, 64), time.Hour))
	b.Run("one at a time", func(b *testing.B) {
		each(b, func() {
			if record, _, err := e.Find(b.Context(), "key", "variant"); err != nil || len(record) != 1<<10 {
				b.Fatal(len(record), err)
			}
		})
	})
	b.Run("many", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if record, _, err := e.Find(b.Context(), "key", "variant"); err != nil || len(record) != 1<<10 {
					b.Error(len(record), err)
				}
			}
		})
	})
	b.Run("redis-benchmark GET", func(b *testing.B) {
		s.do("SET", "plain", string(make([]byte, 1<<10)))
		p50, p99 := redisBenchmark(b, s, "GET", "plain")
		b.ReportMetric(p50*1000, "p50-µs")
		b.ReportMetric(p99*1000, "p99-µs")
	})
}

// redisBenchmark has one client do a command 20,000 times, and returns milliseconds.
func redisBenchmark(b *testing.B, s *server, words ...string) (p50, p99 float64) {
	b.Helper()
	args := append([]string{"-p", fmt.Sprint(s.port), "-c", "1", "-n", "20000", "--csv"}, words...)
	out, err := exec.Command(program(b, "redis-benchmark"), args...).Output()
	must(b, err)
	rows, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	must(b, err)
	for i, name := range rows[0] {
		switch name {
		case "p50_latency_ms":
			p50, err = strconv.ParseFloat(rows[1][i], 64)
		case "p99_latency_ms":
			p99, err = strconv.ParseFloat(rows[1][i], 64)
		}
		must(b, err)
	}
	return p50, p99
}

func BenchmarkAppend(b *testing.B) {
	e := newServer(b).open(b)
	data := make([]byte, 100)
	each(b, func() {
		if _, err := e.Append(b.Context(), fleet.Place{}, data, 0); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkReadWakesUp is from the beginning of an Append to the record at another node.
func BenchmarkReadWakesUp(b *testing.B) {
	s := newServer(b)
	e, other := s.open(b), s.open(b)
	after := stateOfLog(b, e).Tail
	at := make(chan time.Time)
	go func() {
		for {
			records, now, err := other.Read(b.Context(), fleet.Place{}, after, 10, time.Second)
			if err != nil {
				return
			}
			if after = now.Tail; len(records) > 0 {
				at <- time.Now()
			}
		}
	}()
	data := make([]byte, 100)
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		begun := time.Now()
		if _, err := e.Append(b.Context(), fleet.Place{}, data, 0); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-at).Sub(begun))
	}
	percentiles(b, took)
}

// BenchmarkReadAll is reading a log of 100,000 records, as a node does that joins.
func BenchmarkReadAll(b *testing.B) {
	const n = 100_000
	e := newServer(b).open(b)
	begin := stateOfLog(b, e).Tail
	var appending sync.WaitGroup
	for range 64 {
		appending.Go(func() {
			for range n / 64 {
				if _, err := e.Append(b.Context(), fleet.Place{}, make([]byte, 60), 0); err != nil {
					b.Error(err)
				}
			}
		})
	}
	appending.Wait()
	for b.Loop() {
		got := 0
		for after := begin; ; {
			records, _, err := e.Read(b.Context(), fleet.Place{}, after, 4096, 0)
			must(b, err)
			if len(records) == 0 {
				break
			}
			got += len(records)
			after = records[len(records)-1].Generation
		}
		if got != n/64*64 {
			b.Fatalf("%d records", got)
		}
	}
}

package store

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/cputime"
)

// BenchmarkStore writes entries of 1 KiB with every index through to the disk: -benchtime gives
// their number. Run with -cpu 1 it tells what one core sustains. The rates are of the last tenth,
// when the trees are at their largest. In order is how a crawler comes by, and a site that is
// filled anew; shuffled, no two rows of an entry's neighbours stand together.
func BenchmarkStore(b *testing.B) {
	b.Run("in order", func(b *testing.B) { benchmarkStore(b, func(i int) int { return i }) })
	b.Run("shuffled", func(b *testing.B) {
		const prime = 7_368_787
		benchmarkStore(b, func(i int) int { return i * prime % b.N })
	})
}

// benchmarkStore stores the entries of a site in an order.
func benchmarkStore(b *testing.B, number func(int) int) {
	dir := b.TempDir()
	s := openStore(b, Config{Path: dir, Required: true}, Settings{Memory: 64 << 20, Disk: 64 << 30})
	var began time.Time
	var used time.Duration
	last := max(b.N/10, 1)
	b.ResetTimer()
	for i := range b.N {
		if i == b.N-last {
			drainQueue(b, s, 0)
			began, used = time.Now(), cputime.Used()
		}
		s.Put(siteEntry(s, number(i)), 0)
		for s.queue.waiting() > queueBytes/2 { // not Sync: who stores goes on while the disk writes
			time.Sleep(time.Millisecond)
		}
	}
	drainQueue(b, s, 0)
	b.StopTimer()
	b.ReportMetric(float64(last)/time.Since(began).Seconds(), "entries/s")
	b.ReportMetric(float64((cputime.Used()-used).Microseconds())/float64(last), "cpu-us/entry")
	if skipped := s.Stats().Skipped; skipped > 0 {
		b.Errorf("%d entries skipped", skipped)
	}
	b.ReportMetric(float64(pagesWritten(s))/float64(b.N), "pages/entry")
	info, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/float64(b.N), "file-B/entry")
}

// BenchmarkStoreSteady stores at a steady rate, far below what the disk sustains: what an entry
// costs then depends on how many share a transaction. The processor time includes Put.
func BenchmarkStoreSteady(b *testing.B) {
	for _, rate := range []int{1000, 4000} {
		b.Run(fmt.Sprint(rate), func(b *testing.B) {
			s := openStore(b, Config{Path: b.TempDir(), Required: true}, Settings{Memory: 64 << 20, Disk: 64 << 30})
			const base = 20_000 // so that the trees have some size
			for i := range base {
				s.Put(siteEntry(s, i), 0)
				drainQueue(b, s, queueBytes/2)
			}
			drainQueue(b, s, 0)
			before := pagesWritten(s)
			b.ResetTimer()
			began, used := time.Now(), cputime.Used()
			for i := range b.N {
				for due := began.Add(time.Duration(i) * time.Second / time.Duration(rate)); time.Now().Before(due); {
					time.Sleep(5 * time.Millisecond)
				}
				s.Put(siteEntry(s, base+i), 0)
			}
			drainQueue(b, s, 0)
			b.StopTimer()
			b.ReportMetric(float64((cputime.Used()-used).Microseconds())/float64(b.N), "cpu-us/entry")
			b.ReportMetric(float64(pagesWritten(s)-before)/float64(b.N), "pages/entry")
		})
	}
}

// pagesWritten is how many pages have been written since the file was opened.
func pagesWritten(s *Store) int64 {
	st := s.disk.use.db.Stats().TxStats
	return st.GetWrite()
}

// siteEntry is entry i of a site: 1 KiB, the header fields of an ordinary page, two tags.
func siteEntry(s *Store, i int) *Entry {
	e := testEntry(s, fmt.Sprintf("https://www.example.com/articles/%08d", i), make([]byte, 1<<10),
		fmt.Sprintf("article-%d", i), fmt.Sprintf("section-%d", i%100))
	e.Header = http.Header{
		"Content-Type": {"text/html; charset=utf-8"}, "Content-Length": {"1024"}, "Cache-Control": {"public, max-age=600"},
		"Date": {"Sat, 21 Nov 2026 10:00:00 GMT"}, "Etag": {`"5f3759df"`}, "Surrogate-Key": {e.Tags[0] + " " + e.Tags[1]},
	}
	return e
}

// drainQueue waits until no more than limit bytes wait for the disk.
func drainQueue(b *testing.B, s *Store, limit int64) {
	b.Helper()
	for s.queue.waiting() > limit {
		if err := s.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTags stores as many small entries as -benchtime says, each with ten tags that ten others
// have too and the URL as its only other index, and reports what a reference of a tag costs in the
// file, and how long it takes to count one tag, a prefix and a host that name them all.
func BenchmarkTags(b *testing.B) {
	size := func(tags int) (float64, *Store) {
		s := openStore(b, Config{Path: b.TempDir(), Required: true}, Settings{Memory: 16 << 20, Disk: 64 << 30})
		for i := range b.N {
			names := make([]string, tags)
			for t := range names {
				names[t] = fmt.Sprintf("tag-%d-%d", t, (i*7919+t*104729)%max(b.N/10, 1))
			}
			s.Put(testEntry(s, fmt.Sprintf("https://www.example.com/%08d", i), make([]byte, 128), names...), 0)
			drainQueue(b, s, queueBytes/2)
		}
		drainQueue(b, s, 0)
		return float64(s.Stats().Disk.Bytes) / float64(b.N), s
	}
	b.ResetTimer()
	bare, _ := size(0)
	tagged, s := size(10)
	b.StopTimer()
	b.ReportMetric((tagged-bare)/10, "file-B/tag")
	for name, sel := range map[string]Selectors{
		"tag":    {Tags: []string{"tag-3-5"}},
		"prefix": {Prefixes: []string{"https://www.example.com/"}},
		"host":   {Hosts: []string{"www.example.com"}},
	} {
		used := cputime.Used()
		if _, err := s.Purge(sel, PurgeOptions{DryRun: true}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64((cputime.Used()-used).Microseconds())/1e3, name+"-cpu-ms")
	}
}

// BenchmarkLookupBySize looks up one entry after the other in files of a thousand to a hundred
// thousand and, with -benchtime in the tens of thousands, tells whether a look-up grows with the
// number stored.
func BenchmarkLookupBySize(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if n > 100_000 && testing.Short() {
				b.Skip("long")
			}
			s := openStore(b, Config{Path: b.TempDir(), Required: true}, Settings{Memory: 1, Disk: 64 << 30})
			for i := range n {
				s.Put(siteEntry(s, i), 0)
				drainQueue(b, s, queueBytes/2)
			}
			drainQueue(b, s, 0)
			keys := make([]Key, 4096)
			for i := range keys {
				keys[i] = keyOf(fmt.Sprintf("https://www.example.com/articles/%08d", i*7919%n))
			}
			benchLookups(b, s, keys)
		})
	}
}

package store

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkStore writes entries of 1 KiB with every index through to the disk: -benchtime gives their
// number. Run with -cpu 1 it tells what one core sustains. The rates are of the last tenth, when the
// trees are at their largest.
func BenchmarkStore(b *testing.B) {
	dir := b.TempDir()
	s := openStore(b, Config{Path: dir, Required: true}, Settings{Memory: 64 << 20, Disk: 64 << 30})
	var began time.Time
	var used time.Duration
	last := max(b.N/10, 1)
	b.ResetTimer()
	for i := range b.N {
		if i == b.N-last {
			drainQueue(b, s, 0)
			began, used = time.Now(), processTime()
		}
		s.Put(siteEntry(s, i), 0)
		drainQueue(b, s, queueBytes/2)
	}
	drainQueue(b, s, 0)
	b.StopTimer()
	b.ReportMetric(float64(last)/time.Since(began).Seconds(), "entries/s")
	b.ReportMetric(float64((processTime()-used).Microseconds())/float64(last), "cpu-us/entry")
	if skipped := s.Stats().Skipped; skipped > 0 {
		b.Errorf("%d entries skipped", skipped)
	}
	st := s.disk.db.Stats().TxStats
	b.ReportMetric(float64(st.GetWrite())/float64(b.N), "pages/entry")
	info, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/float64(b.N), "file-B/entry")
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

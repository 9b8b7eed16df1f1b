package store

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkPurgeWhileWriting purges one tag while the write-behind queue is kept full.
func BenchmarkPurgeWhileWriting(b *testing.B) {
	s := openStore(b, Config{Path: b.TempDir(), Required: true}, Settings{Memory: 256 << 20, Disk: 4 << 30})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), make([]byte, 1<<10), fmt.Sprintf("t%d", i%1000)), 0)
			}
		}
	}()
	for s.queue.waiting() < queueBytes*9/10 {
		time.Sleep(time.Millisecond)
	}
	worst := time.Duration(0)
	for i := 0; b.Loop(); i++ {
		began := time.Now()
		if _, err := s.Purge(Selectors{Tags: []string{fmt.Sprintf("t%d", i%1000)}}, PurgeOptions{}); err != nil {
			b.Fatal(err)
		}
		worst = max(worst, time.Since(began))
	}
	close(stop)
	<-done
	b.ReportMetric(float64(worst.Milliseconds()), "worst-ms")
}

package httpcache

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A slice whose origin sends nothing more is fetched once more for those who have waited for it as
// long as they wait for others, wherever they have come to.
func TestSliceWhoseOriginStalls(t *testing.T) {
	for name, sent := range map[string]int{"after the header": 0, "in the middle": 40} {
		t.Run(name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(60, 1000)
			h.Wait = 150 * time.Millisecond
			f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
			goesOn, stalls := make(chan struct{}), make(chan struct{})
			var asked atomic.Int32
			f.alter = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Range") != "bytes=200-299" || asked.Add(1) > 1 {
					return false
				}
				w.Header().Set("Content-Range", "bytes 200-299/1000")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(f.content[200 : 200+sent])
				_ = http.NewResponseController(w).Flush()
				close(stalls)
				<-goesOn
				_, _ = w.Write(f.content[200+sent : 300])
				return true
			}
			ask := func(who, asked string, from, to int) {
				w := httptest.NewRecorder()
				began := time.Now()
				if broke := f.read(h, w, newTestRequest(w, "Range", asked)); broke || w.Code != 206 || !bytes.Equal(w.Body.Bytes(), f.content[from:to]) {
					t.Errorf("%s: %d, broken off: %t, %d bytes after %v", who, w.Code, broke, w.Body.Len(), time.Since(began))
				}
			}
			var leader, others sync.WaitGroup
			leader.Go(func() { ask("the leader", "bytes=200-299", 200, 300) })
			<-stalls
			others.Go(func() { ask("who comes at once", "bytes=200-299", 200, 300) })
			others.Go(func() { ask("who comes from another slice", "bytes=110-299", 110, 300) })
			time.Sleep(2 * h.Wait)
			others.Go(func() { ask("who comes late", "bytes=250-259", 250, 260) })
			ended := make(chan struct{})
			go func() { others.Wait(); close(ended) }()
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				t.Error("others wait for as long as the origin stalls")
			}
			close(goesOn)
			leader.Wait()
			others.Wait()
			// All have the same fields. Who comes when it has been noted that a body stands still
			// for these has a fetch for them alone, beside the one that has just been begun.
			if got := asked.Load(); got != 2 && got != 3 {
				t.Errorf("the slice was asked for %d times, want 2 or 3", got)
			}
		})
	}
}

// TestRangeBehindWholeThatStalls: a range of a file that is being fetched whole got its header with
// the first byte of the file, and then nothing for as long as the body stalled in front of its own.
func TestRangeBehindWholeThatStalls(t *testing.T) {
	for asked, at := range map[string]int{"bytes=500-509": 500, "bytes=-10": 990} {
		h, f := newSlicing(t), newFilm(61, 1000)
		h.Slice, h.Wait = 200, 50*time.Millisecond
		goesOn, stalls := make(chan struct{}), make(chan struct{})
		f.alter = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") != "" {
				return false
			}
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(f.content[:10])
			_ = http.NewResponseController(w).Flush()
			close(stalls)
			<-goesOn
			_, _ = w.Write(f.content[10:])
			return true
		}
		var leader sync.WaitGroup
		leader.Go(func() {
			w := httptest.NewRecorder()
			if broke := f.read(h, w, newTestRequest(w)); broke || !bytes.Equal(w.Body.Bytes(), f.content) {
				t.Errorf("the leader: broken off %t after %d bytes", broke, w.Body.Len())
			}
		})
		<-stalls
		ended, w := make(chan bool), httptest.NewRecorder()
		go func() { ended <- f.read(h, w, newTestRequest(w, "Range", asked)) }()
		select {
		case broke := <-ended:
			if broke || w.Code != http.StatusPartialContent || !bytes.Equal(w.Body.Bytes(), f.content[at:at+10]) {
				t.Errorf("%s: %d, broken off %t after %d bytes", asked, w.Code, broke, w.Body.Len())
			}
			close(goesOn)
		case <-time.After(20 * time.Second):
			t.Errorf("%s: waits for as long as the body stalls", asked)
			close(goesOn)
			<-ended
		}
		leader.Wait()
	}
}

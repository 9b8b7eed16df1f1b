package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"testing"
)

// TestDownloadLargerThanMemory passes 1 GiB, with and without Content-Length, through a cache of 64 MiB: whole, and never with more in
// memory than the budget.
func TestDownloadLargerThanMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 2 GiB over loopback")
	}
	const size = 1 << 30
	pattern := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	o := newQuietOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/known" {
			w.Header().Set("Content-Length", fmt.Sprint(size))
		}
		for sent := 0; sent < size; sent += len(pattern) {
			if _, err := w.Write(pattern); err != nil {
				return
			}
		}
	})
	s := proxied("larder")
	s.options = "memory 64MiB"
	in := start(t, s, o)
	var before, peak runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, path := range []string{"/known", "/unknown"} {
		resp, err := in.client.Get(in.url(path))
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, len(pattern))
		got := 0
		for ; ; got += len(pattern) {
			_, err := io.ReadFull(resp.Body, buf)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || !bytes.Equal(buf, pattern) {
				t.Fatalf("%s: wrong bytes at %d: %v", path, got, err)
			}
			if got%(size/8) == 0 {
				if st := in.stats(); st.Memory.Bytes > st.Memory.Budget {
					t.Errorf("%s: %d bytes of %d in memory", path, st.Memory.Bytes, st.Memory.Budget)
				}
				runtime.ReadMemStats(&peak)
				if peak.HeapInuse > before.HeapInuse+192<<20 {
					t.Errorf("%s: %d MiB of heap, %d before", path, peak.HeapInuse>>20, before.HeapInuse>>20)
				}
			}
		}
		resp.Body.Close()
		if got != size {
			t.Errorf("%s: %d bytes", path, got)
		}
	}
	if st := in.stats(); st.Memory.Entries != 0 {
		t.Errorf("%d responses are stored", st.Memory.Entries)
	}
}

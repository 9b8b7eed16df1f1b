package e2e

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"runtime"
	"testing"
)

// TestDownloadLargerThanMemoryIsStored stores 1 GiB through a memory budget of 64 MiB, and serves it from disk.
func TestDownloadLargerThanMemoryIsStored(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 1 GiB to disk")
	}
	const size = 1 << 30
	pattern := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	o := newQuietOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		for range size / len(pattern) {
			if _, err := w.Write(pattern); err != nil {
				return
			}
		}
	})
	s := proxied("larder")
	s.disk, s.budget, s.options = t.TempDir(), "4GiB", "memory 64MiB\nmax_body 2GiB"
	in := start(t, s, o)
	in.client.Timeout = 0
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, want := range []string{"Larder; fwd=uri-miss; stored", "Larder; hit"} {
		resp, err := in.client.Get(in.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Cache-Status"); len(got) < len(want) || got[:len(want)] != want {
			t.Errorf("Cache-Status %q, want %q", got, want)
		}
		buf, got := make([]byte, len(pattern)), 0
		var heap uint64
		for ; ; got += len(pattern) {
			_, err := io.ReadFull(resp.Body, buf)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || !bytes.Equal(buf, pattern) {
				t.Fatalf("wrong bytes at %d: %v", got, err)
			}
			if got%(size/16) == 0 {
				runtime.ReadMemStats(&now)
				heap = max(heap, now.HeapInuse)
				if st := in.stats(); st.Memory.Bytes > 8<<20 {
					t.Errorf("%d bytes are in memory", st.Memory.Bytes)
				}
			}
		}
		resp.Body.Close()
		if got != size {
			t.Errorf("%d bytes", got)
		}
		if heap > before.HeapInuse+64<<20 {
			t.Errorf("%d MiB of heap, %d before", heap>>20, before.HeapInuse>>20)
		}
		t.Logf("%s: %d MiB of heap at the most, %d before", want, heap>>20, before.HeapInuse>>20)
	}
}

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"testing"
)

// Clients that take their time with a body that has come whole cost no memory beside the store's, which is counted, whether they come early or late,
// and have the right bytes even when the response is purged meanwhile.
func TestSlowReadersOfAStoredBody(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the memory tier is on the heap")
	}
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	const size = 32 << 20 // far more than the kernel's socket buffers hold
	g := newGate(t, func(w http.ResponseWriter, _ *visit) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Length", fmt.Sprint(size))
		for range size / len(block) {
			_, _ = w.Write(block)
		}
	})
	s := proxied("larder")
	s.options = "memory 64MiB"
	in := start(t, s, g.origin)
	before := int64(heapInUse())
	clients := make([]*connection, 3)
	for i := range clients {
		clients[i] = in.dial()
		clients[i].send("GET / HTTP/1.1\r\nHost: localhost:" + fmt.Sprint(in.port) + "\r\n\r\n")
		parked(t, i+1)
	}
	open(g.next(t, 1)...)
	answers := make([]*http.Response, len(clients))
	for i, c := range clients {
		answers[i] = c.response(http.MethodGet)
	}
	eventually(t, "the fetch is over", func() bool { return in.stats().InFlight == 0 })
	if grown := int64(heapInUse()) - before; grown > size/4 {
		t.Errorf("the heap has grown by %d bytes for readers of %d", grown, size)
	}
	if st := in.stats(); st.Memory.Bytes < size || st.Memory.Bytes > st.Memory.Budget {
		t.Errorf("%d bytes are counted, of a body of %d and a budget of %d", st.Memory.Bytes, size, st.Memory.Budget)
	}
	if n := in.purge(`{"all":true}`); n != 1 {
		t.Errorf("the purge matched %d", n)
	}
	for i, a := range answers {
		got, err := io.ReadAll(a.Body)
		if err != nil || !bytes.Equal(got, bytes.Repeat(block, size/len(block))) {
			t.Errorf("client %d read %d bytes, %v", i, len(got), err)
		}
		_ = clients[i].Close()
	}
	settled(t, in)
	eventually(t, "the bytes are given back", func() bool { return in.stats().Memory.Bytes < size })
}

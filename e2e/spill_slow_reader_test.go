package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// slowReaders asks n times, each for what fields say, reads the headers alone, and waits until the
// server stands in the writes of all bodies.
func (in *instance) slowReaders(t *testing.T, n int, fields func(i int) string) []*http.Response {
	t.Helper()
	answers := make([]*http.Response, n)
	for i := range answers {
		c := in.dial()
		_ = c.Conn.(*net.TCPConn).SetReadBuffer(16 << 10) // so that the kernel does not take it all
		c.send("GET / HTTP/1.1\r\nHost: localhost:" + fmt.Sprint(in.port) + "\r\n" + fields(i) + "\r\n")
		answers[i] = c.response(http.MethodGet)
	}
	eventually(t, "all bodies are being written", func() bool { return goroutinesIn("internal/poll.(*FD).Write") >= n })
	return answers
}

// Clients that are slow to read a body from disk cost the heap a small piece of it each, and not a
// chunk as it is on disk: of a whole body, of parts, and of one that is still on its way.
func TestSlowReadersOfTheDiskCostLittle(t *testing.T) {
	const n, each = 32, 128 << 10 // a piece, and what net/http has for a connection
	whole := func(int) string { return "" }
	part := func(i int) string { return fmt.Sprintf("Range: bytes=%d-\r\n", i*10_000) }
	for name, tt := range map[string]struct {
		fields  func(int) string
		growing bool
		status  string
	}{
		"whole":         {whole, false, "Larder; hit"},
		"parts":         {part, false, "Larder; hit"},
		"on its way":    {whole, true, "Larder; fwd=uri-miss; fwd-status=200; collapsed"},
		"parts of that": {part, true, "Larder; fwd=uri-miss; fwd-status=200; collapsed"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newHalves(t, "Content-Length", fmt.Sprint(largeBody))
			in := start(t, spilled(t), o.origin)
			first := in.read("/")
			<-o.half
			if !tt.growing {
				close(o.rest)
				first.toEnd(t, "Larder; fwd=uri-miss; stored")
				settled(t, in)
			} else {
				first.to(t, largeBody/2)
			}
			before := int64(heapInUse())
			answers := in.slowReaders(t, n, tt.fields)
			if grown := int64(heapInUse()) - before; grown > n*each {
				t.Errorf("the heap has grown by %d bytes for each of %d readers", grown/n, n)
			}
			if tt.growing {
				close(o.rest)
			}
			for i, a := range answers {
				if got := a.Header.Get("Cache-Status"); !strings.HasPrefix(got, tt.status) {
					t.Errorf("Cache-Status %q, want %q", got, tt.status)
				}
				off, b := int64(largeBody)-a.ContentLength, make([]byte, 10_000)
				if _, err := io.ReadFull(a.Body, b); err != nil || string(b) != string(largePart(off, 10_000)) {
					t.Errorf("reader %d has not the bytes from %d on, %v", i, off, err)
				}
			}
			if tt.growing {
				first.toEnd(t, "Larder; fwd=uri-miss; stored")
			}
		})
	}
}

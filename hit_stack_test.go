package larder

import (
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestHitStack bounds what a hit needs of the stack. A server of HTTP/2 answers each request on a
// new goroutine, whose short stack is copied each time it has to grow. One growth more costs as
// much as all else that Larder does in a hit. At the writes there has to be room for the server.
func TestHitStack(t *testing.T) {
	if raceDetector || testing.CoverMode() != "" || runtime.GOARCH != "amd64" {
		t.Skip("frames have another size")
	}
	const most, mostAtWrites = 2048, 1280
	for name, header := range map[string][2]string{
		"no Vary":   {"Accept-Encoding", "gzip, br"},
		"encodings": {"Accept-Encoding", "gzip, deflate, br, zstd"},
		"languages": {"Accept-Language", "de-DE,de;q=0.9,en;q=0.8"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &stackWriter{nullWriter: nullWriter{make(http.Header)}}
			serve := hitFor(t, w, name != "no Vary", header)
			done := make(chan struct{})
			go func() {
				defer close(done)
				serve() // the stack grows
				top := stackPointer()
				serve()
				header, body := top-w.atHeader, top-w.atBody
				t.Logf("%d bytes when the header is written, %d when the body is", header, body)
				if header > mostAtWrites || body > mostAtWrites {
					t.Errorf("that is more than %d", mostAtWrites)
				}
			}()
			<-done
			bytes := stackUse(serve)
			t.Logf("%d bytes in all", bytes)
			if bytes == 0 || bytes > most {
				t.Errorf("that is none, or more than %d", most)
			}
		})
	}
}

// hitFor returns a function that answers a request with this header field from the store.
func hitFor(t *testing.T, w *stackWriter, varies bool, field [2]string) (serve func()) {
	h := newTestHandler(t)
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Etag", `"v1"`)
		if varies {
			w.Header().Set("Vary", field[0])
		}
		_, err := w.Write([]byte("body"))
		return err
	})
	r := newTestRequest(w, field[0], field[1])
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	unused := *repl
	var sampled time.Time
	serve = func() {
		sampleRarely(&sampled)
		clear(w.header)
		*repl = unused // each request has a new one
		if err := h.ServeHTTP(w, r, next); err != nil {
			t.Error(err)
		}
	}
	serve()
	if serve(); !strings.HasPrefix(w.header.Get("Cache-Status"), "Larder; hit") {
		t.Fatalf("no hit: %v", w.header)
	}
	return serve
}

// sampleRarely has few of the hits looked at for the rankings, which need more of the stack.
func sampleRarely(since *time.Time) {
	if now := time.Now(); now.Sub(*since) > time.Second/2 {
		rankings.sampleRarely(now)
		*since = now
	}
}

// stackWriter notes where the stack is when it is written to.
type stackWriter struct {
	nullWriter
	atHeader, atBody int
}

func (w *stackWriter) WriteHeader(int)             { w.atHeader = stackPointer() }
func (w *stackWriter) Write(p []byte) (int, error) { w.atBody = stackPointer(); return len(p), nil }

// stackUse returns how many bytes of the stack f needs. It calls f on new goroutines with more and
// more of the stack used up, and sees whether that moves the stack, as its growth does. A stack's
// size is a power of two, so one that has 32 to 64 KiB in use moves once, for as many of these
// bytes as f needs.
func stackUse(f func()) (bytes int) {
	frame := 0
	onNewStack(func() {
		descend(100, func() {}) // the stack grows
		above := 0
		descend(0, func() { above = stackPointer() })
		descend(10, func() { frame = (above - stackPointer()) / 10 })
	})
	for depth := (32 << 10) / frame; depth*frame <= 64<<10; depth++ {
		onNewStack(func() {
			descend(depth, func() {
				before := stackPointer()
				if f(); stackPointer() != before {
					bytes += frame
				}
			})
		})
	}
	return bytes
}

func onNewStack(f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	<-done
}

// descend calls f with the frames of so many calls more on the stack.
//
//go:noinline
func descend(depth int, f func()) int {
	if depth == 0 {
		f()
		return 0
	}
	return descend(depth-1, f) + 1
}

// stackPointer is about where the stack ends.
//
//go:noinline
func stackPointer() int {
	var b byte
	return int(uintptr(unsafe.Pointer(&b)))
}

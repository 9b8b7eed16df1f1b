package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestBodyOverMaxBody(t *testing.T) {
	const n = 5
	body := strings.Repeat("0123456789abcdef", 16<<10) // 256 KiB
	for name, length := range map[string]string{"with Content-Length": fmt.Sprint(len(body)), "without": ""} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, _ *visit) {
				w.Header().Set("Cache-Control", "max-age=3600")
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				_, _ = io.WriteString(w, body)
			})
			in := start(t, proxied("larder {\nmax_body 64KiB\nstatus full\n}"), g.origin)
			c := gather(t, in, n, http.MethodGet, "/", nil)
			parked(t, n)
			open(g.next(t, 1)...)
			if length != "" { // known at the header: not shared
				open(g.next(t, n-1)...)
			}
			for _, a := range c.all() {
				if a.err != nil || a.body != body {
					t.Errorf("%d bytes, %v", len(a.body), a.err)
				}
				if length != "" && (strings.Contains(a.cacheStatus(), "stored") || !strings.HasSuffix(a.cacheStatus(), "detail=too-large")) {
					t.Errorf("Cache-Status %q", a.cacheStatus())
				}
			}
			settled(t, in)
			if a := g.letThrough(t, in, "/"); a.body != body || strings.HasPrefix(a.cacheStatus(), "Larder; hit") {
				t.Errorf("afterwards: %d bytes, %q", len(a.body), a.cacheStatus())
			}
			if stats := in.stats(); stats.Memory.Entries != 0 {
				t.Errorf("%d entries are stored", stats.Memory.Entries)
			}
		})
	}
}

// windowed is the size of a body that goes through a window of 4 MiB, and is not stored.
const windowed = 64 << 20

func newWindowedGate(t *testing.T) *gate {
	t.Helper()
	block := strings.Repeat("0123456789abcdef", 4096)
	return newGate(t, func(w http.ResponseWriter, _ *visit) {
		w.Header().Set("Cache-Control", "max-age=3600")
		for range windowed / len(block) {
			if _, err := io.WriteString(w, block); err != nil {
				return
			}
		}
	})
}

// wantWindowed wants the whole for each reader, from one fetch, of which nothing is stored.
func wantWindowed(t *testing.T, in *instance, g *gate, readers *crowd) {
	t.Helper()
	for _, a := range readers.all() {
		if a.err != nil || len(a.body) != windowed {
			t.Errorf("%d bytes, %v", len(a.body), a.err)
		}
	}
	settled(t, in)
	g.noMore(t)
	if stats := in.stats(); stats.Memory.Entries != 0 {
		t.Errorf("%d entries are stored", stats.Memory.Entries)
	}
}

func TestWindow(t *testing.T) {
	g := newWindowedGate(t)
	in := start(t, proxied(block("max_body 1MiB")), g.origin)
	readers := gather(t, in, 2, http.MethodGet, "/", nil)
	parked(t, 2)
	open(g.next(t, 1)...)
	wantWindowed(t, in, g, readers)
}

// TestWindowDropsADeadReader: one that takes nothing is dropped after half a minute, and the others
// get the whole. That is waited for beside other tests, so this Caddy is a process of its own.
func TestWindowDropsADeadReader(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a dead reader is waited for 30 s")
	}
	g, c := newWindowedGate(t), newProcess(t)
	in := c.serve(proxied(block("max_body 1MiB")), g.origin)
	in.client.Timeout = 0 // how long that much takes is the machine's
	dead := in.dial()
	dead.send("GET / HTTP/1.1\r\nHost: " + c.site + "\r\n\r\n")
	readers := gather(t, in, 2, http.MethodGet, "/", nil)
	eventually(t, "all three wait for the fetch", func() bool { return c.goroutinesIn(waitingForAFetch) == 3 })
	open(g.next(t, 1)...)
	wantWindowed(t, in, g, readers)
	if whole, err := io.ReadAll(dead.r); err == nil && len(whole) >= windowed {
		t.Error("the dead reader had the whole all the same")
	}
	eventually(t, "the fetch is over", func() bool { return c.goroutinesIn(fetching)+c.goroutinesIn(waitingForAFetch) == 0 })
}

// A body that goes on past its Content-Length is no clean answer: as many bytes as were announced
// are not known to be the response.
func TestOverlongBody(t *testing.T) {
	whole := strings.Repeat("0123456789abcdef", 4096) // more than net/http keeps back
	for name, writes := range map[string][]string{
		"in one write":              {whole + " and more"},
		"after the announced bytes": {whole, " and more"},
	} {
		for how, status := range map[string]func(err error) error{
			"noticed":      func(err error) error { return err },
			"not noticed":  func(error) error { return nil },
			"by a panic":   func(error) error { panic(http.ErrAbortHandler) },
			"as an answer": func(err error) error { return caddyhttp.Error(http.StatusBadGateway, err) },
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				const n = 3
				read := make(chan struct{}) // all have had the announced bytes
				ts := newTurnstile(t, func(_ int, w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
					w.Header().Set("Cache-Control", "max-age=3600")
					w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
					var err error
					for i, p := range writes {
						if i > 0 {
							<-read
						}
						if _, e := io.WriteString(w, p); e != nil {
							err = e
						}
					}
					return status(err)
				})
				in := start(t, setup{site: "route {\nlarder\ntest_breaker\n}"}, nil)
				c := gather(t, in, n, http.MethodGet, "/", nil)
				parked(t, n)
				ts.let(t)
				// It breaks off before its first byte, so there is another fetch for those who
				// wait.
				if len(writes) == 1 {
					parked(t, n-1)
					ts.let(t)
				} else {
					eventually(t, "all have read", func() bool { return goroutinesIn(awaitingTheStore) == n })
					close(read)
				}
				c.clients.Wait()
				for i := range c.answers {
					if got := sketch(c.answers[i], c.errs[i]); got != "" && c.answers[i].StatusCode == http.StatusOK {
						t.Errorf("client %d got a clean answer of %d bytes", i, len(c.answers[i].body))
					}
				}
				settled(t, in)
				if st := in.stats(); st.Memory.Entries != 0 {
					t.Errorf("%d entries are stored", st.Memory.Entries)
				}
			})
		}
	}
}

// Clients that take their time with a body that has come whole cost no memory beside the store's,
// which is counted, whether they come early or late, and have the right bytes even when the
// response is purged meanwhile.
func TestSlowReadersOfAStoredBody(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the memory tier is on the heap")
	}
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	const size = 32 << 20 // far more than the kernel's socket buffers hold
	g := newGate(t, func(w http.ResponseWriter, _ *visit) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Content-Length", fmt.Sprint(size))
		for range size / len(block) {
			_, _ = w.Write(block)
		}
	})
	s := proxied(patientFlights)
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

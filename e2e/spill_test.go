package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Bodies that are larger than the memory budget: they go to disk while they arrive.

const largeBody = 20 << 20

// spilled is a site with 2 MiB of memory, in which a large body never fits, and 64 MiB of disk, in
// which it does.
func spilled(t *testing.T) setup {
	s := withDisk(t, "larder")
	s.options = "memory 2MiB\nmax_body 32MiB"
	return s
}

// largePart is a part of the large body: each eight bytes tell where they belong.
func largePart(off, n int64) []byte {
	b := make([]byte, 0, n+16)
	for at := off &^ 7; int64(len(b)) < n+8; at += 8 {
		b = binary.LittleEndian.AppendUint64(b, uint64(at)*0x9e3779b97f4a7c15)
	}
	return b[off&7:][:n]
}

func largeSum() string {
	sum := sha256.New()
	for off := int64(0); off < largeBody; off += 1 << 20 {
		sum.Write(largePart(off, 1<<20))
	}
	return string(sum.Sum(nil))
}

// TestPartsOfWhatHasNoPlace has a client seek in a film that max_body would let in, but that is
// more than half of the disk: what it asks for is fetched, not the whole each time.
func TestPartsOfWhatHasNoPlace(t *testing.T) {
	film := largePart(0, 4<<20)
	var sent atomic.Int64
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		if r.Header.Get("Range") != "bytes=0-4194303" { // the slice that was asked for to learn how long it is
			sent.Add(1)
		}
		http.ServeContent(w, r, "film.mp4", time.Time{}, bytes.NewReader(film))
	})
	s := withDisk(t, block("status full"))
	s.options, s.budget = "memory 1MiB", "4MiB"
	in := start(t, s, o)
	for i, want := range []string{"Larder; fwd=uri-miss; ", "Larder; fwd=miss; ", "Larder; fwd=miss; "} {
		from := (i + 1) << 20
		a := in.get("/film.mp4", "Range", fmt.Sprintf("bytes=%d-%d", from, from+99))
		a.want(t, 206, string(film[from:from+100]), "")
		if !strings.HasPrefix(a.cacheStatus(), want) || strings.Contains(a.cacheStatus(), "stored") {
			t.Errorf("Cache-Status %q, want %q and not stored", a.cacheStatus(), want)
		}
		if got := sent.Load(); got != int64(i+1) {
			t.Errorf("the origin was asked for %d parts, want %d", got, i+1)
		}
	}
}

// halves is an origin that sends half of the large body, and the rest when the test lets it.
type halves struct {
	*origin
	half, rest chan struct{}
	broken     bool // the rest never comes
}

func newHalves(t *testing.T, header ...string) *halves {
	t.Helper()
	h := &halves{half: make(chan struct{}, 100), rest: make(chan struct{})}
	h.origin = newQuietOrigin(t, nil)
	over := make(chan struct{})
	t.Cleanup(func() { close(over) }) // before the server is closed, which waits for its handlers
	h.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.seen = append(h.seen, r)
		h.mu.Unlock()
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Etag", `"large"`)
		w.Header().Set("Surrogate-Key", "large")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		for off := int64(0); off < largeBody; off += 100_000 {
			if off > largeBody/2 && off <= largeBody/2+100_000 {
				h.half <- struct{}{}
				select {
				case <-h.rest:
				case <-over:
				}
				if h.broken {
					panic(http.ErrAbortHandler)
				}
			}
			if _, err := w.Write(largePart(off, min(100_000, largeBody-off))); err != nil {
				return
			}
		}
	})
	return h
}

// reading is a download under way.
type reading struct {
	resp *http.Response
	sum  hash.Hash
	n    int64
}

// read begins a download.
func (in *instance) read(path string) *reading {
	in.t.Helper()
	resp, err := in.client.Get(in.url(path))
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() { resp.Body.Close() })
	return &reading{resp: resp, sum: sha256.New()}
}

// to reads up to offset off.
func (r *reading) to(t *testing.T, off int64) {
	t.Helper()
	n, err := io.CopyN(r.sum, r.resp.Body, off-r.n)
	if r.n += n; err != nil {
		t.Fatalf("at %d: %v", r.n, err)
	}
}

// toEnd reads the rest and fails the test if it is not the large body, or not answered as
// cacheStatus begins.
func (r *reading) toEnd(t *testing.T, cacheStatus string) {
	t.Helper()
	n, err := io.Copy(r.sum, r.resp.Body)
	if r.n += n; err != nil || r.n != largeBody || string(r.sum.Sum(nil)) != largeSum() {
		t.Errorf("%d bytes of %d, sum right %v, %v", r.n, int64(largeBody), string(r.sum.Sum(nil)) == largeSum(), err)
	}
	if got := r.resp.Header.Get("Cache-Status"); !strings.HasPrefix(got, cacheStatus) {
		t.Errorf("Cache-Status %q, want %q", got, cacheStatus)
	}
}

func TestBodyLargerThanMemoryIsStored(t *testing.T) {
	for name, header := range map[string][]string{
		"with Content-Length": {"Content-Length", fmt.Sprint(largeBody)},
		"without":             nil,
	} {
		t.Run(name, func(t *testing.T) {
			o := newHalves(t, header...)
			s := spilled(t)
			in := start(t, s, o.origin)
			fast := in.read("/")
			slow := in.read("/") // takes nothing more until all is over
			<-o.half
			fast.to(t, largeBody/2)
			late := in.read("/")
			late.to(t, 1<<20)
			if st := in.stats(); st.Memory.Bytes > st.Memory.Budget {
				t.Errorf("%d bytes of %d in memory", st.Memory.Bytes, st.Memory.Budget)
			}
			close(o.rest)
			fast.toEnd(t, "Larder; fwd=uri-miss; stored")
			late.toEnd(t, "Larder; fwd=uri-miss; fwd-status=200; collapsed")
			in.read("/").toEnd(t, "Larder; hit")
			slow.toEnd(t, "Larder; fwd=uri-miss; fwd-status=200; collapsed")
			in.checkLargeHit(t)
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			in.load(s, o.origin)
			in.checkLargeHit(t)
			o.asked(t, 1)
			if n := in.purge(`{"tags":["large"]}`); n != 1 {
				t.Errorf("a purge matched %d", n)
			}
			eventually(t, "the disk to be empty", func() bool { return in.stats().Disk.Bytes < 1<<20 })
		})
	}
}

// checkLargeHit asks for the stored large body in every way.
func (in *instance) checkLargeHit(t *testing.T) {
	t.Helper()
	in.read("/").toEnd(t, "Larder; hit")
	for _, off := range []int64{0, 262_000, largeBody/2 - 5, largeBody - 100} {
		part := in.get("/", "Range", fmt.Sprintf("bytes=%d-%d", off, off+99))
		if part.StatusCode != http.StatusPartialContent || part.body != string(largePart(off, 100)) {
			t.Errorf("100 bytes at %d: %d, %d bytes", off, part.StatusCode, len(part.body))
		}
	}
	if a := in.get("/", "If-None-Match", `"large"`); a.StatusCode != http.StatusNotModified {
		t.Errorf("If-None-Match: %d", a.StatusCode)
	}
	if a := in.do(http.MethodHead, "/", ""); a.StatusCode != http.StatusOK || a.Header.Get("Content-Length") != fmt.Sprint(largeBody) {
		t.Errorf("HEAD: %d, Content-Length %q", a.StatusCode, a.Header.Get("Content-Length"))
	}
}

// A range and a HEAD join a large body under way; the range has its bytes from what is on disk
// already.
func TestPartOfALargeBodyUnderWay(t *testing.T) {
	o := newHalves(t, "Content-Length", fmt.Sprint(largeBody))
	in := start(t, spilled(t), o.origin)
	whole := in.read("/")
	<-o.half
	for _, off := range []int64{0, 3 << 20, largeBody/2 - 200} {
		part := in.get("/", "Range", fmt.Sprintf("bytes=%d-%d", off, off+99))
		if part.StatusCode != http.StatusPartialContent || part.body != string(largePart(off, 100)) {
			t.Errorf("100 bytes at %d: %d, %d bytes", off, part.StatusCode, len(part.body))
		}
	}
	if a := in.do(http.MethodHead, "/", ""); a.Header.Get("Content-Length") != fmt.Sprint(largeBody) {
		t.Errorf("HEAD: Content-Length %q", a.Header.Get("Content-Length"))
	}
	close(o.rest)
	whole.toEnd(t, "Larder; fwd=uri-miss; stored")
	o.asked(t, 1)
}

func TestPurgeOfALargeBodyUnderWay(t *testing.T) {
	o := newHalves(t)
	s := spilled(t)
	s.options = "memory 12MiB\nmax_body 32MiB" // so that both fetches find room to begin
	in := start(t, s, o.origin)
	before := in.read("/")
	<-o.half
	in.purge(fmt.Sprintf(`{"urls":[%q]}`, in.url("/")))
	after := make(chan *reading)
	go func() { after <- in.read("/") }()
	<-o.half // a fetch of its own
	close(o.rest)
	before.toEnd(t, "Larder; fwd=uri-miss; stored")
	(<-after).toEnd(t, "Larder; fwd=uri-miss; stored")
	in.read("/").toEnd(t, "Larder; hit")
	o.asked(t, 2)
	settled(t, in)
	eventually(t, "one of the two to be swept", func() bool {
		st := in.stats()
		return st.Disk.Entries == 1 && st.Disk.Bytes < largeBody*3/2
	})
}

func TestReloadDuringALargeBody(t *testing.T) {
	o := newHalves(t)
	s := spilled(t)
	in := start(t, s, o.origin)
	old := in.read("/")
	<-o.half
	s.options = "memory 3MiB\nmax_body 32MiB\neviction lfu"
	in.load(s, o.origin)
	joined := in.read("/")
	joined.to(t, 1<<20)
	close(o.rest)
	old.toEnd(t, "Larder; fwd=uri-miss; stored")
	joined.toEnd(t, "Larder; fwd=uri-miss; fwd-status=200; collapsed")
	in.read("/").toEnd(t, "Larder; hit")
	o.asked(t, 1)
}

// A large body that breaks off is broken for everybody, also for those who read it from the disk,
// and leaves nothing there.
func TestLargeBodyThatBreaksOff(t *testing.T) {
	o := newHalves(t)
	o.broken = true
	in := start(t, spilled(t), o.origin)
	readers := []*reading{in.read("/"), in.read("/")}
	<-o.half
	readers = append(readers, in.read("/"))
	close(o.rest)
	for i, r := range readers {
		body, err := io.ReadAll(r.resp.Body)
		if err == nil || errors.Is(err, io.EOF) || int64(len(body)) > largeBody/2+200_000 {
			t.Errorf("reader %d: %d bytes, %v", i, len(body), err)
		}
		if !bytes.HasPrefix(largePart(0, largeBody), body) {
			t.Errorf("reader %d: wrong bytes", i)
		}
	}
	settled(t, in)
	eventually(t, "the disk to be empty", func() bool {
		st := in.stats()
		return st.Disk.Entries == 0 && st.Disk.Bytes < 1<<20
	})
}

const downloadSize = 1 << 30

var downloadPart = bytes.Repeat([]byte("0123456789abcdef"), 4096)

func writeDownload(w io.Writer) {
	for range downloadSize / len(downloadPart) {
		if _, err := w.Write(downloadPart); err != nil {
			return
		}
	}
}

// readDownload reads what writeDownload writes, and looks around sixteen times on the way.
func readDownload(t *testing.T, resp *http.Response, look func()) {
	t.Helper()
	defer resp.Body.Close()
	buf, got := make([]byte, len(downloadPart)), 0
	for ; ; got += len(buf) {
		_, err := io.ReadFull(resp.Body, buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || !bytes.Equal(buf, downloadPart) {
			t.Fatalf("%s: wrong bytes at %d: %v", resp.Request.URL.Path, got, err)
		}
		if got%(downloadSize/16) == 0 {
			look()
		}
	}
	if got != downloadSize {
		t.Errorf("%s: %d bytes", resp.Request.URL.Path, got)
	}
}

// TestDownloadLargerThanMemory passes 1 GiB, with and without Content-Length, through a cache of 64
// MiB: whole, and never with more in memory than the budget.
func TestDownloadLargerThanMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 2 GiB over loopback")
	}
	o := newQuietOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		if r.URL.Path == "/known" {
			w.Header().Set("Content-Length", fmt.Sprint(downloadSize))
		}
		writeDownload(w)
	})
	s := proxied("larder")
	s.options = "memory 64MiB"
	in := start(t, s, o)
	in.client.Timeout = 0 // how long that much takes is the machine's
	var before, peak runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, path := range []string{"/known", "/unknown"} {
		resp, err := in.client.Get(in.url(path))
		if err != nil {
			t.Fatal(err)
		}
		readDownload(t, resp, func() {
			if st := in.stats(); st.Memory.Bytes > st.Memory.Budget {
				t.Errorf("%s: %d bytes of %d in memory", path, st.Memory.Bytes, st.Memory.Budget)
			}
			runtime.ReadMemStats(&peak)
			if peak.HeapInuse > before.HeapInuse+192<<20 {
				t.Errorf("%s: %d MiB of heap, %d before", path, peak.HeapInuse>>20, before.HeapInuse>>20)
			}
		})
	}
	if st := in.stats(); st.Memory.Entries != 0 {
		t.Errorf("%d responses are stored", st.Memory.Entries)
	}
}

// TestDownloadLargerThanMemoryIsStored stores 1 GiB through a memory budget of 64 MiB, and serves
// it from disk.
func TestDownloadLargerThanMemoryIsStored(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 1 GiB to disk")
	}
	o := newQuietOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		writeDownload(w)
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
		var heap uint64
		readDownload(t, resp, func() {
			runtime.ReadMemStats(&now)
			heap = max(heap, now.HeapInuse)
			if st := in.stats(); st.Memory.Bytes > 8<<20 {
				t.Errorf("%d bytes are in memory", st.Memory.Bytes)
			}
		})
		if heap > before.HeapInuse+64<<20 {
			t.Errorf("%d MiB of heap, %d before", heap>>20, before.HeapInuse>>20)
		}
		t.Logf("%s: %d MiB of heap at the most, %d before", want, heap>>20, before.HeapInuse>>20)
	}
}

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

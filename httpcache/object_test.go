package httpcache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

// film is an origin of one large file, which answers in parts. It notes what it was asked for.
type film struct {
	mu      sync.Mutex
	version int
	begun   time.Time
	content []byte
	asked   []string
	alter   func(w http.ResponseWriter, r *http.Request) bool // may answer in its place
}

// newFilm returns a film of a length, whose bytes are random by seed.
func newFilm(seed uint64, length int) *film {
	f := &film{version: 1, begun: time.Now()}
	f.content = filmBytes(seed, length)
	return f
}

func filmBytes(seed uint64, length int) []byte {
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	content := make([]byte, length)
	_, _ = random.Read(content)
	return content
}

// change makes the film another version.
func (f *film) change(content []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	f.content = content
}

func (f *film) serve(w http.ResponseWriter, r *http.Request) error {
	f.mu.Lock()
	f.asked = append(f.asked, strings.TrimSpace(r.Header.Get("Range")+" "+r.Header.Get("If-None-Match")))
	content, version, alter := f.content, f.version, f.alter
	f.mu.Unlock()
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("Content-Type", "video/mp4")
	w.Header().Set("Etag", fmt.Sprintf(`"v%d"`, version))
	if alter != nil && alter(w, r) {
		return nil
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	return nil
}

// take returns what the origin was asked for since the last call.
func (f *film) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = nil
	return asked
}

// newSlicing returns a handler whose slices have a hundred bytes.
func newSlicing(tb testing.TB) *testHandler {
	tb.Helper()
	return newSlicingWith(tb, store.Config{}, store.Settings{Memory: 64 << 20})
}

func newSlicingWith(tb testing.TB, config store.Config, settings store.Settings) *testHandler {
	tb.Helper()
	h := newTestHandlerWith(tb, config, settings)
	h.Slice = 100
	return h
}

// get asks for the film with header fields given as pairs. method may stand in front.
func (f *film) get(tb testing.TB, h *testHandler, header ...string) *httptest.ResponseRecorder {
	tb.Helper()
	w := httptest.NewRecorder()
	r := newTestRequest(w)
	if len(header)%2 == 1 {
		r.Method, header = header[0], header[1:]
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if err := h.ServeHTTP(w, r, f.serve); err != nil {
		tb.Error(err)
	}
	for h.cache.Fetches() > 0 { // the slice has come whole, and is stored
		runtime.Gosched()
	}
	return w
}

// status is the Cache-Status of an answer. A hit that a busy machine has left a while is told as
// one at once.
func (f *film) status(w *httptest.ResponseRecorder) string {
	got := w.Header().Get("Cache-Status")
	ttl, isHit := strings.CutPrefix(got, "Larder; hit; ttl=")
	left, err := strconv.Atoi(ttl)
	if since := int(time.Since(f.begun)/time.Second) + 1; isHit && err == nil && left < 60 && left >= 60-since {
		return hit
	}
	return got
}

// want compares an answer.
func (f *film) want(tb testing.TB, w *httptest.ResponseRecorder, status int, from, to int, cacheStatus string) {
	tb.Helper()
	if got := f.status(w); w.Code != status || got != cacheStatus {
		tb.Errorf("%d, %s; want %d, %s", w.Code, got, status, cacheStatus)
	}
	if want := f.content[from:to]; !bytes.Equal(w.Body.Bytes(), want) {
		tb.Errorf("%d bytes are not bytes %d to %d", w.Body.Len(), from, to)
	}
	if got, want := w.Header().Get("Content-Length"), fmt.Sprint(to-from); got != want {
		tb.Errorf("Content-Length %s, want %s", got, want)
	}
	if got, want := w.Header().Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(f.content)); status == http.StatusPartialContent && got != want {
		tb.Errorf("Content-Range %q, want %q", got, want)
	}
	if got, want := w.Header().Get("Etag"), fmt.Sprintf(`"v%d"`, f.version); got != want {
		tb.Errorf("ETag %s, want %s", got, want)
	}
}

// wantHit asks for the film and compares the answer with some of its bytes. It has to be a hit,
// however long the test has taken by then.
func (f *film) wantHit(tb testing.TB, h *testHandler, from, to int, header ...string) {
	tb.Helper()
	w := f.get(tb, h, header...)
	if got := w.Header().Get("Cache-Status"); !strings.HasPrefix(got, "Larder; hit;") || !bytes.Equal(w.Body.Bytes(), f.content[from:to]) {
		tb.Errorf("%d, %s, %d bytes", w.Code, got, w.Body.Len())
	}
}

// wantAsked compares what the origin was asked for, in whatever order.
func (f *film) wantAsked(tb testing.TB, want ...string) {
	tb.Helper()
	got := f.take()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		tb.Errorf("the origin was asked for %q, want %q", got, want)
	}
}

const (
	partly = "Larder; fwd=partial; stored"
	cold   = "Larder; fwd=uri-miss; stored"
	hit    = "Larder; hit; ttl=60"
)

func TestColdRangeFetchesItsSlice(t *testing.T) {
	h, f := newSlicing(t), newFilm(1, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=510-519"), 206, 510, 520, cold)
	f.wantAsked(t, "bytes=500-599")
	f.want(t, f.get(t, h, "Range", "bytes=500-599"), 206, 500, 600, hit)
	f.wantAsked(t)
	f.want(t, f.get(t, h, "Range", "bytes=590-609"), 206, 590, 610, "Larder; fwd=partial")
	f.wantAsked(t, "bytes=600-699")
	f.want(t, f.get(t, h, "Range", "bytes=590-609"), 206, 590, 610, hit)
	f.want(t, f.get(t, h, "Range", "bytes=930-"), 206, 930, 1000, partly)
	f.wantAsked(t, "bytes=900-999")
}

func TestSuffixOfSomethingCold(t *testing.T) {
	h, f := newSlicing(t), newFilm(2, 1050)
	f.want(t, f.get(t, h, "Range", "bytes=-20"), 206, 1030, 1050, cold)
	f.wantAsked(t, "bytes=-100")
	f.want(t, f.get(t, h, "Range", "bytes=1000-1049"), 206, 1000, 1050, hit)
	f.wantAsked(t)
	f.want(t, f.get(t, h, "Range", "bytes=-120"), 206, 930, 1050, partly)
	f.wantAsked(t, "bytes=900-999")
}

// All forms of requests are answered from slices, and what is missing is fetched once.
func TestWholeFromSlices(t *testing.T) {
	h, f := newSlicing(t), newFilm(3, 450)
	f.want(t, f.get(t, h, "Range", "bytes=210-219"), 206, 210, 220, cold)
	f.take()
	f.want(t, f.get(t, h), 200, 0, 450, "Larder; fwd=partial; fwd-status=206; stored")
	f.wantAsked(t, "bytes=0-99", "bytes=100-199", "bytes=300-399", "bytes=400-449")
	f.want(t, f.get(t, h), 200, 0, 450, hit)
	f.want(t, f.get(t, h, "Range", "bytes=0-"), 206, 0, 450, hit)
	head := f.get(t, h, http.MethodHead)
	if head.Code != 200 || head.Header().Get("Content-Length") != "450" || f.status(head) != hit || head.Body.Len() > 0 {
		t.Errorf("HEAD: %d %v", head.Code, head.Header())
	}
	if w := f.get(t, h, "Range", "bytes=450-"); w.Code != 416 || w.Header().Get("Content-Range") != "bytes */450" {
		t.Errorf("a range behind the end: %d %v", w.Code, w.Header())
	}
	if w := f.get(t, h, "If-None-Match", `"v1"`); w.Code != 304 || f.status(w) != hit {
		t.Errorf("a conditional request: %d %v", w.Code, w.Header())
	}
	f.want(t, f.get(t, h, "Range", "bytes=5-9", "If-Range", `"v1"`), 206, 5, 10, hit)
	f.want(t, f.get(t, h, "Range", "bytes=5-9", "If-Range", `"v0"`), 200, 0, 450, hit)
	f.wantAsked(t)
}

func TestSeveralRangesFromSlices(t *testing.T) {
	h, f := newSlicing(t), newFilm(4, 1000)
	w := f.get(t, h, "Range", "bytes=310-319, 690-709, -10")
	f.wantAsked(t, "bytes=300-399", "bytes=600-699", "bytes=700-799", "bytes=900-999")
	again := f.get(t, h, "Range", "bytes=310-319, 690-709, -10")
	f.wantAsked(t)
	if got := w.Header().Get("Cache-Status"); got != cold {
		t.Error(got)
	}
	if got := f.status(again); got != hit {
		t.Error(got)
	}
	for _, w := range []*httptest.ResponseRecorder{w, again} {
		if w.Code != 206 || !strings.HasPrefix(w.Header().Get("Content-Type"), "multipart/byteranges; boundary=") ||
			w.Header().Get("Content-Length") != fmt.Sprint(w.Body.Len()) {
			t.Errorf("%d %v, %d bytes", w.Code, w.Header(), w.Body.Len())
		}
		for _, part := range [][2]int{{310, 320}, {690, 710}, {990, 1000}} {
			field := fmt.Sprintf("Content-Range: bytes %d-%d/1000\r\n", part[0], part[1]-1)
			if !strings.Contains(w.Body.String(), field) || !bytes.Contains(w.Body.Bytes(), f.content[part[0]:part[1]]) {
				t.Errorf("bytes %v are missing", part)
			}
		}
	}
}

// A file of up to one slice comes whole with its first slice, and is stored as the whole.
func TestSmallFileIsStoredWhole(t *testing.T) {
	for _, asked := range []string{"bytes=10-19", "bytes=-80"} {
		h, f := newSlicing(t), newFilm(5, 90)
		from, to := 10, 20
		if asked == "bytes=-80" {
			to = 90
		}
		f.want(t, f.get(t, h, "Range", asked), 206, from, to, "Larder; fwd=uri-miss; fwd-status=200; stored")
		f.want(t, f.get(t, h), 200, 0, 90, hit)
		if got := f.take(); len(got) != 1 {
			t.Errorf("the origin was asked for %q", got)
		}
	}
}

// What cannot be stored in slices is fetched whole, as without slices, and then at once.
func TestWhatCannotBeCutIsFetchedWhole(t *testing.T) {
	answer := func(change func(h http.Header)) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") == "" {
				return false
			}
			w.Header().Set("Content-Range", "bytes 500-599/1000")
			change(w.Header())
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(make([]byte, 100))
			return true
		}
	}
	for name, change := range map[string]func(http.Header){
		"no validator":    func(h http.Header) { h.Del("Etag") },
		"a weak one":      func(h http.Header) { h.Set("Etag", `W/"v1"`) },
		"another part":    func(h http.Header) { h.Set("Content-Range", "bytes 400-499/1000") },
		"a shorter part":  func(h http.Header) { h.Set("Content-Range", "bytes 500-598/1000") },
		"no total":        func(h http.Header) { h.Set("Content-Range", "bytes 500-599/*") },
		"no part":         func(h http.Header) { h.Del("Content-Range") },
		"nonsense":        func(h http.Header) { h.Set("Content-Range", "bytes 599-500/1000") },
		"another length":  func(h http.Header) { h.Set("Content-Length", "99") },
		"several parts":   func(h http.Header) { h.Del("Content-Range"); h.Set("Content-Type", "multipart/byteranges; boundary=x") },
		"the whole range": func(h http.Header) { h.Set("Content-Range", "bytes 0-999/1000") },
		"what is text":    func(h http.Header) { h.Set("Content-Type", "text/csv") },
	} {
		t.Run(name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(6, 1000)
			var l ledger
			h.cache.metrics = &l
			f.alter = answer(change)
			f.want(t, f.get(t, h, "Range", "bytes=510-519"), 206, 510, 520, "Larder; fwd=uri-miss; fwd-status=200; stored")
			f.wantAsked(t, "bytes=500-599", "")
			if lines := l.take(h); !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, "slice: ok") }) {
				t.Errorf("what the fetch breaks off itself says nothing of the origin: %q", lines)
			}
			f.want(t, f.get(t, h, "Range", "bytes=10-19"), 206, 10, 20, hit)
			f.wantAsked(t)
		})
	}
}

// An origin that does not answer in parts fills the whole, with one request.
func TestOriginThatIgnoresRange(t *testing.T) {
	h, f := newSlicing(t), newFilm(7, 1000)
	f.alter = func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		return false
	}
	f.want(t, f.get(t, h, "Range", "bytes=510-519"), 206, 510, 520, "Larder; fwd=uri-miss; fwd-status=200; stored")
	f.wantAsked(t, "bytes=500-599")
	f.want(t, f.get(t, h), 200, 0, 1000, hit)
}

// What may not be stored, or is too large, is passed on with the client's own Range.
func TestRangeOfWhatMayNotBeStored(t *testing.T) {
	for name, change := range map[string]func(h *testHandler, header http.Header){
		"no-store":  func(_ *testHandler, header http.Header) { header.Set("Cache-Control", "no-store") },
		"too large": func(h *testHandler, _ http.Header) { h.MaxBody = 999 },
	} {
		t.Run(name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(8, 1000)
			change(h, http.Header{})
			f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
				change(h, w.Header())
				return false
			}
			f.want(t, f.get(t, h, "Range", "bytes=510-519"), 206, 510, 520, "Larder; fwd=uri-miss")
			f.wantAsked(t, "bytes=500-599", "bytes=510-519")
			f.want(t, f.get(t, h, "Range", "bytes=510-519"), 206, 510, 520, "Larder; fwd=miss")
			f.wantAsked(t, "bytes=510-519")
		})
	}
}

func TestRangeBehindTheEndOfSomethingCold(t *testing.T) {
	h, f := newSlicing(t), newFilm(9, 1000)
	if w := f.get(t, h, "Range", "bytes=2000-"); w.Code != 416 || w.Header().Get("Content-Range") != "bytes */1000" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	f.wantAsked(t, "bytes=2000-2099", "bytes=2000-")
	f.want(t, f.get(t, h, "Range", "bytes=510-519"), 206, 510, 520, cold)
}

// After a restart the slices are there, those on disk.
func TestSlicesSurviveARestart(t *testing.T) {
	config, settings := store.Config{Path: t.TempDir(), Required: true}, store.Settings{Memory: 16 << 20, Disk: 64 << 20}
	f := newFilm(10, 300<<10)
	t.Run("before", func(t *testing.T) {
		h := newSlicingWith(t, config, settings)
		h.Slice = 100 << 10
		f.want(t, f.get(t, h, "Range", "bytes=150000-160000"), 206, 150000, 160001, cold)
	})
	f.take()
	h := newSlicingWith(t, config, settings)
	h.Slice = 100 << 10
	f.want(t, f.get(t, h, "Range", "bytes=150000-160000"), 206, 150000, 160001, hit)
	f.wantAsked(t)
	f.want(t, f.get(t, h), 200, 0, 300<<10, "Larder; fwd=partial; fwd-status=206; stored")
	f.wantAsked(t, "bytes=0-102399", "bytes=204800-307199")
}

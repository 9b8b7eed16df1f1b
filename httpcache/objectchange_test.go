package httpcache

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

// changing is an origin whose file changes at any moment. Each version has a length of its own.
type changing struct {
	seed    uint64
	version atomic.Uint64
	fails   atomic.Bool
}

func (c *changing) content(version uint64) []byte {
	return filmBytes(c.seed+version, 700+int((c.seed+version*7919)%900))
}

func (c *changing) serve(w http.ResponseWriter, r *http.Request) error {
	if c.fails.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return nil
	}
	version := c.version.Load()
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("Content-Type", "video/mp4")
	w.Header().Set("Etag", fmt.Sprintf(`"%d"`, version))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(c.content(version)))
	return nil
}

// check compares an answer, which may have broken off, with the one version that it says to be of.
// It returns that version, 0 for an answer that is of none.
func (c *changing) check(t *testing.T, w *httptest.ResponseRecorder, broke bool) uint64 {
	t.Helper()
	var version uint64
	if w.Code == http.StatusServiceUnavailable || w.Code == http.StatusBadGateway || broke && w.Header().Get("Etag") == "" {
		return 0
	}
	if w.Code == http.StatusRequestedRangeNotSatisfiable {
		return 0
	}
	if _, err := fmt.Sscanf(w.Header().Get("Etag"), `"%d"`, &version); err != nil {
		t.Errorf("%d without a version: %v", w.Code, w.Header())
		return 0
	}
	want := c.content(version)
	if w.Code == http.StatusPartialContent {
		var first, last, total int
		if _, err := fmt.Sscanf(w.Header().Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total); err != nil || total != len(want) {
			t.Errorf("version %d has %d bytes, and Content-Range is %q", version, len(want), w.Header().Get("Content-Range"))
			return version
		}
		want = want[first : last+1]
	}
	got := w.Body.Bytes()
	if len(got) > len(want) || !bytes.Equal(got, want[:len(got)]) || !broke && len(got) < len(want) {
		t.Errorf("%d, %s: %d bytes, broken off: %t; they are not those of version %d, which has %d",
			w.Code, w.Header().Get("Cache-Status"), len(got), broke, version, len(want))
	}
	return version
}

// ask asks for some part, and reports whether the answer broke off.
func (c *changing) ask(t *testing.T, h *testHandler, asked string) (w *httptest.ResponseRecorder, broke bool) {
	t.Helper()
	w = httptest.NewRecorder()
	r := newTestRequest(w)
	if asked != "" {
		r.Header.Set("Range", asked)
	}
	defer func() {
		if p := recover(); p != nil {
			if !isAbort(p) {
				panic(p)
			}
			broke = true
		}
	}()
	if err := h.ServeHTTP(w, r, c.serve); err != nil {
		w.Code = statusOf(err)
	}
	return w, false
}

// isAbort reports whether a panic breaks off an answer.
func isAbort(p any) bool {
	err, ok := p.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

func anyRange(random *rand.Rand) string {
	switch n := random.IntN(1200); random.IntN(5) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("bytes=-%d", 1+n/2)
	case 2:
		return fmt.Sprintf("bytes=%d-", n)
	default:
		return fmt.Sprintf("bytes=%d-%d", n, n+random.IntN(500))
	}
}

// While the origin changes, fails and is purged at random moments, no answer mixes two versions,
// and none is of a version from before a purge that had returned when its request came.
func TestObjectThatChanges(t *testing.T) {
	for _, where := range []string{"in memory", "on disk", "in memory, stale at once"} {
		t.Run(where, func(t *testing.T) {
			config, settings := store.Config{}, store.Settings{Memory: 16 << 20}
			if where == "on disk" {
				config, settings.Disk = store.Config{Path: t.TempDir(), Required: true}, 64<<20
			}
			h := newSlicingWith(t, config, settings)
			if strings.HasSuffix(where, "stale at once") {
				h.Policy.MaxTTL = time.Nanosecond
			}
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			c := &changing{seed: seed % 10_000}
			c.version.Store(1)
			var purged atomic.Uint64 // the version at the last purge that has returned
			var readers sync.WaitGroup
			for n := range uint64(6) {
				readers.Go(func() {
					random := rand.New(rand.NewPCG(seed, n))
					for range 150 {
						atLeast := purged.Load()
						w, broke := c.ask(t, h, anyRange(random))
						if version := c.check(t, w, broke); version != 0 && version < atLeast {
							t.Errorf("version %d is answered, after a purge of %d", version, atLeast)
						}
						switch random.IntN(30) {
						case 0:
							c.version.Add(1)
						case 1:
							c.fails.Store(random.IntN(3) == 0)
						case 2:
							version := c.version.Load()
							if _, err := h.cache.store.Purge(store.Selectors{All: true}, store.PurgeOptions{}); err != nil {
								t.Error(err)
							}
							for before := purged.Load(); before < version && !purged.CompareAndSwap(before, version); before = purged.Load() {
							}
						}
					}
				})
			}
			readers.Wait()
		})
	}
}

// The object goes when a slice shows that the origin has another version. Who has begun to read the
// old one has what was stored of it, and the connection breaks.
func TestAnswerBreaksOffWhenTheObjectChanges(t *testing.T) {
	h, f := newSlicing(t), newFilm(11, 1000)
	old := f.content
	f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, cold)
	f.change(filmBytes(12, 1100))
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if p := recover(); !isAbort(p) {
				t.Errorf("the answer ended with %v", p)
			}
		}()
		r := newTestRequest(w)
		_ = h.ServeHTTP(w, r, f.serve)
	}()
	if !bytes.Equal(w.Body.Bytes(), old[:100]) {
		t.Errorf("%d bytes came, want the first slice of the old version", w.Body.Len())
	}
	f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, cold)
	f.take()
	f.change(filmBytes(13, 1200)) // another length, and the first slice that is asked for tells
	f.want(t, f.get(t, h, "Range", "bytes=300-309"), 206, 300, 310, cold)
	f.wantAsked(t, "bytes=300-399", "bytes=300-399")
	if got := h.cache.store.Stats().Memory.Entries; got != 1 {
		t.Errorf("%d objects are stored, want 1", got)
	}
}

// A slice of another coding or type is of another version, whatever its ETag says.
func TestSliceOfAnotherCoding(t *testing.T) {
	for name, values := range map[string][2]string{
		"Content-Encoding": {"gzip", ""},
		"Content-Type":     {"video/mp4", "video/webm"},
	} {
		h, f := newSlicing(t), newFilm(18, 1000)
		f.alter = func(w http.ResponseWriter, r *http.Request) bool {
			value := values[0]
			if r.Header.Get("Range") == "bytes=200-299" {
				value = values[1]
			}
			if w.Header().Del(name); value != "" {
				w.Header().Set(name, value)
			}
			return false
		}
		f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
		w := f.get(t, h, "Range", "bytes=210-219")
		if f.want(t, w, 206, 210, 220, cold); w.Header().Get(name) != values[1] {
			t.Errorf("%s: %q, want the slice's own, %q", name, w.Header().Get(name), values[1])
		}
	}
}

// A purge takes the object in mid-answer: who reads it may end, and the next one gets nothing of
// it.
func TestPurgeInMidObject(t *testing.T) {
	h, f := newSlicing(t), newFilm(14, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, cold)
	f.take()
	f.alter = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") == "bytes=500-599" {
			if matched, err := h.cache.store.Purge(store.Selectors{Prefixes: []string{"http://example.com/"}}, store.PurgeOptions{}); err != nil || matched != 1 {
				t.Errorf("%d purged, %v; want the object, once", matched, err)
			}
		}
		return false
	}
	f.want(t, f.get(t, h), 200, 0, 1000, "Larder; fwd=partial; fwd-status=206")
	f.alter = nil
	f.take()
	f.want(t, f.get(t, h, "Range", "bytes=550-559"), 206, 550, 560, cold)
	f.wantAsked(t, "bytes=500-599")
	f.want(t, f.get(t, h, "Range", "bytes=950-959"), 206, 950, 960, partly)
	f.wantAsked(t, "bytes=900-999")
}

// A 304 renews the head, and the slices stay. One that changes nothing but its lifetime costs no
// byte of the file.
func TestStaleObjectIsValidated(t *testing.T) {
	h, f := newSlicing(t), newFilm(15, 1000)
	h.Policy.MaxTTL = time.Nanosecond
	f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, cold)
	f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, "Larder; fwd=stale; fwd-status=304; stored")
	f.wantAsked(t, "bytes=0-99", `bytes=0-99 "v1"`)
	f.want(t, f.get(t, h, "Range", "bytes=290-309"), 206, 290, 310, "Larder; fwd=stale; fwd-status=304; stored")
	f.wantAsked(t, `bytes=200-299 "v1"`, "bytes=200-299", "bytes=300-399")
	f.change(filmBytes(16, 900))
	f.want(t, f.get(t, h, "Range", "bytes=290-309"), 206, 290, 310, "Larder; fwd=stale; stored")
	f.wantAsked(t, `bytes=200-299 "v1"`, "bytes=300-399")
	f.want(t, f.get(t, h), 200, 0, 900, "Larder; fwd=stale; fwd-status=304; stored")
}

// A part that comes in place of a 304, with the validator and the length of what is stored, is
// combined with that (RFC 9111 3.4). One of another length is not.
func TestPartIsCombinedWithWhatIsStored(t *testing.T) {
	h, f := newSlicing(t), newFilm(18, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, cold)
	f.alter = func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("If-None-Match")
		return false
	}
	f.want(t, f.get(t, h, "Range", "bytes=210-219", "Cache-Control", "no-cache"), 206, 210, 220, "Larder; fwd=request; stored")
	f.wantAsked(t, "bytes=0-99", `bytes=200-299 "v1"`)
	f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, hit)
	f.want(t, f.get(t, h, "Range", "bytes=210-219"), 206, 210, 220, hit)
	f.wantAsked(t)
	f.content = f.content[:900]
	f.want(t, f.get(t, h, "Range", "bytes=210-219", "Cache-Control", "no-cache"), 206, 210, 220, "Larder; fwd=request; stored")
	f.take()
	f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, partly)
	f.wantAsked(t, "bytes=0-99")
}

// Eight readers of a cold file have each byte fetched once.
func TestParallelReadersFetchEachByteOnce(t *testing.T) {
	h, f := newSlicing(t), newFilm(17, 1600)
	var readers sync.WaitGroup
	for n := range 8 {
		readers.Go(func() {
			from := n * 200
			w := f.get(t, h, "Range", fmt.Sprintf("bytes=%d-%d", from, from+199))
			if !bytes.Equal(w.Body.Bytes(), f.content[from:from+200]) {
				t.Errorf("bytes %d to %d are wrong", from, from+200)
			}
		})
		readers.Go(func() {
			if w := f.get(t, h, "Range", "bytes=0-"); !bytes.Equal(w.Body.Bytes(), f.content) {
				t.Errorf("%d bytes are not the whole", w.Body.Len())
			}
		})
	}
	readers.Wait()
	seen := map[string]bool{}
	for _, asked := range f.take() {
		if seen[asked] {
			t.Errorf("the origin was asked twice for %s", asked)
		}
		seen[asked] = true
	}
	if len(seen) != 16 {
		t.Errorf("%d slices were fetched, want 16", len(seen))
	}
}

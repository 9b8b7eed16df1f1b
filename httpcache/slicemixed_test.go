package httpcache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// mixed is an origin whose machines give one file validators of their own.
type mixed struct {
	content []byte
	node    func() int // the machine that the next request comes to
	mu      sync.Mutex
	whole   int // how often it was asked for the whole
}

func (m *mixed) serve(w http.ResponseWriter, r *http.Request) error {
	m.mu.Lock()
	node := m.node()
	if r.Header.Get("Range") == "" {
		m.whole++
	}
	m.mu.Unlock()
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("Content-Type", "video/mp4")
	w.Header().Set("Etag", fmt.Sprintf(`"node%d"`, node))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(m.content))
	return nil
}

// get reports whether an answer to a request with these fields came to its end, and is the part of
// the file that it should be.
func (m *mixed) get(h *testHandler, from, to int, header ...string) (is bool) {
	defer func() {
		if p := recover(); p != nil && !isAbort(p) {
			panic(p)
		}
	}()
	w := httptest.NewRecorder()
	err := h.ServeHTTP(w, newTestRequest(w, header...), m.serve)
	return err == nil && bytes.Equal(w.Body.Bytes(), m.content[from:to])
}

// Clients get the file whole, whatever parts others ask for, from the second on: the first one may
// be in the middle of it when a second validator comes.
func TestFileOfMachinesWithTheirOwnValidators(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for name, provoke := range map[string][]string{
		"one byte":            {"Range", "bytes=0-0"},
		"and no-cache":        {"Range", "bytes=0-0", "Cache-Control", "no-cache"},
		"one from the middle": {"Range", "bytes=500-500", "Cache-Control", "no-cache"},
	} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			for round := range 20 {
				h := newSlicing(t)
				m := &mixed{content: filmBytes(90, 1000), node: func() int { return random.IntN(2) }}
				whole := func(header ...string) bool { return m.get(h, 0, 1000, header...) }
				broken, mixedAt := 0, -1
				for i := range 10 {
					_ = m.get(h, 0, 0, provoke...)
					ok := whole()
					if !ok {
						broken++
					}
					part := m.get(h, 150, 850, "Range", "bytes=150-849")
					if !part {
						broken++
					}
					if broken > 1 || mixedAt >= 0 && i > mixedAt && (!ok || !part) {
						t.Fatalf("round %d, client %d: whole %t, part %t, after %d that broke off", round, i, ok, part, broken)
					}
					if mixedAt < 0 && (!ok || !part) {
						mixedAt = i
					}
				}
			}
		})
	}
}

// A GET without Range that meets the second validator before its header has gone out gets the
// whole. So does one that finds the slices of a file of which that is known.
func TestWholeAfterASecondValidator(t *testing.T) {
	h := newSlicing(t)
	node := 0
	m := &mixed{content: filmBytes(91, 1000), node: func() int { return node }}
	if !m.get(h, 510, 520, "Range", "bytes=510-519") {
		t.Fatal("no part")
	}
	node = 1
	if !m.get(h, 0, 1000) || m.whole != 1 {
		t.Errorf("the first is not whole, or the origin was asked for the whole %d times", m.whole)
	}
	if !m.get(h, 0, 1000) || !m.get(h, 700, 710, "Range", "bytes=700-709", "Cache-Control", "no-cache") || !m.get(h, 0, 1000) {
		t.Error("what comes later is not whole")
	}
}

// An answer that has begun goes on with the slices of a machine that has the version it is of.
func TestAnswerGoesOnWithTheMachineThatHasItsVersion(t *testing.T) {
	h := newSlicing(t)
	calls := 0
	m := &mixed{content: filmBytes(92, 250)}
	nodes := []int{0, 1, 0, 1, 0}
	m.node = func() int { calls++; return nodes[min(calls, len(nodes))-1] }
	if !m.get(h, 0, 1, "Range", "bytes=0-0") || !m.get(h, 0, 250) {
		t.Errorf("it broke off, after %d requests to the origin", calls)
	}
}

// A file that has changed is one of slices again.
func TestChangedFileIsSlicedAgain(t *testing.T) {
	h, f := newSlicing(t), newFilm(93, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=510-519"), 206, 510, 520, cold)
	f.change(filmBytes(94, 1100))
	_ = f.get(t, h, "Range", "bytes=610-619")
	f.take()
	_ = f.get(t, h, "Range", "bytes=810-819")
	f.wantAsked(t, "bytes=800-899")
}

package httpcache

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// dribbler is an origin of which some answers come slowly, and all others at once.
type dribbler struct {
	h        *testHandler
	header   []string
	size     int
	announce bool // the length
	fast     int  // so many answers come first
	first    int  // so many are slow after that
	burst    int  // of bytes, that they begin with
	piece    int  // of bytes, one each gap
	gap      time.Duration

	mu           sync.Mutex
	asked, under int
	longest      time.Duration
	clients      sync.WaitGroup
}

// ServeHTTP implements handlerFunc.
func (o *dribbler) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	o.mu.Lock()
	number := o.asked
	o.asked++
	o.under++
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		o.under--
		o.mu.Unlock()
	}()
	for i := 0; i < len(o.header); i += 2 {
		w.Header().Set(o.header[i], o.header[i+1])
	}
	w.Header().Set("X-Number", fmt.Sprint(number))
	if o.announce {
		w.Header().Set("Content-Length", fmt.Sprint(o.size))
	}
	piece, rest := o.size, o.size
	if number >= o.fast && number < o.fast+o.first {
		piece, rest = o.piece, o.size-o.burst
		_, _ = w.Write([]byte(strings.Repeat("x", o.burst)))
	}
	for ; rest > 0; rest -= piece {
		if piece < o.size {
			select {
			case <-r.Context().Done():
				return r.Context().Err()
			case <-time.After(o.gap):
			}
		}
		if _, err := w.Write([]byte(strings.Repeat("x", min(piece, rest)))); err != nil {
			return err
		}
	}
	return nil
}

// get asks as a client, and notes how long the whole answer takes.
func (o *dribbler) get(t *testing.T, method string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	begun, w := time.Now(), httptest.NewRecorder()
	r := newTestRequest(w, header...)
	r.Method = method
	if err := o.h.ServeHTTP(w, r, o.ServeHTTP); err != nil {
		t.Error(err)
	}
	if w.Code == http.StatusOK && method == http.MethodGet && w.Body.Len() != o.size {
		t.Errorf("%d bytes of %d", w.Body.Len(), o.size)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.longest = max(o.longest, time.Since(begun))
	return w
}

// counts is what has come of it so far.
func (o *dribbler) counts() (asked, under int, longest time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked, o.under, o.longest
}

// TestDribblingFetchIsNotJoined: the first answer of an origin came byte by byte, and all later
// ones at once. Newcomers joined that first fetch for as long as it lasted, since none of them ever
// found it silent.
func TestDribblingFetchIsNotJoined(t *testing.T) {
	for _, gap := range []time.Duration{time.Second, 9 * time.Second} {
		for _, announce := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, length announced %t", gap, announce), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					o := &dribbler{
						h: newTestHandler(t), header: []string{"Cache-Control", "max-age=600", "Etag", `"1"`},
						size: 50, announce: announce, first: 1, piece: 1, gap: gap,
					}
					o.clients.Go(func() { o.get(t, http.MethodGet) })
					time.Sleep(2*o.h.Wait + time.Second)
					if head := o.get(t, http.MethodHead); head.Code != http.StatusOK {
						t.Errorf("HEAD: %d", head.Code)
					}
					if match := o.get(t, http.MethodGet, "If-None-Match", `"1"`); match.Code != http.StatusNotModified {
						t.Errorf("conditional: %d", match.Code)
					}
					if asked, _, _ := o.counts(); asked != 1 {
						t.Errorf("for the header the origin is asked %d times", asked)
					}
					for range 2 {
						if a := o.get(t, http.MethodGet); a.Header().Get("X-Number") != "1" {
							t.Errorf("answer %s", a.Header().Get("X-Number"))
						}
					}
					if asked, _, longest := o.counts(); asked != 2 || longest > 0 {
						t.Errorf("the origin is asked %d times, want 2; a newcomer waits for %v", asked, longest)
					}
					o.clients.Wait()
				})
			})
		}
	}
}

// TestSlowBodiesAreShared: what comes slowly for all is asked for once as long as it is worth
// waiting for, and otherwise once more each time that newcomers have waited as long as they do.
func TestSlowBodiesAreShared(t *testing.T) {
	const second = 10 // clients
	for name, tc := range map[string]struct {
		o     *dribbler
		asked int
	}{
		"at the slowest pace":              {&dribbler{size: 60 * 8 << 10, piece: 8 << 10, gap: time.Second}, 1},
		"now and then":                     {&dribbler{size: 6 * 80 << 10, piece: 80 << 10, gap: 9 * time.Second}, 1},
		"a rest that comes soon":           {&dribbler{size: 20_000, announce: true, piece: 1000, gap: time.Second}, 1},
		"a byte each second":               {&dribbler{size: 60, piece: 1, gap: time.Second}, 6},
		"half of the slowest pace":         {&dribbler{size: 60 * 4 << 10, piece: 4 << 10, gap: time.Second}, 4},
		"a byte each second, length known": {&dribbler{size: 60, announce: true, piece: 1, gap: time.Second}, 6},
		"all but a little at first":        {&dribbler{size: 50_060, announce: true, burst: 50_000, piece: 1, gap: time.Second}, 3},
		"much at first, then byte by byte": {&dribbler{size: 50_060, burst: 50_000, piece: 1, gap: time.Second}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				o := tc.o
				o.h, o.header, o.first = newTestHandler(t), []string{"Cache-Control", "max-age=3600"}, 1000
				lasts := time.Duration((o.size-o.burst+o.piece-1)/o.piece) * o.gap
				for begun := time.Now(); time.Since(begun) < min(lasts, time.Minute); time.Sleep(time.Second / second) {
					o.clients.Go(func() { o.get(t, http.MethodGet) })
				}
				o.clients.Wait()
				if asked, _, longest := o.counts(); asked != tc.asked || longest > lasts {
					t.Errorf("the origin is asked %d times, want %d; the longest answer takes %v of %v", asked, tc.asked, longest, lasts)
				}
			})
		})
	}
}

// TestDribblingRefresh: a refresh in the background whose body came byte by byte kept a stale page
// from being refreshed for ten minutes. Clients that have the page already ask on.
func TestDribblingRefresh(t *testing.T) {
	for name, header := range map[string][]string{"any client": nil, "clients that have it": {"If-None-Match", `"1"`}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				o := &dribbler{
					h: newTestHandler(t), header: []string{"Cache-Control", "max-age=100, stale-while-revalidate=6000", "Etag", `"1"`},
					size: 1000, fast: 1, first: 1, piece: 1, gap: time.Second,
				}
				o.get(t, http.MethodGet)
				time.Sleep(101 * time.Second)
				for range 14 { // the header comes with the first byte, after a second
					o.get(t, http.MethodGet, header...)
					time.Sleep(time.Second)
				}
				a := o.get(t, http.MethodGet)
				if asked, _, longest := o.counts(); a.Header().Get("X-Number") != "2" || longest > 0 || asked != 3 {
					t.Errorf("answer %s, after %v, the origin is asked %d times", a.Header().Get("X-Number"), longest, asked)
				}
				time.Sleep(time.Minute + time.Second)
				if _, under, _ := o.counts(); under != 0 {
					t.Error("the slow refresh goes on without a client")
				}
			})
		})
	}
}

// TestDribblingSlices: who wants a part of a file joins no fetch, of a slice or of the whole, whose
// body comes byte by byte, and waits for none to come to the part.
func TestDribblingSlices(t *testing.T) {
	for name, tc := range map[string]struct {
		slow         string // the Range of the fetch
		before, late string // who asks meanwhile, and after that
	}{
		"a slice":   {"bytes=200-299", "", "bytes=250-259"},
		"the whole": {"", "bytes=500-509", "bytes=700-709"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				h, f := newSlicing(t), newFilm(63, 1000)
				if tc.slow != "" {
					f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
				}
				var slow atomic.Int32
				f.alter = func(w http.ResponseWriter, r *http.Request) bool {
					if r.Header.Get("Range") != tc.slow {
						return false
					}
					if slow.Add(1) > 1 {
						return false
					}
					return f.dribble(w, tc.slow)
				}
				ask := func(asked string, most time.Duration) {
					begun, w := time.Now(), httptest.NewRecorder()
					var header []string
					if asked != "" {
						header = []string{"Range", asked}
					}
					if broke := f.read(h, w, newTestRequest(w, header...)); broke || time.Since(begun) > most {
						t.Errorf("%q: %d, broken off %t, after %v", asked, w.Code, broke, time.Since(begun))
					}
				}
				var clients sync.WaitGroup
				clients.Go(func() { ask(tc.slow, time.Hour) })
				time.Sleep(time.Second)
				if tc.before != "" {
					clients.Go(func() { ask(tc.before, h.Wait+time.Second) })
				}
				time.Sleep(h.Wait + time.Second)
				ask(tc.late, 0)
				clients.Wait()
			})
		})
	}
}

// dribble answers with the first slice from 200 on, or with all, by a byte each second.
func (f *film) dribble(w http.ResponseWriter, asked string) bool {
	content := f.content
	status := http.StatusOK
	if asked != "" {
		content, status = f.content[200:300], http.StatusPartialContent
		w.Header().Set("Content-Range", "bytes 200-299/1000")
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	w.WriteHeader(status)
	for i := range content {
		time.Sleep(time.Second)
		if _, err := w.Write(content[i : i+1]); err != nil {
			return true
		}
	}
	return true
}

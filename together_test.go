package larder

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// togetherly is an origin that counts how often it is asked, takes its time, and answers with a
// Cache-Control.
type togetherly struct {
	t       *testing.T
	h       *Handler
	asked   atomic.Int64
	takes   time.Duration
	streams time.Duration // from the header to the end
	header  []string
}

// ServeHTTP implements caddyhttp.Handler.
func (o *togetherly) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	o.asked.Add(1)
	time.Sleep(o.takes)
	for i := 0; i < len(o.header); i += 2 {
		w.Header().Set(o.header[i], o.header[i+1])
	}
	if tag := w.Header().Get("Etag"); tag != "" && r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	_, _ = io.WriteString(w, "first ")
	time.Sleep(o.streams)
	_, err := io.WriteString(w, "last")
	return err
}

// ask sends n requests, one each interval, and returns how often Cache-Status was what, with the
// longest that one took.
func (o *togetherly) ask(n int, interval time.Duration, header ...string) (statuses map[string]int, longest time.Duration) {
	var mu sync.Mutex
	var clients sync.WaitGroup
	statuses = make(map[string]int)
	for range n {
		clients.Go(func() {
			begun := time.Now()
			w := httptest.NewRecorder()
			if err := o.h.ServeHTTP(w, benchRequest(w, header...), caddyhttp.HandlerFunc(o.ServeHTTP)); err != nil {
				o.t.Error(err)
			}
			if body := w.Body.String(); body != "first last" {
				o.t.Errorf("the body is %q", body)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[w.Header().Get("Cache-Status")]++
			longest = max(longest, time.Since(begun))
		})
		time.Sleep(interval)
	}
	clients.Wait()
	return statuses, longest
}

// inBubble runs f with a clock of its own, and lets goroutines that wait for another fetch go home.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(3 * workerIdle)
		f(t)
	})
}

// An origin that took longer to answer than its answer is fresh was asked by each of ten that came
// together, after they had waited for one.
func TestAskedTogetherAnsweredTogether(t *testing.T) {
	for name, header := range map[string][]string{
		"max-age":             {"Cache-Control", "max-age=1"},
		"s-maxage":            {"Cache-Control", "s-maxage=1, max-age=0"},
		"with a validator":    {"Cache-Control", "max-age=1", "Etag", `"v1"`},
		"must-revalidate":     {"Cache-Control", "max-age=1, must-revalidate"},
		"another cache's Age": {"Cache-Control", "max-age=6", "Age", "5"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newBenchHandler(t)
			inBubble(t, func(t *testing.T) {
				o := &togetherly{t: t, h: h, takes: 1300 * time.Millisecond, header: header}
				for round := range 3 {
					statuses, longest := o.ask(10, 50*time.Millisecond)
					if asked := o.asked.Swap(0); asked != 1 {
						t.Errorf("round %d: the origin is asked %d times: %v", round, asked, statuses)
					}
					if longest > o.takes {
						t.Errorf("round %d: one waits for %v, longer than the origin takes: %v", round, longest, statuses)
					}
				}
			})
		})
	}
}

// Who comes after the header is no such request: what is stale for it is not its answer, and what
// it demands holds, also while the body is on its way. A flight's answer and a stored one are
// judged alike.
func TestAskedAfterTheHeader(t *testing.T) {
	for name, tc := range map[string]struct {
		cacheControl string
		after        []string
		asked        int64
	}{
		"fresh":                  {"max-age=60", nil, 1},
		"stale by now":           {"max-age=1", nil, 2},
		"stale, may be shown":    {"max-age=1, stale-while-revalidate=60", nil, 1},
		"no-cache":               {"max-age=60", []string{"Cache-Control", "no-cache"}, 2},
		"max-age=0":              {"max-age=60", []string{"Cache-Control", "max-age=0"}, 2},
		"max-age, young enough":  {"max-age=60", []string{"Cache-Control", "max-age=30"}, 1},
		"min-fresh that is over": {"max-age=60", []string{"Cache-Control", "min-fresh=59"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			h := newBenchHandler(t)
			inBubble(t, func(t *testing.T) {
				o := &togetherly{t: t, h: h, streams: time.Minute, header: []string{"Cache-Control", tc.cacheControl}}
				go o.ask(1, 0)
				time.Sleep(5 * time.Second)
				statuses, _ := o.ask(1, 0, tc.after...)
				if asked := o.asked.Load(); asked != tc.asked {
					t.Errorf("the origin is asked %d times, want %d: %v", asked, tc.asked, statuses)
				}
				time.Sleep(o.streams)
			})
		})
	}
}

// What answers those who wait, and is not kept, says so; a reader that stays has all of it.
func TestAnswerOfThoseWhoWaitIsNotStored(t *testing.T) {
	h := newBenchHandler(t)
	h.statusMode = statusFull
	inBubble(t, func(t *testing.T) {
		o := &togetherly{t: t, h: h, takes: 2 * time.Second, streams: time.Minute, header: []string{"Cache-Control", "max-age=1"}}
		statuses, _ := o.ask(3, 0)
		const key = `; key="GET http://example.com/some/path?and=query"`
		if statuses["Larder; fwd=uri-miss"+key+"; detail=no-validator"] != 1 || statuses["Larder; fwd=uri-miss; fwd-status=200; collapsed"+key] != 2 {
			t.Errorf("Cache-Status: %v", statuses)
		}
		if stats := h.app.cache.store.Stats(); stats.Memory.Entries != 0 {
			t.Errorf("%d entries are stored", stats.Memory.Entries)
		}
	})
}

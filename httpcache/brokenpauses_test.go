package httpcache

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// TestFieldThatPausesHidesNoneThatStalls: a client with fields for which the origin pauses, and one
// for which it stands still, has the page taken for one that pauses for all.
func TestFieldThatPausesHidesNoneThatStalls(t *testing.T) {
	for name, agents := range map[string][]string{
		"stalls alone": nil, "pauses, too": {"a"}, "pauses for two": {"a", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				o := &breaksForOne{h: newTestHandler(t), header: []string{"Cache-Control", "max-age=2"}, after: time.Hour}
				origin := func(w http.ResponseWriter, r *http.Request) error {
					if r.Header.Get("X-Pauses") == "" {
						return o.ServeHTTP(w, r)
					}
					w.Header().Set("Cache-Control", "max-age=2")
					w.Header().Set("Content-Length", "5")
					_, _ = io.WriteString(w, "wh")
					time.Sleep(11 * time.Second)
					_, err := io.WriteString(w, "ole")
					return err
				}
				ask := func(header ...string) {
					w := httptest.NewRecorder()
					_ = guarded(func() error { return o.h.ServeHTTP(w, o.request(w, header...), origin) })
				}
				var attackers sync.WaitGroup
				for _, agent := range agents {
					attackers.Go(func() { ask("X-Pauses", "1", "User-Agent", agent) })
					time.Sleep(10500 * time.Millisecond)
					ask("User-Agent", "comes when it stands still")
					time.Sleep(4 * time.Second)
				}
				begun := time.Now()
				for i := range 60 { // each leaves its answer open
					attackers.Go(func() {
						time.Sleep(time.Duration(i) * time.Second)
						ask("X-Bad", "1")
					})
				}
				time.Sleep(13 * time.Second)
				o.forget()
				var clients sync.WaitGroup
				clients.Go(func() {
					for time.Since(begun) < time.Minute {
						o.get("User-Agent", "a browser")
						time.Sleep(300 * time.Millisecond)
					}
				})
				time.Sleep(time.Minute)
				o.h.cache.CancelFetches(errors.New("the end"))
				clients.Wait()
				o.mu.Lock()
				if o.broken > 0 || o.longest > o.h.Wait+time.Second {
					t.Errorf("%d answers were broken off, one has waited for %v", o.broken, o.longest)
				}
				o.mu.Unlock()
				attackers.Wait()
				time.Sleep(time.Minute)
			})
		})
	}
}

// TestBodyThatIsWholeIsNotNotedAsBroken: one that came whole while it was looked at for how long it
// had stood still was noted as broken after that had been forgotten, and stayed so.
func TestBodyThatIsWholeIsNotNotedAsBroken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := newTestHandler(t)
		q := h.newRequest(httptest.NewRecorder(), newTestRequest(nil), storable)
		q.readKey()
		ticket, tag := q.begin(q.flightKey())
		f, m, _ := h.cache.flights.Join(tag.key, tag, nil)
		defer m.Leave()
		x := q.newFetch(f, ticket)
		defer x.end()
		f.Share(&sharedResponse{}, -1)
		time.Sleep(q.route.Wait)
		x.cameWhole()
		q.watch(f) // has seen that it has not ended
		f.Finish(nil)
		if sum, _ := tag.fieldsSum(); q.isDoubtful(tag.page) || !h.cache.pausing.covers(tag.page, sum) {
			t.Error("it counts as broken, and not as one that pauses")
		}
	})
}

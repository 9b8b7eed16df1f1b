package httpcache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/origin"
)

// onSlow is an origin whose pages below /slow answer when till is closed, and others at once.
func onSlow(till <-chan struct{}, slow handlerFunc) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if strings.HasPrefix(r.URL.Path, "/slow") {
			return slow(w, r)
		}
		return storable(w, r)
	}
}

// leave has clients ask for pages of their own and leave while these hang.
func (b *budgeted) leave(n int, method string) {
	ctx, leave := context.WithCancel(b.Context())
	for i := range n {
		go func() {
			defer func() { _ = recover() }() // as the server does: the answer breaks off
			b.send(ctx, method, fmt.Sprintf("/slow/%d", i))
		}()
	}
	synctest.Wait()
	leave()
	synctest.Wait()
}

// Requests for pages that hang, whose clients had left, held the places of an origin for a minute,
// so that each miss was refused.
func TestPlacesOfClientsThatHaveLeft(t *testing.T) {
	for name, slow := range map[string]func(till <-chan struct{}) handlerFunc{
		"before the header": hangs,
		"behind the header": func(till <-chan struct{}) handlerFunc {
			return func(w http.ResponseWriter, r *http.Request) error {
				w.Header().Set("Cache-Control", "max-age=60")
				_, _ = io.WriteString(w, "the beginning")
				_ = http.NewResponseController(w).Flush()
				return hangs(till)(w, r)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				till := make(chan struct{})
				defer close(till)
				b := newBudgeted(t, origin.Limits{MaxConcurrent: 10, Queue: 100, Wait: 15 * time.Second}, onSlow(till, slow(till)))
				b.leave(10, http.MethodGet)
				if n := b.under.Load(); n != 10 {
					t.Fatalf("%d fetches go on while none waits for a place, want 10", n)
				}
				if a := b.get("/page"); a.status() != http.StatusOK || a.took > unattendedGrace+time.Second {
					t.Errorf("%d after %v", a.status(), a.took)
				}
				if n := b.under.Load(); n != 9 {
					t.Errorf("%d fetches go on after one has waited, want 9", n)
				}
			})
		})
	}
}

// A fetch whose place no request needs goes on, and so does one that a client has come back to.
func TestPlacesThatAreKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		till := make(chan struct{})
		b := newBudgeted(t, origin.Limits{MaxConcurrent: 2, Queue: 100, Wait: 5 * time.Second}, onSlow(till, hangs(till)))
		b.leave(2, http.MethodGet)
		again := b.begin(t.Context(), "/slow/0")
		also := b.begin(t.Context(), "/slow/1")
		waits := b.begin(t.Context(), "/page")
		time.Sleep(time.Second)
		if n := b.under.Load(); n != 2 {
			t.Errorf("%d fetches go on, want both", n)
		}
		close(till)
		for _, answer := range []<-chan *answered{again, also, waits} {
			if a := <-answer; a.status() != http.StatusOK {
				t.Errorf("%d: %v", a.status(), a.err)
			}
		}
		b.want(b.get("/slow/0"), http.StatusOK, "Larder; hit; ttl=59", 3)
	})
}

// Refreshes that hang have no client either. One that is young is left alone: what has no place
// would otherwise end each.
func TestPlacesOfRefreshesThatHang(t *testing.T) {
	bubble(t, func(t *testing.T) {
		till := make(chan struct{})
		defer close(till)
		next := page("stale-while-revalidate=86400")
		b := newBudgeted(t, origin.Limits{MaxConcurrent: 2, Queue: 100, Wait: 15 * time.Second}, nil)
		b.next = func(w http.ResponseWriter, r *http.Request) error { return next(w, r) }
		b.get("/slow/0")
		b.get("/slow/1")
		next = onSlow(till, hangs(till))
		b.get("/slow/0")
		b.get("/slow/1")
		a := b.get("/page")
		if a.status() != http.StatusOK || a.took < unattendedGrace-time.Second || a.took > unattendedGrace {
			t.Errorf("%d after %v, want a page after %v", a.status(), a.took, unattendedGrace)
		}
		if s := b.h.Budget.Standing(time.Now(), 0); s != origin.Admitted {
			t.Errorf("the origin is %s", s)
		}
	})
}

// A request that may change something outlives its client, but not for long where others wait.
func TestPlacesOfRequestsThatOutliveTheirClients(t *testing.T) {
	bubble(t, func(t *testing.T) {
		till := make(chan struct{})
		defer close(till)
		b := newBudgeted(t, origin.Limits{MaxConcurrent: 2, Queue: 100, Wait: 15 * time.Second}, onSlow(till, hangs(till)))
		b.leave(2, http.MethodPost)
		if n := b.under.Load(); n != 2 {
			t.Fatalf("%d requests go on while none waits for a place, want 2", n)
		}
		if a := b.get("/page"); a.status() != http.StatusOK || a.took > outliveGrace {
			t.Errorf("%d after %v", a.status(), a.took)
		}
		if n := b.under.Load(); n != 1 {
			t.Errorf("%d requests go on after one has waited, want 1", n)
		}
	})
}

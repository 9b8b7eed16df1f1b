package httpcache

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/batch"
)

// slowID is an id that the shop takes slowFor for, whether it is asked for alone or with others.
const slowID, slowFor = "slow", 45 * time.Second

// slowShop is a shop that knows slowID. It gives up with its request, unless it is deaf.
type slowShop struct {
	*shop
	deaf bool
	slow time.Duration // slowFor, or how long the answer for many takes
}

func newSlowShop(t *testing.T) (*testHandler, *slowShop) {
	h, s := newShop(t, nil)
	slow := &slowShop{shop: s, slow: slowFor}
	s.many = func(w http.ResponseWriter, r *http.Request) error {
		if slices.Contains(idsOf(r.URL.RequestURI()), slowID) {
			if err := slow.sleep(r); err != nil {
				return err
			}
		}
		return s.products(w, r)
	}
	return h, slow
}

func (s *slowShop) sleep(r *http.Request) error {
	timer := time.NewTimer(s.slow)
	defer timer.Stop()
	gone := r.Context().Done()
	if s.deaf {
		gone = nil
	}
	select {
	case <-timer.C:
		return nil
	case <-gone:
		return fail(http.StatusGatewayTimeout, r.Context().Err())
	}
}

func (s *slowShop) serve(w http.ResponseWriter, r *http.Request) error {
	if strings.HasSuffix(r.URL.Path, "/"+slowID) {
		if err := s.sleep(r); err != nil {
			return err
		}
	}
	return s.shop.serve(w, r)
}

// ask has a product asked for, and gives out how long it took when it has come.
func (s *slowShop) ask(t *testing.T, h *testHandler, id string) <-chan time.Duration {
	took, begun := make(chan time.Duration, 1), time.Now()
	go func() {
		w, r := httptest.NewRecorder(), requestFor("/products/"+id)
		if err := h.ServeHTTP(w, r, s.serve); err != nil || w.Body.String() != product(id) {
			t.Errorf("%s: %v, %d %s", id, err, w.Code, w.Body)
		}
		took <- time.Since(begun)
	}()
	return took
}

// TestBatchDoesNotWaitForASlowID: a client that asks for what the origin is slow about had all wait
// for as long as that who asked for something else in the same window.
func TestBatchDoesNotWaitForASlowID(t *testing.T) {
	const late = batch.DefaultWindow + DefaultWait/2
	for name, test := range map[string]struct {
		first string // it leads
		deaf  bool
		body  bool // the header comes at once
	}{
		"the slow one leads":      {first: slowID},
		"another leads":           {first: "7"},
		"a body without end":      {first: "7", body: true},
		"the handlers do not end": {first: slowID, deaf: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h, s := newSlowShop(t)
				s.deaf = test.deaf
				if test.body {
					s.many = dripping
				}
				took := map[string]<-chan time.Duration{test.first: s.ask(t, h, test.first)}
				time.Sleep(time.Millisecond)
				for _, id := range []string{"7", "8", slowID} {
					if id != test.first {
						took[id] = s.ask(t, h, id)
					}
				}
				time.Sleep(time.Second)
				joined := s.ask(t, h, "8")
				if got := <-joined; got > late-time.Second {
					t.Errorf("who joined the fetch of 8 waited %s", got)
				}
				for _, id := range []string{"7", "8"} {
					if got := <-took[id]; got > late {
						t.Errorf("%s took %s", id, got)
					}
				}
				if got, most := <-took[slowID], slowFor+late; got < slowFor || !test.deaf && got > most {
					t.Errorf("the slow one took %s", got)
				}
				asked := slices.DeleteFunc(s.take(), func(target string) bool { return strings.Contains(target, "ids=") })
				if want := []string{"/products/7", "/products/8", "/products/" + slowID}; !slices.Equal(asked, want) {
					t.Errorf("the origin was asked %q alone, want %q", asked, want)
				}
			})
		})
	}
}

// dripping is an answer for many that has a header, and a byte each second.
func dripping(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", shopLifetime)
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, " "); err != nil {
			return fmt.Errorf("dripping: %w", err)
		}
		select {
		case <-time.After(time.Second):
		case <-r.Context().Done():
		}
	}
	return fail(http.StatusBadGateway, r.Context().Err())
}

// TestBatchRestsWhileAnAnswerIsLate: while one is late, and for a while after one did not come,
// each asks alone. One that has come in time ends that.
func TestBatchRestsWhileAnAnswerIsLate(t *testing.T) {
	for name, test := range map[string]struct {
		wait, slow, rests time.Duration // the last since it was asked
	}{
		"it does not come":              {DefaultWait, slowFor, DefaultWait/2 + batchRest},
		"it comes":                      {DefaultWait, 3 * time.Second, 3 * time.Second},
		"it does not come, a long wait": {time.Minute, slowFor, time.Minute/2 + batchRest},
		"it comes, a long wait":         {time.Minute, 25 * time.Second, 25 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h, s := newSlowShop(t)
				h.Wait, s.slow = test.wait, test.slow
				begun := time.Now().Add(batch.DefaultWindow)
				slow, with := s.ask(t, h, slowID), s.ask(t, h, "0")
				for i, step := range []struct {
					at       time.Duration
					together bool
				}{{batchLate / 2, true}, {batchLate + 1, false}, {test.rests - time.Millisecond, false}, {test.rests + time.Millisecond, true}} {
					time.Sleep(time.Until(begun.Add(step.at)))
					s.take()
					e := h.explain(t, requestFor("/products/explained"))
					if says := strings.Contains(e.answers(), askedTogether+" yes"); says != step.together {
						t.Errorf("%s after it was asked for, explain says %s", step.at, e.answers())
					}
					one, two := s.ask(t, h, fmt.Sprint(i, "a")), s.ask(t, h, fmt.Sprint(i, "b"))
					<-one
					<-two
					if asked := s.take(); (len(asked) == 1) != step.together {
						t.Errorf("%s after it was asked for: %q", step.at, asked)
					}
				}
				<-slow
				<-with
			})
		})
	}
}

// TestBatchRestsWhileAnyAnswerIsLate: an answer that came ended the rest for all others, one that
// is late still, or was given up, among them.
func TestBatchRestsWhileAnyAnswerIsLate(t *testing.T) {
	const second, apart = time.Second, time.Second / 2
	for name, test := range map[string]struct {
		first, other time.Duration // how long they take; the other is asked for a while later
		rests        time.Duration // since the first was asked for
	}{
		"the other comes, the first does not":         {slowFor, 3 * second / 2, DefaultWait/2 + batchRest},
		"the other comes when the first was given up": {slowFor, DefaultWait/2 - apart/2, DefaultWait/2 + batchRest},
		"the first comes, the other does not":         {3 * second, slowFor, apart + DefaultWait/2 + batchRest},
		"the first comes before the other":            {3 * second, 3 * second, apart + 3*second},
		"the other comes before the first":            {4 * second, 2 * second, 4 * second},
		"the other comes before the first was late":   {slowFor, apart / 2, DefaultWait/2 + batchRest},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h, s := newShop(t, nil)
				slow := &slowShop{shop: s}
				s.many = func(w http.ResponseWriter, r *http.Request) error {
					for _, id := range idsOf(r.URL.RequestURI()) {
						if d, err := time.ParseDuration(id); err == nil {
							if err := (&slowShop{slow: d}).sleep(r); err != nil {
								return err
							}
						}
					}
					return s.products(w, r)
				}
				begun := time.Now().Add(batch.DefaultWindow)
				asked := []<-chan time.Duration{slow.ask(t, h, test.first.String()), slow.ask(t, h, "with-the-first")}
				time.Sleep(apart)
				asked = append(asked, slow.ask(t, h, (test.other+1).String()), slow.ask(t, h, "with-the-other"))
				at := batchLate + time.Millisecond
				for i := 0; at < test.rests+second; i++ {
					time.Sleep(time.Until(begun.Add(at)))
					e := h.explain(t, requestFor("/products/explained"))
					if got, want := strings.Contains(e.answers(), askedTogether+" yes"), at > test.rests; got != want {
						t.Errorf("%s after the first was asked for, explain says %s", at, e.answers())
					}
					at += second / 4
				}
				for _, took := range asked {
					<-took
				}
			})
		})
	}
}

package httpcache

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

// gatekeeper is an Admission that notes what comes by.
type gatekeeper struct {
	came  []Class
	under int
	fails error
}

func (g *gatekeeper) Admit(_ context.Context, class Class) (func(), error) {
	g.came = append(g.came, class)
	if g.fails != nil {
		return nil, g.fails
	}
	g.under++
	return func() { g.under-- }, nil
}

// Every way to the origin is admitted once, and says when it is over.
func TestEveryWayToTheOriginIsAdmitted(t *testing.T) {
	h := newTestHandler(t)
	g := new(gatekeeper)
	h.cache.admission = g
	next := func(w http.ResponseWriter, _ *http.Request) error {
		if g.under != 1 {
			t.Errorf("%d are admitted while the origin answers", g.under)
		}
		w.Header().Set("Cache-Control", "max-age=60")
		return nil
	}
	ask(t, h, next)
	ask(t, h, next) // a hit
	w := httptest.NewRecorder()
	r := newTestRequest(w)
	r.Method = http.MethodDelete
	if err := h.ServeHTTP(w, r, next); err != nil {
		t.Fatal(err)
	}
	if want := []Class{ClassMiss, ClassPass}; !slices.Equal(g.came, want) || g.under != 0 {
		t.Errorf("admitted %v, %d not over; want %v", g.came, g.under, want)
	}
}

// What is not admitted gets the error that says so, and nothing reaches the origin.
func TestWhatIsNotAdmitted(t *testing.T) {
	h := newTestHandler(t)
	h.cache.admission = &gatekeeper{fails: &Error{Status: http.StatusServiceUnavailable, Err: errors.New("enough")}}
	next, calls := counting(storable)
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		w := httptest.NewRecorder()
		r := newTestRequest(w)
		r.Method = method
		err := h.ServeHTTP(w, r, next)
		if own, ok := errors.AsType[*Error](err); !ok || own.Status != http.StatusServiceUnavailable || *calls != 0 {
			t.Errorf("%s: %v, %d calls of the origin", method, err, *calls)
		}
	}
}

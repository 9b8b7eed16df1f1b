package httpcache

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/store"
)

// race is an origin whose answers to requests for one URL come when they are let go: first the
// header, then the body, which is the request's name.
type race struct {
	t       *testing.T
	h       *testHandler
	answers map[string]func(w http.ResponseWriter) // by X-Name
	header  map[string]chan struct{}
	body    map[string]chan struct{}
	clients sync.WaitGroup
}

func newRace(t *testing.T, answers map[string]func(w http.ResponseWriter)) *race {
	h := newTestHandlerWith(t, store.Config{Path: t.TempDir(), Required: true}, store.Settings{Memory: 16 << 20, Disk: 16 << 20})
	h.CoalesceOff = true
	r := &race{t: t, h: h, answers: answers, header: map[string]chan struct{}{}, body: map[string]chan struct{}{}}
	for name := range answers {
		r.header[name], r.body[name] = make(chan struct{}), make(chan struct{})
	}
	return r
}

func (r *race) ServeHTTP(w http.ResponseWriter, hr *http.Request) error {
	name := hr.Header.Get("X-Name")
	if r.answers[name] == nil {
		w.WriteHeader(http.StatusTeapot)
		return nil
	}
	<-r.header[name]
	r.answers[name](w)
	if _, err := io.WriteString(w, name[:1]); err != nil {
		return err
	}
	<-r.body[name]
	_, err := io.WriteString(w, name[1:])
	return err
}

func (r *race) ask(name string) {
	w := httptest.NewRecorder()
	hr := newTestRequest(w, "X-Name", name)
	r.clients.Go(func() {
		if err := r.h.ServeHTTP(w, hr, handlerFunc(r.ServeHTTP)); err != nil {
			r.t.Error(err)
		}
	})
	synctest.Wait()
	time.Sleep(time.Second)
}

// step lets a header or a body go.
func (r *race) step(gate chan struct{}) {
	close(gate)
	synctest.Wait()
	time.Sleep(time.Second)
}

// fresh is a 200 that says so of queries.
func fresh(noVarySearch, vary string) func(w http.ResponseWriter) {
	return freshFor(600, noVarySearch, vary)
}

// freshFor is so for some seconds.
func freshFor(seconds int, noVarySearch, vary string) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", seconds))
		if noVarySearch != "" {
			w.Header().Set("No-Vary-Search", noVarySearch)
		}
		if vary != "" {
			w.Header().Set("Vary", vary)
		}
	}
}

func notFound(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }

// Of two answers to the same request that to the later one counts, in whatever order they come, and
// by whatever key they are stored.
func TestAnswerToTheLaterRequestCounts(t *testing.T) {
	const older, newer = "older", "newer"
	params := `params=("and")`
	for name, tc := range map[string]struct {
		older, newer func(w http.ResponseWriter)
		gone         bool // none of them is an answer in the end
	}{
		"the same key":                         {fresh("", ""), fresh("", ""), false},
		"another Vary":                         {fresh("", "Accept"), fresh("", ""), false},
		"a Vary, then another":                 {fresh("", "Accept"), fresh("", "Accept-Language"), false},
		"No-Vary-Search, then none":            {fresh(params, ""), fresh("", ""), false},
		"no No-Vary-Search, then one":          {fresh("", ""), fresh(params, ""), false},
		"No-Vary-Search, then another":         {fresh(params, ""), fresh("params", ""), false},
		"No-Vary-Search, then none and a Vary": {fresh(params, "Accept"), fresh("", "Accept-Language"), false},
		"a Vary, then another for a moment":    {fresh("", "Accept"), freshFor(30, "", "Accept-Language"), true},
		"a Vary, then none for a moment":       {fresh("", "Accept"), freshFor(30, "", ""), true},
		"no Vary, then one for a moment":       {fresh("", ""), freshFor(30, "", "Accept"), true},
		"No-Vary-Search, none for a moment":    {fresh(params, ""), freshFor(30, "", ""), true},
		"none, No-Vary-Search for a moment":    {fresh("", ""), freshFor(30, params, ""), true},
		"one, then another for a moment":       {fresh(params, "Accept"), freshFor(30, "params", ""), true},
		"200, then 404":                        {fresh("", ""), notFound, true},
		"200 with a Vary, then 404":            {fresh("", "Accept"), notFound, true},
		"200 with No-Vary-Search, then 404":    {fresh(params, ""), notFound, true},
		"200 with both, then 404":              {fresh(params, "Accept"), notFound, true},
	} {
		for order, steps := range map[string][]string{
			"newer first":              {"h newer", "b newer", "h older", "b older"},
			"newer within older":       {"h older", "h newer", "b newer", "b older"},
			"older's body in between":  {"h newer", "h older", "b older", "b newer"},
			"crossed":                  {"h older", "h newer", "b older", "b newer"},
			"crossed, the newer first": {"h newer", "h older", "b newer", "b older"},
			"older first":              {"h older", "b older", "h newer", "b newer"},
		} {
			t.Run(name+"/"+order, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRace(t, map[string]func(w http.ResponseWriter){older: tc.older, newer: tc.newer})
					r.ask(older)
					r.ask(newer)
					for _, step := range steps {
						gates := map[string]map[string]chan struct{}{"h": r.header, "b": r.body}[step[:1]]
						r.step(gates[step[2:]])
					}
					r.clients.Wait()
					if tc.gone {
						time.Sleep(time.Minute) // and what is stored for a moment has expired
					}
					w := httptest.NewRecorder()
					if err := r.h.ServeHTTP(w, newTestRequest(w), handlerFunc(r.ServeHTTP)); err != nil {
						t.Error(err)
					}
					want := newer
					if tc.gone {
						want = ""
					}
					if w.Body.String() != want {
						t.Errorf("%q is the answer from then on, want %q (%s)", w.Body, want, w.Header().Get("Cache-Status"))
					}
					time.Sleep(time.Minute) // the goroutines of fetches go home
				})
			})
		}
	}
}

// Who has found a stale response does not wait for a fetch that began before the one that brought
// it.
func TestOlderFetchIsNotJoined(t *testing.T) {
	for name, tc := range map[string]struct {
		before  bool // the response is stored before the fetch begins
		want    string
		fetches int
	}{
		"an older fetch": {false, "stored", 3},
		"a newer fetch":  {true, "slow", 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHandler(t)
				release, calls := make(chan struct{}), 0
				next := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
					calls++
					body := "stored"
					if r.Header.Get("X-Slow") != "" {
						<-release
						body = "slow"
					}
					w.Header().Set("Cache-Control", "public, max-age=1, stale-if-error=600")
					_, err := io.WriteString(w, body)
					return err
				})
				var clients sync.WaitGroup
				ask := func(header ...string) *httptest.ResponseRecorder {
					w := httptest.NewRecorder()
					clients.Go(func() {
						if err := h.ServeHTTP(w, newTestRequest(w, header...), next); err != nil {
							t.Error(err)
						}
					})
					synctest.Wait()
					time.Sleep(2 * time.Second)
					return w
				}
				if tc.before {
					ask("Authorization", "x")
				}
				ask("X-Slow", "1")
				if !tc.before {
					ask("Authorization", "x") // does not join it
				}
				w := ask()
				close(release)
				clients.Wait()
				if w.Body.String() != tc.want || calls != tc.fetches {
					t.Errorf("the answer is %q (%s) after %d fetches, want %q after %d", w.Body, w.Header().Get("Cache-Status"), calls, tc.want, tc.fetches)
				}
				time.Sleep(time.Minute) // the goroutines of fetches go home
			})
		})
	}
}

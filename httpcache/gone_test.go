package httpcache

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// goneStep is a request, a second after the one before, and the origin's answer to it.
type goneStep struct {
	request []string
	status  int
	vary    string
	maxAge  int
}

// After a 404 or 410 nothing older is an answer: neither what the same request selects by another
// Vary, nor what a response that goes had superseded.
func TestNothingOlderComesBackAfterGone(t *testing.T) {
	en, de := []string{"Accept-Language", "en"}, []string{"Accept-Language", "de"}
	reload := func(fields []string) []string { return append([]string{"Cache-Control", "no-cache"}, fields...) }
	both := func(a, b string) []string { return []string{"Accept-Language", a, "Accept", b} }
	for name, tc := range map[string]struct {
		steps []goneStep
		then  []string // asks for what is left
		want  string   // the step whose answer it gets, "" is none
	}{
		"superseded by one for all": {[]goneStep{{en, 200, "Accept-Language", 600}, {de, 200, "", 0}, {de, 404, "", 0}}, en, ""},
		"by another Vary of the same request": {
			[]goneStep{{both("en", "a"), 200, "Accept", 600}, {reload(both("en", "a")), 200, "Accept-Language", 600}, {reload(both("en", "a")), 410, "", 0}},
			both("de", "a"), "",
		},
		"three deep": {
			[]goneStep{
				{both("en", "a"), 200, "Accept-Language", 600},
				{reload(both("en", "b")), 200, "Accept", 600},
				{reload(both("de", "b")), 200, "", 600},
				{reload(both("fr", "c")), 404, "", 0},
			},
			both("en", "a"), "",
		},
		"by one that overlaps": {
			[]goneStep{{both("en", "a"), 200, "Accept-Language", 600}, {reload(both("en", "b")), 200, "Accept", 600}, {reload(both("de", "b")), 404, "", 0}},
			both("en", "b"), "",
		},
		"a 404 that is stored, for a moment": {
			[]goneStep{{en, 200, "Accept-Language", 600}, {reload(en), 404, "", 1}, {de, 200, "Accept-Language", 600}},
			en, "",
		},
		"what is for others stays": {
			[]goneStep{{en, 200, "Accept-Language", 600}, {de, 200, "Accept-Language", 600}, {reload(de), 404, "Accept-Language", 0}},
			en, "0",
		},
		"what came later stays": {
			[]goneStep{{en, 200, "", 0}, {de, 404, "", 0}, {en, 200, "", 600}, {reload(en), 200, "Accept-Language", 600}}, en, "3",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHandler(t)
				answer := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
					w.WriteHeader(http.StatusTeapot)
					return nil
				})
				for i, step := range tc.steps {
					w := askWith(t, h, func(w http.ResponseWriter, _ *http.Request) error {
						header := w.Header()
						if step.vary != "" {
							header.Set("Vary", step.vary)
						}
						if step.status == http.StatusOK || step.maxAge > 0 {
							header.Set("Cache-Control", "max-age="+strconv.Itoa(step.maxAge))
						}
						if step.status == http.StatusOK {
							header.Set("Etag", strconv.Quote(strconv.Itoa(i)))
						}
						w.WriteHeader(step.status)
						_, err := io.WriteString(w, strconv.Itoa(i))
						return err
					}, step.request...)
					t.Logf("step %d: %d %q, %s", i, w.Code, w.Body, w.Header().Get("Cache-Status"))
					time.Sleep(2 * time.Second)
				}
				if w := askWith(t, h, answer, tc.then...); w.Body.String() != tc.want {
					t.Errorf("the answer of step %q is left, want %q (%s)", w.Body, tc.want, w.Header().Get("Cache-Status"))
				}
				time.Sleep(time.Minute) // the goroutines of fetches go home
			})
		})
	}
}

// A 404 or 410 that is passed to its own client says the same as one that is fetched for all.
func TestGoneOnThePass(t *testing.T) {
	const own = "no-cache, no-store" // is passed on although something fresh is stored
	status := func(code int) handlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(code)
			return nil
		}
	}
	en := []string{"Accept-Language", "en"}
	for name, tc := range map[string]struct {
		vary    string
		request []string
		method  string
		answer  handlerFunc
		gone    bool
	}{
		"410":                 {"", []string{"Cache-Control", own}, http.MethodGet, status(410), true},
		"404 as an error":     {"", []string{"Cache-Control", own}, http.MethodGet, func(http.ResponseWriter, *http.Request) error { return &Error{Status: 404} }, true},
		"404 of what it asks": {"Accept-Language", append(en, "Cache-Control", own), http.MethodGet, status(404), true},
		"404 of another": {
			"Accept-Language", []string{"Cache-Control", own, "Accept-Language", "de"}, http.MethodGet, status(404), false,
		},
		"404, rewritten on its way": {
			"Accept-Language", append(en, "Cache-Control", own), http.MethodGet, func(w http.ResponseWriter, r *http.Request) error {
				r.Header.Set("Accept-Language", "de")
				w.WriteHeader(http.StatusNotFound)
				return nil
			}, true,
		},
		"404 to HEAD":        {"", []string{"Cache-Control", own}, http.MethodHead, status(404), false},
		"404 to credentials": {"", []string{"Cache-Control", own, "Authorization", "x"}, http.MethodGet, status(404), false},
		"404 to a cookie":    {"", []string{"Cache-Control", own, "Cookie", "a=1"}, http.MethodGet, status(404), false},
		"403":                {"", []string{"Cache-Control", own}, http.MethodGet, status(403), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHandler(t)
				stored := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
					w.Header().Set("Cache-Control", "max-age=600")
					w.Header().Set("Vary", tc.vary)
					_, err := io.WriteString(w, "stored")
					return err
				})
				askWith(t, h, stored, en...)
				time.Sleep(time.Second)
				w := httptest.NewRecorder()
				r := newTestRequest(w, tc.request...)
				r.Method = tc.method
				_ = h.ServeHTTP(w, r, tc.answer)
				if status := w.Header().Get("Cache-Status"); strings.Contains(status, "hit") {
					t.Fatalf("%s: not passed on", status)
				}
				time.Sleep(time.Second)
				if w = askWith(t, h, status(http.StatusTeapot), en...); (w.Code == http.StatusTeapot) != tc.gone {
					t.Errorf("gone %v, want %v: %d %q (%s)", w.Code == http.StatusTeapot, tc.gone, w.Code, w.Body, w.Header().Get("Cache-Status"))
				}
				time.Sleep(time.Minute) // the goroutines of fetches go home
			})
		})
	}
}

// A 404 to a request that has waited long enough for a fetch outdates what is stored, and what that
// fetch, which asked earlier, brings in the end.
func TestGoneWhileAFetchHangs(t *testing.T) {
	for name, first := range map[string]int{"nothing is stored": 0, "something stale is": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHandler(t)
				h.Wait = time.Second
				release := make(chan struct{})
				next := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
					age := "600"
					switch r.Header.Get("X-Name") {
					case "hangs":
						<-release
					case "first":
						age = "1, stale-while-revalidate=600"
					default:
						w.WriteHeader(http.StatusNotFound)
						return nil
					}
					w.Header().Set("Cache-Control", "max-age="+age)
					_, err := io.WriteString(w, r.Header.Get("X-Name"))
					return err
				})
				for range first {
					askWith(t, h, next, "X-Name", "first")
					time.Sleep(2 * time.Second)
				}
				var clients sync.WaitGroup
				ask := func(wait time.Duration, header ...string) *httptest.ResponseRecorder {
					w := httptest.NewRecorder()
					clients.Go(func() {
						if err := h.ServeHTTP(w, newTestRequest(w, header...), next); err != nil {
							t.Error(err)
						}
					})
					time.Sleep(wait)
					synctest.Wait()
					return w
				}
				ask(0, "X-Name", "hangs", "Cache-Control", "no-cache")
				w := ask(5*time.Second, "Cache-Control", "no-cache")
				if w.Code != http.StatusNotFound || !strings.Contains(w.Header().Get("Cache-Status"), "coalesce-wait") {
					t.Fatalf("%d %q (%s), want a 404 that was passed on", w.Code, w.Body, w.Header().Get("Cache-Status"))
				}
				close(release)
				clients.Wait()
				time.Sleep(time.Second)
				if w := ask(5 * time.Second); w.Code != http.StatusNotFound {
					t.Errorf("%d %q (%s) comes back after a 404", w.Code, w.Body, w.Header().Get("Cache-Status"))
				}
				time.Sleep(time.Minute) // the goroutines of fetches go home
			})
		})
	}
}

// A 404 is remembered for fetches that are under way, and for no others: what is remembered is
// bounded, and a flood of 404s must not push out the one that matters.
func TestFloodOfOtherGoneURLs(t *testing.T) {
	h := newTestHandler(t)
	next := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.WriteHeader(http.StatusNotFound)
		return nil
	})
	for i := range 100 {
		w := httptest.NewRecorder()
		r := newTestRequest(w)
		r.URL.Path = "/" + strconv.Itoa(i)
		if err := h.ServeHTTP(w, r, next); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.cache.removals.young); n > 0 {
		t.Errorf("%d of 100 are remembered, and no fetch is under way", n)
	}
}

// A flood of 404s for other queries of a path, while a fetch of that path hangs, does not bring
// back what that fetch had asked for before the page was gone. What is asked for later is stored.
func TestFloodOfOtherGoneQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const capacity = 8
		h := newTestHandler(t)
		h.Wait = time.Second
		h.cache.removals = newRecentKeys(capacity, removalsKeep, 0)
		release, gone := make(chan struct{}), true
		next := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			if r.Header.Get("X-Name") == "hangs" {
				<-release
			} else if gone {
				w.WriteHeader(http.StatusNotFound)
				return nil
			}
			return storable(w, r)
		})
		ask := func(query string, header ...string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			r := newTestRequest(w, header...)
			r.URL.RawQuery = query
			if err := h.ServeHTTP(w, r, next); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond)
			return w
		}
		var clients sync.WaitGroup
		clients.Go(func() { ask("", "X-Name", "hangs") })
		time.Sleep(time.Second)
		if w := ask(""); w.Code != http.StatusNotFound {
			t.Fatalf("%d %q, want a 404 that was passed on", w.Code, w.Body)
		}
		for n := range 3 * capacity {
			ask(strconv.Itoa(n))
		}
		if n := len(h.cache.removals.old); n != capacity {
			t.Fatalf("%d remembered in the old half: the flood has pushed out nothing", n)
		}
		close(release)
		clients.Wait()
		time.Sleep(time.Second)
		if w := ask(""); w.Code != http.StatusNotFound {
			t.Errorf("%d %q (%s) comes back after a 404", w.Code, w.Body, w.Header().Get("Cache-Status"))
		}
		gone = false
		ask("new")
		if w := ask("new"); !strings.Contains(w.Header().Get("Cache-Status"), "hit") {
			t.Errorf("what is asked for after the flood is not stored: %s", w.Header().Get("Cache-Status"))
		}
		time.Sleep(time.Minute) // the goroutines of fetches go home
	})
}

// What the origin answers to parameters that the key leaves out says nothing about the page that
// the key is for: not that it is gone, and not whether the next answer can be shared.
func TestQueryOfItsOwnOnThePass(t *testing.T) {
	byQuery := func(answers map[string]handlerFunc) handlerFunc {
		return func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("X-Query", r.URL.RawQuery)
			return answers[r.URL.RawQuery](w, r)
		}
	}
	status := func(code int) handlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(code)
			return nil
		}
	}
	ask := func(t *testing.T, h *testHandler, next handlerFunc, query string, header ...string) *httptest.ResponseRecorder {
		t.Helper()
		w := httptest.NewRecorder()
		r := newTestRequest(w, header...)
		r.URL.RawQuery = query
		if err := h.ServeHTTP(w, r, next); err != nil {
			t.Fatal(err)
		}
		if got := w.Header().Get("X-Query"); got != "" && got != query {
			t.Fatalf("the origin is asked for %q, not passed on", got)
		}
		return w
	}
	for name, tc := range map[string]struct {
		rules QueryRules
		own   string
	}{
		"query only":   {QueryRules{Only: []string{"a", "b"}}, "a=1&b=2&page=9"},
		"query ignore": {QueryRules{Ignore: []string{"utm_*"}}, "a=1&b=2&utm_x=9"},
		"query sort":   {QueryRules{Sort: true}, "b=2&a=1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHandler(t)
				h.Key.Query = tc.rules
				next := byQuery(map[string]handlerFunc{"a=1&b=2": storable, tc.own: status(http.StatusNotFound)})
				ask(t, h, next, "a=1&b=2")
				time.Sleep(time.Second)
				if w := ask(t, h, next, tc.own, "Cache-Control", "no-cache, no-store"); w.Code != http.StatusNotFound {
					t.Fatalf("%d, not passed on", w.Code)
				}
				time.Sleep(time.Second)
				if got := ask(t, h, next, "a=1&b=2", "Cache-Control", "only-if-cached").Code; got != http.StatusOK {
					t.Errorf("a 404 to %q has removed the page: %d", tc.own, got)
				}
				time.Sleep(time.Minute) // the goroutines of fetches go home
			})
		})
	}
	// A private answer to the page is remembered. Those to other queries neither renew that nor end
	// it.
	private := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "private")
		w.WriteHeader(http.StatusOK)
		return nil
	})
	for name, own := range map[string]handlerFunc{"that may be stored": storable, "that may not": private} {
		t.Run("an answer "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHandler(t)
				h.Key.Query = QueryRules{Only: []string{"a"}}
				next := byQuery(map[string]handlerFunc{"a=1": private, "a=1&page=9": own})
				ask(t, h, next, "a=1")
				time.Sleep(hitForMissTTL - 10*time.Second)
				ask(t, h, next, "a=1&page=9")
				if got := ask(t, h, next, "a=1").Header().Get("Cache-Status"); got != "Larder; fwd=miss" {
					t.Errorf("it has ended what is remembered: %q", got)
				}
				time.Sleep(hitForMissTTL - 10*time.Second)
				ask(t, h, next, "a=1&page=9")
				time.Sleep(20 * time.Second)
				if got := ask(t, h, next, "a=1").Header().Get("Cache-Status"); !strings.HasPrefix(got, "Larder; fwd=uri-miss") {
					t.Errorf("it has renewed what is remembered: %q", got)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

package httpcache

import (
	"io"
	"net/http"
	"strconv"
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
			[]goneStep{{en, 200, "", 0}, {de, 404, "", 0}, {en, 200, "", 600}, {en, 200, "Accept-Language", 600}}, en, "3",
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

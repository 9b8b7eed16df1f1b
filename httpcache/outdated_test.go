package httpcache

import (
	"io"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// variantStep is a request, two seconds after the one before, and the origin's answer to it.
type variantStep struct {
	request      []string
	vary, coding string
	maxAge       int
}

func (s *variantStep) answer(name string) handlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		header := w.Header()
		if s.vary != "" {
			header.Set("Vary", s.vary)
		}
		if s.coding != "" {
			header.Set("Content-Encoding", s.coding)
		}
		header.Set("Cache-Control", "max-age="+strconv.Itoa(s.maxAge))
		_, err := io.WriteString(w, name)
		return err
	}
}

// A later answer to the same request outdates the earlier one, by whatever Vary either is stored.
// So the earlier is no answer again once the later has expired. What is for other requests stays.
func TestNoOlderVariantComesBack(t *testing.T) {
	en, de := []string{"Accept-Language", "en"}, []string{"Accept-Language", "de"}
	gzip, br := []string{"Accept-Encoding", "gzip"}, []string{"Accept-Encoding", "br"}
	reload := func(fields ...string) []string { return append([]string{"Cache-Control", "no-cache"}, fields...) }
	both := func(a, b string) []string { return []string{"Accept-Language", a, "Accept", b} }
	for name, tc := range map[string]struct {
		steps []variantStep
		then  []string // asks for what is left
		want  string   // the step whose answer it gets, "" is none
	}{
		"of the same request": {
			[]variantStep{{both("en", "a"), "Accept-Language", "", 600}, {reload(both("en", "a")...), "Accept", "", 1}},
			both("en", "a"), "",
		},
		"by one for all": {[]variantStep{{en, "Accept-Language", "", 600}, {de, "", "", 1}}, en, ""},
		"by one for all, then for some": {
			[]variantStep{{en, "", "", 600}, {reload(en...), "Accept-Language", "", 1}}, de, "",
		},
		"superseded by what goes": {
			[]variantStep{
				{both("en", "a"), "Accept-Language", "", 600},
				{both("de", "b"), "Accept", "", 600},
				{reload(both("fr", "b")...), "X-Other", "", 600},
			},
			append(both("en", "b"), "X-Other", "1"), "",
		},
		"of a coding that is preferred": {
			[]variantStep{{br, "Accept-Encoding", "br", 600}, {reload("Accept-Encoding", "br, gzip"), "Accept-Encoding", "gzip", 600}},
			[]string{"Accept-Encoding", "gzip, br"},
			"1",
		},
		"a coding that is not preferred stays": {
			[]variantStep{{gzip, "Accept-Encoding", "gzip", 600}, {reload("Accept-Encoding", "gzip, br"), "Accept-Encoding", "br", 600}},
			gzip, "0",
		},
		"a coding that was not asked for takes nothing away": {
			[]variantStep{
				{[]string{"Accept-Encoding", "identity"}, "Accept-Encoding", "", 600},
				{reload("Accept-Encoding", "gzip;q=0"), "Accept-Encoding", "gzip", 600},
			},
			[]string{"Accept-Encoding", "identity"},
			"0",
		},
		"nor one that is refused beside identity": {
			[]variantStep{
				{[]string{"Accept-Encoding", "identity"}, "Accept-Encoding", "", 600},
				{reload("Accept-Encoding", "identity, gzip;q=0"), "Accept-Encoding", "gzip", 600},
			},
			[]string{"Accept-Encoding", "identity"},
			"0",
		},
		"nor does a page without coding for who prefers that": {
			[]variantStep{
				{gzip, "Accept-Encoding", "gzip", 600},
				{reload("Accept-Encoding", "identity, gzip;q=0.1"), "Accept-Encoding", "", 600},
			},
			gzip, "0",
		},
		"a coding stays beside one without Vary": {
			[]variantStep{{gzip, "Accept-Encoding", "gzip", 600}, {de, "", "", 600}}, gzip, "0",
		},
		"what is for others stays": {
			[]variantStep{{en, "Accept-Language", "", 600}, {de, "Accept-Language", "", 600}, {both("fr", "b"), "Accept, Accept-Language", "", 600}},
			en, "0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHandler(t)
				for i := range tc.steps {
					w := askWith(t, h, tc.steps[i].answer(strconv.Itoa(i)), tc.steps[i].request...)
					t.Logf("step %d: %q, %s", i, w.Body, w.Header().Get("Cache-Status"))
					time.Sleep(2 * time.Second)
				}
				none := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
					w.WriteHeader(http.StatusTeapot)
					return nil
				})
				if w := askWith(t, h, none, tc.then...); w.Body.String() != tc.want {
					t.Errorf("the answer of step %q is left, want %q (%s)", w.Body, tc.want, w.Header().Get("Cache-Status"))
				}
				time.Sleep(time.Minute) // the goroutines of fetches go home
			})
		})
	}
}

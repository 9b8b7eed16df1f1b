package httpcache

import (
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/larder-cache/larder/rfc9111/worktest"
	"github.com/larder-cache/larder/store"
)

// requestFields are the fields of a request that are read on its way to an answer: for the key, for
// what may be used, for the fetch.
var requestFields = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Cdn-Loop", "Connection", "Content-Type", "Cookie", "Expect",
	"Forwarded", "Http2-Settings", "If-Modified-Since", "If-None-Match", "If-Range", "Pragma", "Range", "Te", "Upgrade", "Via",
	"X-Forwarded-For", "X-Forwarded-Host", "X-Key", "X-Vary",
}

// responseFields are those of a response: for what may be stored and for how long, for whom, under
// which tags, and what comes behind it.
var responseFields = []string{
	"Age", "Cache-Control", "Cache-Groups", "Cache-Status", "Cdn-Cache-Control", "Connection", "Content-Encoding", "Content-Type", "Date",
	"Etag", "Expires", "Incremental", "Last-Modified", "No-Vary-Search", "Pragma", "Set-Cookie", "Surrogate-Key", "Trailer", "Vary",
}

// unsafeFields are those of a response to a POST, which name what it invalidates.
var unsafeFields = []string{"Cache-Group-Invalidation", "Content-Location", "Location"}

// newWorkHandler returns a handler with rules for all that it may have rules for. 32 variants of
// one URL are stored.
func newWorkHandler(tb testing.TB) *testHandler {
	h := newTestHandlerWith(tb, store.Config{Path: tb.TempDir()}, store.Settings{Memory: 16 << 20, Disk: 64 << 20})
	h.Logger = slog.New(slog.DiscardHandler) // tags that are dropped are told of
	h.Key = KeyRules{
		Query:   QueryRules{Sort: true, Ignore: []string{"utm_*", "*a*b*c*"}},
		Headers: []string{"X-Key"}, Cookies: []string{"a", "session"},
	}
	for i := range 32 {
		w := httptest.NewRecorder()
		r := newTestRequest(w, "X-Vary", strconv.Itoa(i), "Accept-Language", "en")
		next := answeringWith(http.Header{"Vary": {"X-Vary, Accept-Encoding, Accept-Language"}, "Cache-Control": {"max-age=60"}, "Etag": {`"a"`}})
		if err := h.ServeHTTP(w, r, next); err != nil {
			tb.Fatal(err)
		}
	}
	return h
}

// answeringWith is an origin that answers with a header.
func answeringWith(header http.Header) handlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		maps.Copy(w.Header(), header)
		w.WriteHeader(http.StatusOK)
		_, err := w.Write([]byte("body"))
		return err
	}
}

// FuzzRequestWork holds that no request costs more than the length of its fields allows, with all
// that Larder does for it.
func FuzzRequestWork(f *testing.F) {
	if worktest.Raced {
		f.Skip("the race detector makes it ten times slower")
	}
	h := newWorkHandler(f)
	next := answeringWith(http.Header{"Vary": {"X-Vary, Accept-Encoding, Accept-Language"}, "Cache-Control": {"max-age=60"}, "Etag": {`"a"`}})
	fuzzWork(f, func(t *testing.T, head, unit, tail string) {
		for _, name := range requestFields {
			worktest.Check(t, name, func(lines []string) {
				w := httptest.NewRecorder()
				r := newTestRequest(w, "X-Vary", "1")
				r.Header[name] = lines
				_ = h.ServeHTTP(w, r, next) // which may refuse it
			}, head, unit, tail)
		}
		worktest.Check(t, "query", func(lines []string) {
			w := httptest.NewRecorder()
			r := newTestRequest(w)
			r.URL.RawQuery = strings.Join(lines, "&")
			_ = h.ServeHTTP(w, r, next)
		}, head, unit, tail)
	})
}

// FuzzResponseWork holds the same of responses: fetched, stored, and had from the store.
func FuzzResponseWork(f *testing.F) {
	if worktest.Raced {
		f.Skip("the race detector makes it ten times slower")
	}
	h := newWorkHandler(f)
	paths := 0
	ask := func(method, name string, lines []string) {
		next := answeringWith(http.Header{"Cache-Control": {"max-age=60"}, name: lines})
		paths++
		for range 2 {
			w := httptest.NewRecorder()
			r := newTestRequest(w, "X-Vary", "1")
			r.Method, r.URL.Path = method, "/"+strconv.Itoa(paths)
			_ = h.ServeHTTP(w, r, next)
		}
	}
	fuzzWork(f, func(t *testing.T, head, unit, tail string) {
		for _, name := range responseFields {
			worktest.Check(t, name, func(lines []string) { ask(http.MethodGet, name, lines) }, head, unit, tail)
		}
		for _, name := range unsafeFields {
			worktest.Check(t, name, func(lines []string) { ask(http.MethodPost, name, lines) }, head, unit, tail)
		}
	})
}

func fuzzWork(f *testing.F, check func(t *testing.T, head, unit, tail string)) {
	for _, seed := range [][3]string{
		{`"`, `\"`, ","},
		{"a,", `"\",`, ""},
		{"", `a=""`, ""},
		{"", ",", ""},
		{"", ";", ""},
		{"", "=", ""},
		{"", "(", ""},
		{"", "&", ""},
		{"", "%2e", ""},
		{"", " ", ""},
		{"", "a#,", "a"},
		{"", "a#=b; ", "session=1"},
		{"", "a=#;", ""},
		{"", "a=#&b;c", "&utm_x=1"},
		{"", "larder, ", ""},
		{"", "a# ", ""},
		{"", `"#", `, `"a"`},
		{"/", "a/../", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, head, unit, tail string) {
		if len(head) > 256 || len(unit) > 64 || len(tail) > 256 {
			t.Skip("more of the same")
		}
		check(t, head, unit, tail)
	})
}

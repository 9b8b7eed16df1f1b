package httpcache

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// readsFewFields answers as an origin that reads no more than 1,000 field lines, as they come from
// a proxy: in the order of the alphabet. Without X-Forwarded-Proto it redirects.
func readsFewFields(w http.ResponseWriter, r *http.Request) error {
	var read []string
	for name, lines := range r.Header {
		read = append(read, slices.Repeat([]string{name}, len(lines))...)
	}
	slices.Sort(read)
	w.Header().Set("Cache-Control", "max-age=60")
	switch read = read[:min(len(read), 1000)]; {
	case r.Method != http.MethodGet:
		w.WriteHeader(http.StatusNoContent)
	case !slices.Contains(read, "X-Forwarded-Proto") && r.URL.Query().Has("gone"):
		w.WriteHeader(http.StatusNotFound)
	case !slices.Contains(read, "X-Forwarded-Proto"):
		http.Redirect(w, r, "https://example.com/", http.StatusMovedPermanently)
	default:
		w.WriteHeader(http.StatusOK)
	}
	return nil
}

// askWithLines asks for a page with so many lines of one field besides those of a proxy.
func askWithLines(t *testing.T, h *testHandler, method, url string, lines int) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, url, nil)
	r.Header.Set("X-Forwarded-Proto", "https")
	if lines > 0 {
		r.Header["A"] = make([]string, lines)
		r.Header.Set("Cache-Control", "no-cache")
	}
	if err := h.ServeHTTP(w, r, readsFewFields); err != nil {
		t.Fatal(err)
	}
	return w
}

// An origin may read only some of many fields, so what it answers is for that request alone: it is
// not stored, and takes nothing away.
func TestManyFieldsBypass(t *testing.T) {
	for _, url := range []string{"http://example.com/", "http://example.com/?gone"} {
		h := newTestHandler(t)
		h.Methods = append(h.Methods, http.MethodHead)
		for _, before := range []string{"nothing", "a page"} {
			const bypass = "Larder; fwd=bypass; detail=fields"
			if w := askWithLines(t, h, http.MethodGet, url, 1020); w.Code == http.StatusOK || w.Header().Get("Cache-Status") != bypass {
				t.Errorf("%s, %s before: %d %q", url, before, w.Code, w.Header().Get("Cache-Status"))
			}
			want := map[string]string{"nothing": "Larder; fwd=uri-miss; stored", "a page": "Larder; hit"}[before]
			if w := askWithLines(t, h, http.MethodGet, url, 0); w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Cache-Status"), want) {
				t.Errorf("%s, %s before: the next gets %d %q", url, before, w.Code, w.Header().Get("Cache-Status"))
			}
		}
		if w := askWithLines(t, h, http.MethodPost, url, 1020); w.Code != http.StatusNoContent {
			t.Errorf("POST: %d", w.Code)
		}
		if w := askWithLines(t, h, http.MethodGet, url, 0); w.Header().Get("Cache-Status") != "Larder; fwd=uri-miss; stored" {
			t.Errorf("after a POST: %q", w.Header().Get("Cache-Status"))
		}
	}
}

// Lines are counted, of whatever names.
func TestHasManyFields(t *testing.T) {
	h := http.Header{"A": make([]string, maxFields-1), "B": {""}}
	if fieldSetOf(h).has(hasManyFields) {
		t.Errorf("%d are many", maxFields)
	}
	if h["C"] = []string{""}; !fieldSetOf(h).has(hasManyFields) {
		t.Errorf("%d are not many", maxFields+1)
	}
}

package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestPageJudge: only the right body, whole and undamaged, passes for a page.
func TestPageJudge(t *testing.T) {
	const n = page(4) // translated
	present := version{own: 2, group: 1}
	right := n.render(present, "de")
	damaged := bytes.Clone(right)
	damaged[len(damaged)-1] ^= 1
	for _, tt := range []struct {
		name     string
		body     []byte
		language string
		floor    version
		old, bad bool
	}{
		{"right", right, "de", present, false, false},
		{"newer than it must be", right, "de", version{}, false, false},
		{"from before its own purge", right, "de", version{own: 3}, true, false},
		{"from before its group's purge", right, "de", version{group: 2}, true, false},
		{"one bit", damaged, "de", present, false, true},
		{"cut short", right[:len(right)-1], "de", present, false, true},
		{"too long", append(bytes.Clone(right), 'x'), "de", present, false, true},
		{"another page's", page(24).render(present, "de"), "de", present, false, true},
		{"another language", right, "en", present, false, true},
		{"none", nil, "de", present, false, true},
		{"a text", []byte("404 page not found\n"), "de", present, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			old, err := n.judge(tt.body, tt.language, tt.floor)
			if old != tt.old || (err != nil) != tt.bad {
				t.Errorf("old %v, error %v; want %v, %v", old, err, tt.old, tt.bad)
			}
		})
	}
}

// TestServePage: the origin serves what judge expects, answers a validation, and makes pages anew.
func TestServePage(t *testing.T) {
	o := new(origin)
	ask := func(method, path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		o.ServeHTTP(w, r)
		return w
	}
	const n = page(21) // validated, the same in all languages
	first := ask(http.MethodGet, n.path(), "Accept-Language", "de")
	if old, err := n.judge(first.Body.Bytes(), "en", version{}); old || err != nil {
		t.Fatalf("old %v, %v", old, err)
	}
	tag := first.Header().Get("Etag")
	if w := ask(http.MethodGet, n.path(), "If-None-Match", tag); w.Code != http.StatusNotModified {
		t.Errorf("status %d for the present entity tag, want 304", w.Code)
	}
	for _, step := range []struct {
		path string
		want version
	}{
		{"/renew/page/21", version{own: 1}},
		{"/renew/group/21", version{own: 1, group: 1}},
	} {
		ask(http.MethodPost, step.path)
		w := ask(http.MethodGet, n.path(), "If-None-Match", tag)
		if old, err := n.judge(w.Body.Bytes(), "de", step.want); old || err != nil {
			t.Errorf("after %s: old %v, %v", step.path, old, err)
		}
	}
	if w := ask(http.MethodGet, "/pages/80000"); w.Code != http.StatusNotFound {
		t.Errorf("status %d for no page, want 404", w.Code)
	}
}

package httpcache

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
)

// lateWriter keeps the header map of a 1xx as HTTP/2's writer does, which reads it later if the
// stream is reset: the map itself, or a copy if it must leave Content-Length out.
type lateWriter struct {
	*httptest.ResponseRecorder
	kept, asItWas []http.Header
}

func (w *lateWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.ResponseRecorder.WriteHeader(status)
		return
	}
	h := w.Header()
	if len(h["Content-Length"]) > 0 {
		h = h.Clone()
		h.Del("Content-Length")
	}
	w.kept, w.asItWas = append(w.kept, h), append(w.asItWas, h.Clone())
}

// TestInformationalHeaderIsLeftAlone: the map of a 1xx that HTTP/2 may still read does not change,
// whether the response is fetched or passed on, nor has the final response more than its own.
func TestInformationalHeaderIsLeftAlone(t *testing.T) {
	hints := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		for range 2 {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			clear(w.Header()) // as reverse_proxy does
		}
		return storable(w, r)
	})
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		h := newTestHandler(t)
		w := &lateWriter{ResponseRecorder: httptest.NewRecorder()}
		r := newTestRequest(w)
		r.Method, r.ProtoMajor, r.ProtoMinor, r.Proto = method, 2, 0, "HTTP/2.0"
		if err := h.ServeHTTP(w, r, hints); err != nil {
			t.Fatal(err)
		}
		if len(w.kept) != 2 {
			t.Fatalf("%s: %d headers of 1xx", method, len(w.kept))
		}
		for i, h := range w.kept {
			if h.Get("Link") == "" || !maps.EqualFunc(h, w.asItWas[i], func(a, b []string) bool { return len(a) == len(b) }) {
				t.Errorf("%s: the header of the 1xx was %v and has become %v", method, w.asItWas[i], h)
			}
		}
		if got := w.Result().Header["Content-Length"]; len(got) > 0 && got[0] == "0" {
			t.Errorf("%s: Content-Length %q", method, got)
		}
	}
}

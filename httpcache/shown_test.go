package httpcache

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"
)

func TestShowsHost(t *testing.T) {
	for _, tc := range []struct {
		host, canonical, text string
		want                  bool
	}{
		{"Example.com", "example.com", "Example.com", true},
		{"Example.com", "example.com", "of Example", true},
		{"Example.com", "example.com", "example.com", false},
		{"Example.com", "example.com", "gzip", false},
		{"example.com:80", "example.com", "http://example.com:80/p", true},
		{"example.com:80", "example.com", "80", true},
		{"example.com:80", "example.com", "q=0.80", false},
		{"example.com:80", "example.com", "http://example.com/p", false},
		{"example.com:", "example.com", "example.com:", true},
		{"example.com.", "example.com", "example.com.", true},
		{"example.com:08080", "example.com:8080", "08080", true},
		{"example.com:08080", "example.com:8080", "http://example.com:8080/", false},
		{"EXAMPLE.com:80", "example.com", "at EXAMPLE.com:80", true},
	} {
		if got := showsHost(tc.text, tc.host, tc.canonical); got != tc.want {
			t.Errorf("Host %s in %q: %v", tc.host, tc.text, got)
		}
	}
}

// A HEAD whose method can be seen in a field begins no fetch: neither where it needs the origin nor
// in the background.
func TestHeadThatShowsItsMethod(t *testing.T) {
	for shown, want := range map[string]string{"HEAD": http.MethodHead, "GET": http.MethodGet} {
		for window, needsOrigin := range map[time.Duration]bool{0: true, time.Hour: false} {
			h := newTestHandler(t)
			h.Policy.MaxTTL, h.Policy.StaleWhileRevalidate = time.Nanosecond, window
			asked := make(chan string, 9)
			next := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
				asked <- r.Method
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Etag", `"1"`)
				w.WriteHeader(http.StatusOK)
				return nil
			})
			ask(t, h, next)
			<-asked
			w := httptest.NewRecorder()
			r := newTestRequest(w, "X-Seen", shown)
			r.Method = http.MethodHead
			if err := h.ServeHTTP(w, r, next); err != nil {
				t.Fatal(err)
			}
			for h.cache.Users() > 0 {
				runtime.Gosched()
			}
			switch close(asked); {
			case needsOrigin || shown == "GET":
				if got := <-asked; got != want {
					t.Errorf("it shows %s: the origin was asked by %q, want %s", shown, got, want)
				}
			case len(asked) > 0:
				t.Errorf("it shows %s: the origin was asked in the background", shown)
			}
		}
	}
}

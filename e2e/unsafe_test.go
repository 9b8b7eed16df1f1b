package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestEqualPostsThatWaitTogether: a POST may change something, so one that has waited for an equal
// one is answered with what that got only if this says that it is for all who send the same (RFC
// 9110 9.3.3). Otherwise each is sent by itself: none has another's failure for an answer.
func TestEqualPostsThatWaitTogether(t *testing.T) {
	const n = 4
	for _, tc := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		asked  int
		status int
		safe   bool
	}{
		{"a failure", func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, n, 503, false},
		{"a failure, safe_post", func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, 2, 503, true},
		{"no response", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, n, 502, false},
		{"private", func(w http.ResponseWriter) { w.Header().Set("Cache-Control", "private") }, n, 200, false},
		{"no word", func(http.ResponseWriter) {}, n, 200, false},
		{"explicitly fresh", func(w http.ResponseWriter) { w.Header().Set("Cache-Control", "max-age=60") }, 1, 200, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				tc.answer(w)
				_, _ = io.WriteString(w, "done")
			})
			lines := []string{"methods GET HEAD POST", "key {\nbody\n}"}
			if tc.safe {
				lines = append(lines, "safe_post")
			}
			in := start(t, proxied(block(lines...)), g.origin)
			posts := gather(t, in, n, http.MethodPost, "/", nil)
			first := g.next(t, 1)
			parked(t, n)
			open(first...)
			switch tc.asked {
			case 1:
			default:
				open(g.next(t, tc.asked-1)...)
			}
			answers := posts.all()
			g.asked(t, tc.asked)
			for i, a := range answers {
				if a.StatusCode != tc.status {
					t.Errorf("POST %d: %d %q", i, a.StatusCode, a.cacheStatus())
				}
				if strings.Contains(a.cacheStatus(), "collapsed") && tc.asked == n {
					t.Errorf("POST %d has another's answer: %q", i, a.cacheStatus())
				}
			}
			settled(t, in)
		})
	}
}

// TestPostThatAnswersAfterAnothersFailure: the follower's own request goes to the origin, with its
// body, and has its own answer.
func TestPostThatAnswersAfterAnothersFailure(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, v *visit) {
		if v.number == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.Copy(w, v.Body)
	})
	in := start(t, proxied(postDirective("status short")), g.origin)
	post := func(got chan<- *answer) {
		a, err := in.try(t.Context(), http.MethodPost, "/", "order=1")
		if err != nil {
			t.Error(err)
		}
		got <- a
	}
	first, second := make(chan *answer, 1), make(chan *answer, 1)
	go post(first)
	leader := g.next(t, 1)
	go post(second)
	parked(t, 2)
	open(leader...)
	(<-first).want(t, 503, "", "")
	open(g.next(t, 1)...)
	(<-second).want(t, 200, "order=1", "Larder; fwd=uri-miss")
	g.asked(t, 2)
	settled(t, in)
}

// TestPostWithRangeIsSentOnce: Range has a meaning for GET alone (RFC 9110 14.2), so the whole is the
// answer to a POST, and no second POST asks for a part.
func TestPostWithRangeIsSentOnce(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "private"))
	in := start(t, proxied(postDirective("status short")), o)
	in.do(http.MethodPost, "/", "x", "Range", "bytes=0-0").want(t, 200, "1", "")
	o.asked(t, 1)
}

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// postDirective is the directive with a rule, and POST cached.
func postDirective(lines ...string) string {
	return block(append([]string{"methods GET HEAD POST", "key {\nbody\n}"}, lines...)...)
}

// TestPurchasesAreMade is the exchange in which three purchases were one: a server that says
// nothing of caching, behind `ttl` and `methods … POST`. It also holds where what keeps it out of
// the store is the operator's stale windows.
func TestPurchasesAreMade(t *testing.T) {
	for name, lines := range map[string][]string{
		"ttl":                      {"ttl 1m"},
		"force_ttl":                {"force_ttl 1m"},
		"stale windows":            {"ttl 1m", "stale_while_revalidate 1h", "stale_if_error 1h"},
		"stale windows past a 0":   {"stale_while_revalidate 1h", "stale_if_error 1h", "max_ttl 1m"},
		"heuristic":                {"heuristic on"},
		"nothing but key and POST": nil,
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, counted(func(w http.ResponseWriter, r *http.Request, number int) {
				if name == "stale windows past a 0" {
					w.Header().Set("Cache-Control", "max-age=0")
				}
				w.Header().Set("Etag", `"v"`)
				for _, condition := range []string{"If-None-Match", "If-Modified-Since"} {
					if r.Header.Get(condition) != "" {
						t.Errorf("a POST with %s: a server answers that with 412 (RFC 9110 13.1.2)", condition)
					}
				}
				unstated(w, r, number)
			}))
			in := start(t, proxied(postDirective(lines...)), o)
			for n := range 3 {
				a := in.do(http.MethodPost, "/graphql", `{"query":"mutation { buy }"}`)
				a.want(t, 200, fmt.Sprintf("%d for ", n+1), "")
				if strings.Contains(a.cacheStatus(), "stored") {
					t.Errorf("Cache-Status %q", a.cacheStatus())
				}
			}
			o.asked(t, 3)
		})
	}
}

// TestSafePost: the operator's word makes POST as cacheable as GET.
func TestSafePost(t *testing.T) {
	for _, rule := range assumed {
		o := newOrigin(t, counted(unstated))
		in := start(t, proxied(postDirective(rule, "safe_post")), o)
		in.do(http.MethodPost, "/search", "q=1").want(t, 200, "1 for ", "Larder; fwd=uri-miss; stored")
		if a := in.do(http.MethodPost, "/search", "q=1"); !a.isHit() {
			t.Errorf("%s: %q", rule, a.cacheStatus())
		}
		in.do(http.MethodPost, "/search", "q=2").want(t, 200, "2 for ", "Larder; fwd=uri-miss; stored")
		in.do(http.MethodPost, "/search", "q=1", "Cookie", "session=bob").want(t, 200, "3 for session=bob", "")
		in.do(http.MethodPost, "/search", strings.Repeat("x", 65<<10)).want(t, 200, "4 for ", "Larder; fwd=bypass; detail=body")
		if a := in.do(http.MethodPost, "/search", "q=1"); !a.isHit() {
			t.Errorf("%s, after a POST that bypassed: %q", rule, a.cacheStatus())
		}
	}
}

// TestPostThatIsNotStoredInvalidates: it is an unsafe request like any other (RFC 9111 4.4),
// whether it leads a fetch or is forwarded because the last answer could not be shared. One whose
// origin gives it a lifetime drops nothing.
func TestPostThatIsNotStoredInvalidates(t *testing.T) {
	o := newOrigin(t, counted(func(w http.ResponseWriter, r *http.Request, number int) {
		body, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodGet || string(body) == "query" {
			w.Header().Set("Cache-Control", "max-age=60")
		}
		w.Header().Set("Surrogate-Key", "products")
		_, _ = fmt.Fprint(w, number)
	}))
	in := start(t, proxied(postDirective("invalidate {\nurls /list\n}")), o)
	for round, post := range []struct {
		body string
		hits bool
	}{{"query", true}, {"mutation", false}, {"mutation", false}, {"query", true}} {
		in.get("/shop")
		in.get("/list")
		in.do(http.MethodPost, "/shop", post.body).want(t, 200, "", "")
		for _, path := range []string{"/shop", "/list"} {
			if a := in.get(path); a.isHit() != post.hits {
				t.Errorf("%d: after %s, %s: %q", round, post.body, path, a.cacheStatus())
			}
		}
	}
}

// TestMethodsWithABody caches QUERY and POST by what they ask.
func TestMethodsWithABody(t *testing.T) {
	for _, tc := range []struct{ method, directive string }{
		{"QUERY", block("methods GET HEAD QUERY")},
		{"POST", block("methods GET HEAD POST", "key {\nbody\n}")},
	} {
		t.Run(tc.method, func(t *testing.T) {
			o := newOrigin(t, describing("Cache-Control", "max-age=60"))
			in := start(t, proxied(tc.directive), o)
			in.do(tc.method, "/", "q=1", "Content-Type", "text/plain").want(t, 200, tc.method+" / q=1", "Larder; fwd=uri-miss; stored")
			for _, row := range []struct {
				what, body, contentType string
				hit                     bool
			}{
				{"the same", "q=1", "text/plain", true},
				{"another body", "q=2", "text/plain", false},
				{"another type", "q=1", "text/html", false},
				{"no body", "", "text/plain", false},
			} {
				a := in.do(tc.method, "/", row.body, "Content-Type", row.contentType)
				a.want(t, 200, tc.method+" / "+row.body, "")
				if a.isHit() != row.hit {
					t.Errorf("%s: %q", row.what, a.cacheStatus())
				}
			}
			if get := in.get("/", "Content-Type", "text/plain"); get.isHit() {
				t.Errorf("GET: %q", get.cacheStatus())
			}
			limit := strings.Repeat("x", 64<<10)
			in.do(tc.method, "/", limit).want(t, 200, tc.method+" / "+limit, "Larder; fwd=uri-miss; stored")
			over := limit + "x"
			for range 2 {
				in.do(tc.method, "/", over).want(t, 200, tc.method+" / "+over, "Larder; fwd=bypass; detail=body")
			}
		})
	}
	t.Run("not stored", func(t *testing.T) {
		o := newOrigin(t, describing("Cache-Control", "no-store"))
		in := start(t, proxied(block("methods GET HEAD QUERY")), o)
		for _, status := range []string{"Larder; fwd=uri-miss", "Larder; fwd=miss"} {
			in.do("QUERY", "/", "q=1").want(t, 200, "QUERY / q=1", status)
		}
	})
	t.Run("not named", func(t *testing.T) {
		o := newOrigin(t, describing("Cache-Control", "max-age=60"))
		in := start(t, proxied(block("methods GET")), o)
		for _, method := range []string{"QUERY", "POST", "HEAD", "OPTIONS", "DELETE"} {
			in.do(method, "/", "").want(t, 200, "", "Larder; fwd=bypass; detail=method")
		}
	})
}

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

// TestPostWithRangeIsSentOnce: Range has a meaning for GET alone (RFC 9110 14.2), so the whole is
// the answer to a POST, and no second POST asks for a part.
func TestPostWithRangeIsSentOnce(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "private"))
	in := start(t, proxied(postDirective("status short")), o)
	in.do(http.MethodPost, "/", "x", "Range", "bytes=0-0").want(t, 200, "1", "")
	o.asked(t, 1)
}

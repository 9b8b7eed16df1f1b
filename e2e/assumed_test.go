package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// assumed are the rules that give a response a lifetime which its origin has not stated.
var assumed = []string{"ttl 5m", "force_ttl 5m", "heuristic on"}

// apart are the kinds of requests that such a lifetime is not for.
var apart = []struct {
	kind   string
	method string
	header []string
}{
	{"Authorization", http.MethodGet, []string{"Authorization", "Basic Ym9iOmJvYg=="}},
	{"a cookie that is not in the key", http.MethodGet, []string{"Cookie", "session=bob"}},
	{"both", http.MethodGet, []string{"Cookie", "session=bob", "Authorization", "Basic Ym9iOmJvYg=="}},
	{"POST", http.MethodPost, nil},
}

// unstated says nothing of freshness, and who asked.
func unstated(w http.ResponseWriter, r *http.Request, number int) {
	w.Header().Set("Last-Modified", httpDate(-24*time.Hour))
	_, _ = fmt.Fprintf(w, "%d for %s%s", number, r.Header.Get("Authorization"), r.Header.Get("Cookie"))
}

// postDirective is the directive with a rule, and POST cached.
func postDirective(lines ...string) string {
	return block(append([]string{"methods GET HEAD POST", "key {\nbody\n}"}, lines...)...)
}

// TestAssumedLifetimes is every rule, for every kind of request that it is not for, at every place
// where it must hold: neither does such a request's response get into the store, nor does such a
// request get what is in the store or what another is fetching.
func TestAssumedLifetimes(t *testing.T) {
	for _, rule := range assumed {
		for _, k := range apart {
			t.Run(rule+" and "+k.kind, func(t *testing.T) {
				t.Run("admission", func(t *testing.T) {
					o := newOrigin(t, counted(unstated))
					in := start(t, proxied(postDirective(rule)), o)
					for range 3 {
						in.do(k.method, "/", "", k.header...).want(t, 200, "", "")
					}
					o.asked(t, 3)
					in.get("/").want(t, 200, "4 for ", "Larder; fwd=uri-miss; stored")
				})
				t.Run("look-up", func(t *testing.T) {
					o := newOrigin(t, counted(unstated))
					in := start(t, proxied(postDirective(rule, "safe_post")), o)
					in.do(k.method, "/", "").want(t, 200, "1 for ", "Larder; fwd=uri-miss; stored")
					in.load(proxied(postDirective(rule)), o)
					afterReload(t, in, k.method, k.header).want(t, 200, "", "")
					o.asked(t, 2)
				})
				t.Run("followers", func(t *testing.T) { followNobody(t, rule, k.method, k.header) })
			})
		}
	}
}

// afterReload asks, and asks again where the server that goes took the connection and closed it
// without a word.
func afterReload(t *testing.T, in *instance, method string, header []string) *answer {
	t.Helper()
	a, err := in.try(t.Context(), method, "/", "", header...)
	for attempt := 1; err != nil && attempt < 3 && droppedUnanswered(err); attempt++ {
		a, err = in.try(t.Context(), method, "/", "", header...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// counted numbers the requests.
func counted(handler func(w http.ResponseWriter, r *http.Request, number int)) http.HandlerFunc {
	g := make(chan int, 1)
	g <- 0
	return func(w http.ResponseWriter, r *http.Request) {
		n := <-g + 1
		g <- n
		handler(w, r, n)
	}
}

// followNobody has a request of the kind come while one that is of none, or for a POST the same, is
// being fetched.
func followNobody(t *testing.T, rule, method string, header []string) {
	g := newGate(t, func(w http.ResponseWriter, v *visit) { unstated(w, v.Request, v.number) })
	in := start(t, proxied(postDirective(rule)), g.origin)
	leader := gather(t, in, 1, method, "/", nil)
	first := g.next(t, 1)
	follower := gather(t, in, 1, method, "/", func(int) []string { return header })
	if method == http.MethodPost {
		parked(t, 2) // it waits until the first answer turns out not to be for it
	} else {
		open(g.next(t, 1)...)
		follower.all()[0].want(t, 200, "2 for "+strings.TrimSpace(strings.Join(values(header), "")), "")
	}
	open(first...)
	leader.all()[0].want(t, 200, "1 for ", "")
	if method == http.MethodPost {
		open(g.next(t, 1)...)
		follower.all()[0].want(t, 200, "2 for ", "")
	}
	g.asked(t, 2)
	settled(t, in)
}

// values are those of header fields given as pairs, Authorization's first.
func values(pairs []string) []string {
	var authorization, rest []string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == "Authorization" {
			authorization = append(authorization, pairs[i+1])
		} else {
			rest = append(rest, pairs[i+1])
		}
	}
	return append(authorization, rest...)
}

// TestVisitorsPageIsNotAMembers is the exchange in which a page that an anonymous visitor had
// fetched, fresh by Last-Modified, was a hit for a member.
func TestVisitorsPageIsNotAMembers(t *testing.T) {
	o := newOrigin(t, counted(unstated))
	in := start(t, proxied(block("heuristic on")), o)
	in.get("/").want(t, 200, "1 for ", "Larder; fwd=uri-miss; stored")
	in.get("/", "Cookie", "session=bob").want(t, 200, "2 for session=bob", "")
	if a := in.get("/"); !a.isHit() || a.body != "1 for " {
		t.Errorf("a visitor after the member: %q %q", a.cacheStatus(), a.body)
	}
}

// TestOriginsWordIsForAll: a lifetime that the origin states is for requests with a cookie or
// Authorization as well (RFC 9111 3.5 speaks of what was fetched with it), and under force_ttl it
// is the one that counts for them.
func TestOriginsWordIsForAll(t *testing.T) {
	for _, directive := range []string{"larder", block("force_ttl 5m")} {
		o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
		in := start(t, proxied(directive), o)
		in.get("/").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
		for _, header := range [][]string{{"Cookie", "session=bob"}, {"Authorization", "Basic Ym9iOmJvYg=="}} {
			a := in.get("/", header...)
			a.want(t, 200, "1", "")
			a.wantTTL(t, 60)
		}
	}
}

// TestKeyedCredentials: what the key has keeps nothing out. Each who shows the same credentials has
// the same page, and nobody else.
func TestKeyedCredentials(t *testing.T) {
	for _, tc := range []struct{ key, field, bob, eve string }{
		{"header Authorization", "Authorization", "Basic Ym9iOmJvYg==", "Basic ZXZlOmV2ZQ=="},
		{"header Cookie", "Cookie", "session=bob", "session=eve"},
		{"cookie session", "Cookie", "session=bob", "session=eve"},
	} {
		for _, rule := range append([]string{"status short"}, assumed...) {
			t.Run(tc.key+", "+rule, func(t *testing.T) {
				o := newOrigin(t, counted(func(w http.ResponseWriter, r *http.Request, number int) {
					if rule == "status short" { // none of the rules: the origin's own word
						w.Header().Set("Cache-Control", "max-age=60")
					}
					unstated(w, r, number)
				}))
				in := start(t, proxied(block(rule, "key {\n"+tc.key+"\n}")), o)
				in.get("/", tc.field, tc.bob).want(t, 200, "1 for "+tc.bob, "Larder; fwd=uri-miss; stored")
				if a := in.get("/", tc.field, tc.bob); !a.isHit() || a.body != "1 for "+tc.bob {
					t.Errorf("the same credentials: %q %q", a.cacheStatus(), a.body)
				}
				in.get("/", tc.field, tc.eve).want(t, 200, "2 for "+tc.eve, "Larder; fwd=uri-miss; stored")
				in.get("/").want(t, 200, "3 for ", "Larder; fwd=uri-miss; stored")
			})
		}
	}
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

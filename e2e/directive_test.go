package e2e

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestClientDirectives(t *testing.T) {
	for _, tc := range []struct {
		name    string
		request []string
		obeyed  string // body under obey
	}{
		{"no-cache", []string{"Cache-Control", "no-cache"}, "2"},
		{"Pragma", []string{"Pragma", "no-cache"}, "2"},
		// It forbids storing, not using what is stored.
		{"no-store", []string{"Cache-Control", "no-store"}, "1"},
		{"max-age=0", []string{"Cache-Control", "max-age=0"}, "2"},
		{"min-fresh", []string{"Cache-Control", "min-fresh=1000"}, "2"},
	} {
		for _, word := range []string{"obey", "ignore"} {
			t.Run(tc.name+" "+word, func(t *testing.T) {
				o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Age", "1"))
				in := start(t, proxied(block("client_directives "+word)), o)
				in.get("/").want(t, 200, "1", "")
				want := "1"
				if word == "obey" {
					want = tc.obeyed
				}
				in.get("/", tc.request...).want(t, 200, want, "")
			})
		}
	}
	t.Run("a cold URL, no-store and only-if-cached ignored", func(t *testing.T) {
		o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
		in := start(t, proxied(block("client_directives ignore")), o)
		in.get("/", "Cache-Control", "no-store, only-if-cached").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
		in.get("/").want(t, 200, "1", "")
	})
}

func TestStaleWhileRevalidate(t *testing.T) {
	fresh := answering(200, "Cache-Control", "max-age=60")
	for _, tc := range []struct {
		name, directive, cacheControl string
		served                        bool
	}{
		{"by the directive", block("stale_while_revalidate 5m"), "max-age=90", true},
		{"by the response", "larder", "max-age=90, stale-while-revalidate=300", true},
		{"the response's word counts", block("stale_while_revalidate 5m"), "max-age=90, stale-while-revalidate=5", false},
		{"over", block("stale_while_revalidate 5s"), "max-age=90", false},
		{"must-revalidate forbids it", block("stale_while_revalidate 5m"), "max-age=90, must-revalidate", false},
		{"proxy-revalidate forbids it", block("stale_while_revalidate 5m"), "max-age=90, proxy-revalidate", false},
		{"off", "larder", "max-age=90", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, stale(fresh, "Cache-Control", tc.cacheControl, "Etag", `"old"`))
			in, begun := start(t, proxied(tc.directive), o), time.Now()
			in.get("/").want(t, 200, "old", "")
			second := in.get("/")
			if !tc.served {
				second.want(t, 200, "", "Larder; fwd=stale; fwd-status=200; stored")
				return
			}
			second.want(t, 200, "old", "")
			if !strings.HasSuffix(second.cacheStatus(), "; detail=swr") {
				t.Errorf("Cache-Status %q", second.cacheStatus())
			}
			second.wantTTL(t, -10, begun)
			eventually(t, "the refresh is stored", func() bool { return in.get("/").body != "old" })
		})
	}
}

func TestStaleIfError(t *testing.T) {
	refused := func(w http.ResponseWriter, _ *http.Request) { // no answer at all
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	for _, tc := range []struct {
		name, directive, cacheControl string
		then                          http.HandlerFunc
		served                        bool
	}{
		{"500", block("stale_if_error 5m"), "max-age=90", answering(500), true},
		{"502", block("stale_if_error 5m"), "max-age=90", answering(502), true},
		{"503", block("stale_if_error 5m"), "max-age=90", answering(503), true},
		{"504", block("stale_if_error 5m"), "max-age=90", answering(504), true},
		{"501 is no failure", block("stale_if_error 5m"), "max-age=90", answering(501), false},
		{"404 is none", block("stale_if_error 5m"), "max-age=90", answering(404), false},
		{"no answer", block("stale_if_error 5m"), "max-age=90", refused, true},
		{"a failure that ttl would store", block("stale_if_error 5m", "ttl 1m 5xx"), "max-age=90", answering(503), true},
		{"a failure with a lifetime", block("stale_if_error 5m"), "max-age=90", answering(503, "Cache-Control", "max-age=60"), true},
		{"over, and a failure that ttl stores", block("stale_if_error 5s", "ttl 1m 5xx"), "max-age=90", answering(503), false},
		{"by the response", "larder", "max-age=90, stale-if-error=300", answering(500), true},
		{"the response's word counts", block("stale_if_error 5m"), "max-age=90, stale-if-error=5", answering(500), false},
		{"over", block("stale_if_error 5s"), "max-age=90", answering(500), false},
		{"must-revalidate forbids it", block("stale_if_error 5m"), "max-age=90, must-revalidate", answering(500), false},
		{"off", "larder", "max-age=90", answering(500), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, stale(tc.then, "Cache-Control", tc.cacheControl, "Etag", `"old"`))
			in := start(t, proxied(tc.directive), o)
			in.get("/").want(t, 200, "old", "")
			for range 2 {
				a := in.get("/")
				switch {
				case !tc.served:
					if a.body == "old" {
						t.Errorf("the old one was served: %q", a.cacheStatus())
					}
				default:
					a.want(t, 200, "old", "")
					if !strings.HasSuffix(a.cacheStatus(), "; detail=sie") || a.Header.Get("Age") == "" {
						t.Errorf("Cache-Status %q, Age %q", a.cacheStatus(), a.Header.Get("Age"))
					}
				}
			}
		})
	}
}

// A client that wants no stored response (no-cache) sees the failure of the origin. It does not
// lose the page for everybody else, not even to a failure that may be stored.
func TestReloadWhileTheOriginFailsLeavesThePage(t *testing.T) {
	for _, tc := range []struct {
		name, directive, cacheControl string
		failure                       []string
		kept                          bool
	}{
		{"ttl 5xx", block("ttl 1m 5xx"), "max-age=600, stale-if-error=86400", nil, true},
		{"a lifetime of its own", "larder", "max-age=600, stale-if-error=86400", []string{"Cache-Control", "max-age=60"}, true},
		{"fresh without a window", block("ttl 1m 5xx"), "max-age=600", nil, true},
		{"stale without a window", block("ttl 1m 5xx"), "max-age=1", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			failure := answering(500, tc.failure...)
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Fail") != "" {
					failure(w, r)
					return
				}
				w.Header().Set("Cache-Control", tc.cacheControl)
				w.Header().Set("Age", "5")
				w.Header().Set("Etag", `"page"`)
				_, _ = io.WriteString(w, "page")
			})
			in := start(t, proxied(tc.directive), o)
			in.get("/").want(t, 200, "page", "")
			in.get("/", "Cache-Control", "no-cache", "X-Fail", "1").want(t, 500, "", "")
			if a := in.get("/", "X-Fail", "1"); (a.body == "page") != tc.kept {
				t.Errorf("the next client gets %d %q %q", a.StatusCode, a.body, a.cacheStatus())
			}
		})
	}
}

// TestStaleIfErrorWhenNobodyListens stops the origin: the dial fails.
func TestStaleIfErrorWhenNobodyListens(t *testing.T) {
	o := newOrigin(t, stale(nil, "Cache-Control", "max-age=90"))
	in := start(t, proxied(block("stale_if_error 5m")), o)
	in.get("/").want(t, 200, "old", "")
	o.Close()
	a := in.get("/")
	a.want(t, 200, "old", "")
	if !strings.HasSuffix(a.cacheStatus(), "; detail=sie") {
		t.Errorf("Cache-Status %q", a.cacheStatus())
	}
	in.get("/other").want(t, 502, "", "")
}

func TestMaxBody(t *testing.T) {
	body := strings.Repeat("x", 2000)
	for _, tc := range []struct {
		name, options, directive string
		stored                   bool
	}{
		{"fits", "", "larder", true},
		{"over the global one", "max_body 1KiB", "larder", false},
		{"over its own", "", block("max_body 1KiB"), false},
		{"the route does not raise the global one", "max_body 1KiB", block("max_body 1MiB"), false},
		{"exactly", "", block("max_body 2000B"), true},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, chunked %v", tc.name, chunked), func(t *testing.T) {
				o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Cache-Control", "max-age=60")
					if chunked {
						_, _ = io.WriteString(w, body[:1])
						_ = http.NewResponseController(w).Flush()
						_, _ = io.WriteString(w, body[1:])
						return
					}
					w.Header().Set("Content-Length", strconv.Itoa(len(body)))
					_, _ = io.WriteString(w, body)
				})
				s := proxied(tc.directive)
				s.options = tc.options
				in := start(t, s, o)
				in.get("/").want(t, 200, body, "")
				second := in.get("/")
				second.want(t, 200, body, "")
				if second.isHit() != tc.stored {
					t.Errorf("Cache-Status %q, want a hit: %v", second.cacheStatus(), tc.stored)
				}
			})
		}
	}
}

// TestMaxBodyThatRaisesNothing: the smaller of two limits holds, and the log says so.
func TestMaxBodyThatRaisesNothing(t *testing.T) {
	for directive, want := range map[string]int{block("max_body 2KiB"): 1, block("max_body 1KiB"): 0} {
		log := filepath.Join(t.TempDir(), "log")
		s := proxied(directive)
		s.options = "max_body 1KiB"
		s.global = "log warnings {\noutput file " + log + "\nformat json\ninclude http.handlers.larder\n}"
		start(t, s, newOrigin(t, answering(200)))
		text, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the file is made with its first line
			t.Fatal(err)
		}
		if got := strings.Count(string(text), "max_body of the directive is larger"); got != want {
			t.Errorf("%s: %d warnings, want %d", directive, got, want)
		}
	}
}

func TestMaxVariantsDropsTheLeastRecentlyUsed(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Vary", "X-Lang"))
	in := start(t, proxied(block("max_variants 2")), o)
	in.get("/", "X-Lang", "a").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	in.get("/", "X-Lang", "b").want(t, 200, "2", "Larder; fwd=vary-miss; stored")
	in.get("/", "X-Lang", "a").want(t, 200, "1", "")
	in.get("/", "X-Lang", "c").want(t, 200, "3", "Larder; fwd=vary-miss; stored")
	in.get("/", "X-Lang", "a").want(t, 200, "1", "")
	in.get("/", "X-Lang", "c").want(t, 200, "3", "")
	in.get("/", "X-Lang", "b").want(t, 200, "4", "Larder; fwd=vary-miss; stored")
}

func TestEvictionNoneRefusesWhenFull(t *testing.T) {
	body := strings.Repeat("x", 100<<10)
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, body)
	})
	s := proxied("larder")
	s.options = "memory 1MiB\neviction none"
	in := start(t, s, o)
	before := in.metric("caddy_larder_not_stored_total", `reason="full"`)
	const urls = 30
	for i := range urls {
		in.get(fmt.Sprintf("/%d", i)).want(t, 200, body, "")
	}
	if !in.get("/0").isHit() {
		t.Error("the first one has been evicted")
	}
	if in.get(fmt.Sprintf("/%d", urls-1)).isHit() {
		t.Errorf("%d bodies of %d bytes are said to fit 1 MiB", urls, len(body))
	}
	if after := in.metric("caddy_larder_not_stored_total", `reason="full"`); after <= before {
		t.Error("no refusal was counted")
	}
	if m := in.stats().Memory; m.Bytes > m.Budget {
		t.Errorf("%d bytes of %d", m.Bytes, m.Budget)
	}
}

func TestTwoGlobalBlocksAreAnError(t *testing.T) {
	s := proxied("larder")
	s.global = "larder {\nmemory 16MiB\n}"
	in := &instance{t: t, port: freePort(t), admin: "localhost:0"}
	err := in.tryLoad(s, newOrigin(t, answering(200)))
	if err == nil || !strings.Contains(err.Error(), "larder") || !strings.Contains(err.Error(), "Caddyfile:") {
		t.Errorf("error %v", err)
	}
}

func TestIgnoredVaryKeepsOneVariant(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Vary", "User-Agent"))
	in := start(t, proxied(block("ignore Vary")), o)
	in.get("/", "User-Agent", "a").want(t, 200, "1", "")
	in.get("/", "User-Agent", "b").want(t, 200, "1", "")
}

func TestSetCookieOfAStoredResponse(t *testing.T) {
	const cookie = "a=b"
	for _, tc := range []struct {
		name, directive, hit string
	}{
		{"strip", block("set_cookie strip"), ""},
		{"ignore", block("ignore Set-Cookie"), ""},
		{"store", block("set_cookie store"), cookie},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Set-Cookie", cookie))
			in := start(t, proxied(tc.directive), o)
			if got := in.get("/").Header.Get("Set-Cookie"); got != cookie {
				t.Errorf("whose request fetched it got Set-Cookie %q", got)
			}
			hit := in.get("/")
			hit.want(t, 200, "1", "")
			if got := hit.Header.Get("Set-Cookie"); got != tc.hit {
				t.Errorf("a hit has Set-Cookie %q, want %q", got, tc.hit)
			}
		})
	}
}

// TestStricterRulesHoldForWhatIsStored reloads with other rules after a response was stored.
func TestStricterRulesHoldForWhatIsStored(t *testing.T) {
	begun := time.Now()
	for _, tc := range []struct {
		name          string
		before, after string
		response      []string
		served        bool
		check         func(t *testing.T, a *answer)
	}{
		{"set_cookie refuse", block("set_cookie store"), "larder", []string{"Cache-Control", "max-age=60", "Set-Cookie", "a=b"}, false, nil},
		{"set_cookie strip", block("set_cookie store"), block("set_cookie strip"), []string{"Cache-Control", "max-age=60", "Set-Cookie", "a=b"}, true, withoutCookie},
		{"ignore Set-Cookie", block("set_cookie store"), block("ignore Set-Cookie"), []string{"Cache-Control", "max-age=60", "Set-Cookie", "a=b"}, true, withoutCookie},
		{"max_ttl", "larder", block("max_ttl 30s"), []string{"Cache-Control", "max-age=60"}, true, func(t *testing.T, a *answer) { a.wantTTL(t, 30, begun) }},
		{"ttl", block("ttl 5m"), block("ttl 1m"), nil, true, func(t *testing.T, a *answer) { a.wantTTL(t, 60, begun) }},
		{"no ttl", block("ttl 5m"), "larder", nil, false, nil},
		{"no ignore", block("ignore Cache-Control", "ttl 5m"), block("ttl 5m"), []string{"Cache-Control", "private"}, false, nil},
		{"set_cookie strip no more", block("set_cookie strip"), "larder", []string{"Cache-Control", "max-age=60", "Set-Cookie", "a=b"}, false, nil},
		{"no ignore Set-Cookie", block("ignore Set-Cookie"), "larder", []string{"Cache-Control", "max-age=60", "Set-Cookie", "a=b"}, false, nil},
		{"set_cookie store no more, by a field that private names", block("set_cookie store"), "larder", []string{"Cache-Control", `max-age=60, private="set-cookie"`, "Set-Cookie", "a=b"}, false, nil},
		{"no ignore Vary", block("ignore Vary"), "larder", []string{"Cache-Control", "max-age=60", "Vary", "X-Id"}, false, nil},
		{"no ignore Vary, of a star", block("ignore Vary"), "larder", []string{"Cache-Control", "max-age=60", "Vary", "*"}, false, nil},
		{"no ignore Vary, of a response without", block("ignore Vary"), "larder", []string{"Cache-Control", "max-age=60"}, true, nil},
		{"ignore Vary", "larder", block("ignore Vary"), []string{"Cache-Control", "max-age=60", "Vary", "X-Id"}, true, nil},
		{"no heuristic", block("heuristic on"), "larder", []string{"Last-Modified", httpDate(-1000 * time.Second)}, false, nil},
		{"targeted", "larder", block("targeted X-Other"), []string{"CDN-Cache-Control", "max-age=60", "Cache-Control", "no-store"}, false, nil},
		{"max_body", "larder", block("max_body 1B"), []string{"Cache-Control", "max-age=60", "X-Long", "yes"}, false, nil},
		{
			"tags keep_headers", block("tags {\nkeep_headers\n}"), "larder",
			[]string{"Cache-Control", "max-age=60", "Surrogate-Key", "a"},
			true,
			func(t *testing.T, a *answer) {
				if got := a.Header.Get("Surrogate-Key"); got != "" {
					t.Errorf("Surrogate-Key %q", got)
				}
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
				for i := 0; i < len(tc.response); i += 2 {
					w.Header().Add(tc.response[i], tc.response[i+1])
				}
				_, _ = io.WriteString(w, "body")
			})
			in := start(t, proxied(tc.before), o)
			in.get("/")
			if a := in.get("/"); !a.isHit() {
				t.Fatalf("not stored: %q", a.cacheStatus())
			}
			in.load(proxied(tc.after), o)
			a := in.get("/")
			if a.isHit() != tc.served {
				t.Fatalf("Cache-Status %q after the reload, want a hit: %v", a.cacheStatus(), tc.served)
			}
			if tc.check != nil {
				tc.check(t, a)
			}
		})
	}
}

func withoutCookie(t *testing.T, a *answer) {
	t.Helper()
	if got := a.Header.Get("Set-Cookie"); got != "" {
		t.Errorf("Set-Cookie %q", got)
	}
}

// pageFor answers with the number of the request and the X-Id that it was asked with.
func pageFor(header ...string) func(w http.ResponseWriter, v *visit) {
	return func(w http.ResponseWriter, v *visit) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		_, _ = io.WriteString(w, "page of "+v.Header.Get("X-Id"))
	}
}

// laxAndStrict has two handlers for one URL: the lax one for X-Id 1, the strict one for all else.
func laxAndStrict(lax, strict string) setup {
	return proxied("@lax header X-Id 1\n@strict not header X-Id 1\n" +
		"larder @lax {\n" + lax + "\n}\nlarder @strict {\n" + strict + "\n}")
}

// TestStricterHandlerOfTheSameURL: what a lax handler has stored or is fetching is no answer at one
// that would have refused it.
func TestStricterHandlerOfTheSameURL(t *testing.T) {
	for _, tc := range []struct {
		name, lax, strict string
		request           []string // fields of every request
		response          []string
		stores            bool // the strict handler does, under a key of its own kind
	}{
		{"set_cookie", "set_cookie strip", "set_cookie refuse", nil, []string{"Set-Cookie", "sid=1"}, false},
		{"ignore Set-Cookie", "ignore Set-Cookie", "", nil, []string{"Set-Cookie", "sid=1"}, false},
		{"ignore Vary", "ignore Vary", "", nil, []string{"Vary", "X-Id"}, true},
		{"ignore Vary of a star", "ignore Vary", "", nil, []string{"Vary", "*"}, false},
		{"client_directives", "client_directives ignore", "", []string{"Cache-Control", "no-store"}, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGate(t, pageFor(append(tc.response, "Cache-Control", "max-age=60")...))
			in := start(t, laxAndStrict(tc.lax, tc.strict), g.origin)
			as := func(id string) func(int) []string {
				return func(int) []string { return append([]string{"X-Id", id}, tc.request...) }
			}
			first := gather(t, in, 1, http.MethodGet, "/", as("1"))
			fetch := g.next(t, 1)
			second := gather(t, in, 1, http.MethodGet, "/", as("2"))
			if len(tc.request) == 0 {
				parked(t, 2)
			} else { // a request with no-store does not wait
				open(g.next(t, 1)...)
			}
			open(fetch...)
			first.all()[0].want(t, 200, "page of 1", "Larder; fwd=uri-miss; stored")
			if len(tc.request) == 0 {
				open(g.next(t, 1)...)
			}
			second.all()[0].want(t, 200, "page of 2", "")
			settled(t, in)

			if a := in.get("/", as("1")(0)...); !a.isHit() || a.body != "page of 1" {
				t.Errorf("the lax handler: %q %q", a.cacheStatus(), a.body)
			}
			third := gather(t, in, 1, http.MethodGet, "/", as("2"))
			if !tc.stores {
				open(g.next(t, 1)...)
			}
			if a := third.all()[0]; a.isHit() != tc.stores || a.body != "page of 2" {
				t.Errorf("the strict handler: %q %q", a.cacheStatus(), a.body)
			}
			in.client.CloseIdleConnections()
		})
	}
}

// TestNoStoreThatWasIgnored: what a request with no-store has fetched where that had no effect is
// not used once it has (RFC 9111 5.2.1.5).
func TestNoStoreThatWasIgnored(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, proxied(block("client_directives ignore")), o)
	in.get("/", "Cache-Control", "no-store").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	if a := in.get("/"); !a.isHit() {
		t.Fatalf("not stored: %q", a.cacheStatus())
	}
	in.load(proxied("larder"), o)
	in.get("/").want(t, 200, "2", "")
}

// TestVaryOf304WhereItIsIgnored: a 304 that adds a Vary where that is ignored leaves nothing that a
// handler which obeys it would give to others.
func TestVaryOf304WhereItIsIgnored(t *testing.T) {
	o := newOrigin(t, counted(func(w http.ResponseWriter, r *http.Request, number int) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", `"a"`)
		switch number {
		case 1:
			w.Header().Set("Age", "60")
		default:
			w.Header().Set("Vary", "X-Id")
		}
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, "page of "+r.Header.Get("X-Id"))
	}))
	in := start(t, proxied(block("ignore Vary")), o)
	in.get("/", "X-Id", "1").want(t, 200, "page of 1", "")
	in.get("/", "X-Id", "1").want(t, 200, "page of 1", "Larder; fwd=stale; fwd-status=304; stored")
	if a := in.get("/", "X-Id", "2"); !a.isHit() {
		t.Fatalf("not renewed: %q", a.cacheStatus())
	}
	in.load(proxied("larder"), o)
	in.get("/", "X-Id", "2").want(t, 200, "page of 2", "")
}

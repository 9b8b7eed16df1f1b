package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// secretHash is "secret" at bcrypt's lowest cost.
const secretHash = "$2a$04$yCPNXCnEvPZI/mRwLoBh/ei.vNS1tDSD7WKUGYIxRxptF76q1UTmO"

func TestHitsAreBehindAuthentication(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "public, max-age=60"))
	in := start(t, setup{site: "basic_auth {\nann " + secretHash + "\n}\nlarder {\nstatus full\n}\nreverse_proxy {{origin}}"}, o)
	in.get("/").want(t, 401, "", "")
	auth := []string{"Authorization", "Basic YW5uOnNlY3JldA=="}
	in.get("/", auth...).want(t, 200, "1", "")
	hit := in.get("/", auth...)
	hit.want(t, 200, "1", "")
	if !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
		t.Errorf("an explicitly public response: %q", hit.cacheStatus())
	}
	denied := in.get("/")
	denied.want(t, 401, "", "")
	if denied.body == "1" {
		t.Error("the stored body came without authentication")
	}
	in.get("/", "Authorization", "Basic YW5uOndyb25n").want(t, 401, "", "")
}

func TestAuthorisedResponseIsNotStored(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	in := start(t, setup{site: "basic_auth {\nann " + secretHash + "\n}\nlarder {\nstatus full\n}\nreverse_proxy {{origin}}"}, o)
	for _, want := range []string{"1", "2", "3"} {
		a := in.get("/", "Authorization", "Basic YW5uOnNlY3JldA==")
		a.want(t, 200, want, "")
		if !strings.HasSuffix(a.cacheStatus(), "detail=authorization") {
			t.Errorf("Cache-Status %q", a.cacheStatus())
		}
	}
}

const password = "\nbob $2a$04$n.WBdYHwdZjzsaHyYPIiLuMi8TGOACtIpTMO5BYRaM9ZJ2XBTHZte\n}\n"

// asking is what forward_auth is short for, with a matcher of its own for a yes and the client's
// method.
func asking(yes string) string {
	return "route {\nreverse_proxy {{origin}} {\nrewrite /auth\n@yes " + yes +
		"\nhandle_response @yes {\nrequest_header X-User {rp.header.X-User}\n}\n}\n}\n"
}

// TestCacheInFrontOfAuthenticationIsWarnedOf: with `order larder before rewrite` an anonymous
// visitor gets the page that a member has fetched, if the origin calls it public. That is the
// operator's order, so it is followed, but not without a word.
func TestCacheInFrontOfAuthenticationIsWarnedOf(t *testing.T) {
	const before, after = "order larder before rewrite", ""
	basicAuth := "basic_auth {" + password
	forwardAuth := "forward_auth {{origin}} {\nuri /auth\ncopy_headers X-User\n}\n"
	proxy := "reverse_proxy {{origin}}\n"
	for _, tc := range []struct {
		name, order, site string
		warned            string // what the warning names; empty for none
	}{
		{"before rewrite, basic_auth", before, "larder\n" + basicAuth + proxy, "basic_auth"},
		{"before rewrite, basic_auth for some", before, "larder\nbasic_auth /private/* {" + password + proxy, "basic_auth"},
		{"before rewrite, forward_auth", before, "larder\n" + forwardAuth + proxy, "forward_auth"},
		{"forward_auth that asks with HEAD", before, "larder\n" + strings.Replace(forwardAuth, "uri /auth", "uri /auth\nmethod HEAD", 1) + proxy, "forward_auth"},
		{"reverse_proxy that takes a 204 for a yes", before, "larder\n" + asking("status 204") + proxy, "forward_auth"},
		{"reverse_proxy that takes a field for a yes", before, "larder\n" + asking("header X-User *") + proxy, "forward_auth"},
		{"reverse_proxy that goes on after a 404", before, "larder\n" + asking("status 404") + proxy, ""},
		{"above it in a route", after, "route {\nlarder\n" + basicAuth + proxy + "}", "basic_auth"},
		{"it stands in a handle", after, "larder\nhandle /private/* {\n" + basicAuth + proxy + "}\nhandle {\n" + proxy + "}", "basic_auth"},
		{"by default, basic_auth", after, "larder\n" + basicAuth + proxy, ""},
		{"by default, forward_auth", after, "larder\n" + forwardAuth + proxy, ""},
		{"below it in a route", after, "route {\n" + basicAuth + "larder\n" + proxy + "}", ""},
		{"in another handle", after, "handle /private/* {\n" + basicAuth + proxy + "}\nhandle {\nlarder\n" + proxy + "}", ""},
		{"none", before, "larder\n" + proxy, ""},
		{"a reverse_proxy that answers", before, "larder\nreverse_proxy {{origin}} {\nmethod GET\nhandle_response {\nrespond ok\n}\n}", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := warnings(t, setup{global: tc.order, site: tc.site}, newOrigin(t, numbered()))
			if tc.warned == "" {
				if len(got) > 0 {
					t.Errorf("warned in vain: %q", got)
				}
				return
			}
			if len(got) != 1 || !strings.Contains(got[0], "larder stands in front of "+tc.warned) ||
				!strings.HasPrefix(got[0], "srv0 routes/0/handle/0/routes/") || !strings.Contains(got[0], "(localhost)") {
				t.Errorf("warnings %q, want one that names %s, the server and the route", got, tc.warned)
			}
		})
	}
}

// Two larder handlers for one request, and one that no request comes to, are warned of: both can be
// meant, and seldom are. Each case is the block of a handle, which Caddy sorts by their paths.
func TestLarderThatIsNotMeantIsWarnedOf(t *testing.T) {
	const proxy, other = "\nreverse_proxy {{origin}}\n", "\nlarder {\nstatus full\n}"
	const through, both = "each request that comes here has come through the larder at apps/http/servers/srv0/routes/0/handle/0/routes/", "what matches the larder at"
	var site strings.Builder
	var want []string
	for i, tc := range []struct{ name, block, warned string }{
		{"once", "larder" + proxy, ""},
		{"twice", "larder" + other + proxy, through},
		{"once for some", "larder /a/*" + other + proxy, both},
		{"twice for the same", "@a not path /a/*\nlarder @a\nlarder @a {\nstatus full\n}" + proxy, through},
		{"for some and fewer", "@a {\npath /a/*\nnot header Cookie *\n}\n@b not header Cookie *\nlarder @a\nlarder @b {\nstatus full\n}" + proxy, both},
		{"for one or the other", "@a path /a/*\n@b path /b/*\nlarder @a\nlarder @b {\nstatus full\n}" + proxy, ""},
		{"in two handles", "handle /a/* {\nlarder" + proxy + "}\nhandle {\nlarder" + proxy + "}", ""},
		{"in two routes", "route /a/* {\nlarder" + proxy + "}\nroute {\nlarder" + proxy + "}", ""},
		{"beside one that observes", "larder {\nobserve\n}\nlarder" + proxy, ""},
		{"twice for the same, but for what a rewrite changes", "route {\nlarder /a/*\nuri strip_prefix /a\nlarder /a/*" + proxy + "}", ""},
		{"twice for the same, but for a field", "@a header A a\nroute {\nlarder @a\nrequest_header -A\nlarder @a" + proxy + "}", ""},
		{"twice for the same, but for the query", "@a query a=*\nroute {\nlarder @a {\nkey {\nquery ignore a\n}\n}\nheader A b\nlarder @a" + proxy + "}", ""},
		{"twice for the same, behind a field of the response", "@a header A a\nroute {\nlarder @a\nheader A b\nlarder @a" + proxy + "}", through},
		{"behind reverse_proxy", "route {" + proxy + "larder\n}", "reverse_proxy stands in front of larder and answers each request itself"},
		{"behind a file_server that goes on", "route {\nfile_server {\npass_thru\n}\nlarder" + proxy + "}", ""},
	} {
		path := string(rune('a' + i))
		fmt.Fprintf(&site, "# %s\nhandle /%s {\n%s\n}\n", tc.name, path, tc.block)
		if tc.warned != "" {
			want = append(want, fmt.Sprintf("srv0 routes/0/handle/0/routes/%d/ ", i)+tc.warned)
		}
	}
	got := warnings(t, setup{site: site.String()}, newOrigin(t, numbered()))
	if len(got) != len(want) {
		t.Fatalf("warnings %q, want %q", got, want)
	}
	for i := range want {
		route, said, _ := strings.Cut(want[i], "/ ")
		if !strings.HasPrefix(got[i], route+"/") || !strings.Contains(got[i], "(localhost): larder may stand in the wrong place: see the hint: "+said) {
			t.Errorf("warning %q, want %q", got[i], want[i])
		}
	}
}

func TestAccessLog(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
		_, _ = io.WriteString(w, r.Header.Get("X-Id"))
	})
	log := newAccessLog(t)
	in := start(t, setup{site: log.directive() + `
	log_append upstream {http.reverse_proxy.upstream.hostport}
	log_append color {vars.color}
	route {
		larder
		vars color blue
		log_append inner {http.request.uri.path}
		reverse_proxy {{origin}} {
			header_up X-Id {http.request.uuid}
		}
	}`}, o)
	upstream := strings.TrimPrefix(o.URL, "http://")
	for _, tc := range []struct{ uri, status, reason string }{
		{"/?cc=max-age%3D60", "miss", ""},
		{"/?cc=no-store", "miss", "no-store"},
		{"/?cc=no-store&again", "miss", "no-store"},
	} {
		a := in.get(tc.uri)
		got := log.entry(t, http.MethodGet, tc.uri)
		for field, want := range map[string]string{
			"larder_status": tc.status, "upstream": upstream, "color": "blue", "inner": "/", "uuid": a.body, "larder_reason": tc.reason,
		} {
			if value, _ := got[field].(string); value != want {
				t.Errorf("%s: access log has %s=%q, want %q", tc.uri, field, value, want)
			}
		}
		if a.body == "" {
			t.Errorf("%s: the origin saw no UUID", tc.uri)
		}
	}
	in.do(http.MethodPost, "/?post", "")
	in.do(http.MethodHead, "/?cc=max-age%3D60", "")
	for _, tc := range []struct {
		method, uri    string
		status, reason any
	}{
		{http.MethodPost, "/?post", "bypass", "method"},
		{http.MethodHead, "/?cc=max-age%3D60", "hit", nil},
	} {
		got := log.entry(t, tc.method, tc.uri)
		if got["larder_status"] != tc.status || got["larder_reason"] != tc.reason {
			t.Errorf("%s %s: access log has %v, %v, want %v, %v", tc.method, tc.uri, got["larder_status"], got["larder_reason"], tc.status, tc.reason)
		}
	}
}

// TestHandlersThatFailAreNoted has a request that ends in an error counted and logged, and its
// error route told, as any other.
func TestHandlersThatFailAreNoted(t *testing.T) {
	log := newAccessLog(t)
	in := start(t, setup{site: log.directive() + `
	larder
	root * ` + t.TempDir() + `
	file_server
	handle_errors {
		respond "{http.larder.status} {http.larder.reason}"
	}`}, nil)
	for range 2 { // the second finds the URL remembered as not shareable
		before := in.metric("caddy_larder_requests_total", `outcome="miss"`)
		in.get("/nothing").want(t, 404, "miss error", "")
		if after := in.metric("caddy_larder_requests_total", `outcome="miss"`); after != before+1 {
			t.Errorf("misses went from %v to %v", before, after)
		}
	}
	if got := log.entry(t, http.MethodGet, "/nothing"); got["larder_status"] != "miss" || got["larder_reason"] != "error" {
		t.Errorf("access log has %v, %v", got["larder_status"], got["larder_reason"])
	}
}

func TestStatusPlaceholderInADeferredHeader(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
		_, _ = io.WriteString(w, "body")
	})
	in := start(t, setup{site: `header >X-Larder "{http.larder.status} {http.larder.reason}"` + "\nlarder\nreverse_proxy {{origin}}"}, o)
	for _, tc := range []struct{ method, path, want string }{
		{"GET", "/?cc=max-age%3D60", "miss "},
		{"GET", "/?cc=max-age%3D60", "hit "},
		{"GET", "/?cc=no-store", "miss no-store"},
		{"GET", "/?cc=no-store", "miss no-store"},
		{"POST", "/", "bypass method"},
	} {
		a := in.do(tc.method, tc.path, "")
		if got := a.Header.Get("X-Larder"); strings.TrimSpace(got) != strings.TrimSpace(tc.want) {
			t.Errorf("%s %s: %q, want %q", tc.method, tc.path, got, tc.want)
		}
	}
}

// What inner handlers have set by the response header is there for outer handlers that write into
// it. A hit has no inner handlers, so this is about misses, stored or not.
func TestOuterHeaderFromInnerPlaceholders(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
		_, _ = io.WriteString(w, r.Header.Get("X-Id"))
	})
	s := startSides(t, `header {
		>X-Upstream {http.reverse_proxy.upstream.hostport}
		>X-Color {vars.color}
		>X-Id {http.request.uuid}
	}
	route {
		{{larder}}
		vars color blue
		reverse_proxy {{origin}} {
			header_up X-Id {http.request.uuid}
		}
	}`, o)
	for _, path := range []string{"/?cc=max-age%3D60", "/?cc=no-store", "/?cc=no-store"} {
		for side, in := range map[string]*instance{"with": s.with, "without": s.without} {
			a := in.get(path)
			want := []string{strings.TrimPrefix(o.URL, "http://"), "blue", a.body}
			if got := []string{a.Header.Get("X-Upstream"), a.Header.Get("X-Color"), a.Header.Get("X-Id")}; !slices.Equal(got, want) || a.body == "" {
				t.Errorf("%s, %s: %q, want %q", path, side, got, want)
			}
		}
	}
}

func init() {
	caddy.RegisterModule(untypedPage{})
	httpcaddyfile.RegisterHandlerDirective("test_page", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return untypedPage{}, nil
	})
}

// untypedPage is a handler that answers without a Content-Type, in the way that the path names.
type untypedPage struct{}

func (untypedPage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.larder_test_page", New: func() caddy.Module { return untypedPage{} }}
}

func (untypedPage) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
	if r.URL.Path == "/nil" {
		w.Header()["Content-Type"] = nil
	}
	w.WriteHeader(http.StatusOK)
	if r.URL.Path == "/flushed" {
		_ = http.NewResponseController(w).Flush()
	}
	_, _ = io.WriteString(w, "<html><p>a page</p>")
	return nil
}

// A client gets the Content-Type that it would get without Larder: none where the header went out
// before the body or where a handler has kept it away, and net/http's guess elsewhere.
func TestContentTypeThatNobodySent(t *testing.T) {
	s := setup{site: "route {\nlarder\ntest_page\n}", disk: t.TempDir()}
	in := start(t, s, nil)
	check := func(step, path, query, want string) {
		t.Helper()
		a := in.get(path + query)
		a.want(t, 200, "<html><p>a page</p>", "")
		if got := a.Header.Get("Content-Type"); got != want {
			t.Errorf("%s, %s: Content-Type %q, want %q (%s)", path, step, got, want, a.cacheStatus())
		}
	}
	pages := map[string]string{"/flushed": "", "/nil": "", "/guessed": "text/html; charset=utf-8"}
	for path, want := range pages {
		check("fetched", path, "?cc=max-age=60", want)
		check("a hit", path, "?cc=max-age=60", want)
		check("not stored", path, "?cc=no-store", want)
		part := in.get(path+"?cc=max-age=60", "Range", "bytes=0-5")
		if got := part.Header.Get("Content-Type"); want == "" && got != "" {
			t.Errorf("%s, a part: Content-Type %q", path, got)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	in.load(s, nil)
	for path, want := range pages {
		check("a hit after a restart", path, "?cc=max-age=60", want)
	}
}

// TestRefreshWithPlaceholdersOfMap: a provider such as that of `map` keeps the client's replacer. A
// refresh in the background asks it while the client is answered. The race detector looks on.
func TestRefreshWithPlaceholdersOfMap(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=60")
		_, _ = io.WriteString(w, r.Header.Get("X-M"))
	})
	in := start(t, setup{site: `map {host} {m} {
		localhost one
		default   two
	}
	header X-Status {http.larder.status}
	larder {
		tags {
			add {m}
		}
	}
	reverse_proxy {{origin}} {
		header_up X-M {m}
	}`}, o)
	for i := range 300 {
		a := in.get(fmt.Sprintf("/%d", i%20))
		a.want(t, 200, "one", "")
	}
}

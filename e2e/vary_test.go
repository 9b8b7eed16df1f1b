package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/fcgi"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// foreignWriter is a handler of somebody else's that writes a field into the requests that pass it.
type foreignWriter struct{}

func (foreignWriter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.foreign_writer", New: func() caddy.Module { return new(foreignWriter) }}
}

func (foreignWriter) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	r.Header.Set("X-Foreign", host)
	return next.ServeHTTP(w, r)
}

// varying answers with the value of the request field that its path names, and says that it varies
// by it.
func varying(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/auth" {
		w.Header().Set("X-User", "user of "+r.Header.Get("X-Forwarded-For"))
		return
	}
	field := strings.TrimPrefix(r.URL.Path, "/")
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("Vary", field)
	_, _ = fmt.Fprintf(w, "%s: %s", field, r.Header.Get(field))
}

// writers are sites in which a field is written behind Larder that the client does not send.
var writers = []struct{ name, field, site, routes string }{
	{"reverse_proxy of itself", "X-Forwarded-For", "larder\nreverse_proxy {{origin}}", ""},
	{"header_up", "X-Client", "larder\nreverse_proxy {{origin}} {\nheader_up X-Client {remote_host}\n}", ""},
	{"header_up, the usual one", "X-Real-IP", "larder\nreverse_proxy {{origin}} {\nheader_up X-Real-IP {remote_host}\n}", ""},
	{"header_up of a conditional", "If-None-Match", "larder\nreverse_proxy {{origin}} {\nheader_up If-None-Match {remote_host}\n}", ""},
	{"header_up of Range", "Range", "larder\nreverse_proxy {{origin}} {\nheader_up Range {remote_host}\n}", ""},
	{"header_up, added", "X-Client", "larder\nreverse_proxy {{origin}} {\nheader_up +X-Client {remote_host}\n}", ""},
	{"request_header behind", "X-Client", "route {\nlarder\nrequest_header X-Client {remote_host}\nreverse_proxy {{origin}}\n}", ""},
	{"request_header in a handle", "X-Client", "larder\nhandle {\nrequest_header X-Client {remote_host}\nreverse_proxy {{origin}}\n}", ""},
	{"request_header behind a handle", "X-Client", "route {\nroute {\nlarder\n}\nrequest_header X-Client {remote_host}\nreverse_proxy {{origin}}\n}", ""},
	{"a name that the request tells", "X-Client", "route {\nlarder\nrequest_header X-{http.request.uri.query.n} {remote_host}\nreverse_proxy {{origin}}\n}", ""},
	{"a named route", "X-Client", "larder\ninvoke inner", "&(inner) {\nroute {\nrequest_header X-Client {remote_host}\nreverse_proxy {{origin}}\n}\n}"},
	{"larder in a named route", "X-Client", "route {\ninvoke inner\nrequest_header X-Client {remote_host}\nreverse_proxy {{origin}}\n}", "&(inner) {\nlarder\n}"},
	{"forward_auth", "X-User", "route {\nlarder\nforward_auth {{origin}} {\nuri /auth\ncopy_headers X-User\n}\nreverse_proxy {{origin}}\n}", ""},
	{"a foreign handler", "X-Foreign", "route {\nlarder\nforeign_writer\nreverse_proxy {{origin}}\n}", ""},
}

// TestVaryOnWhatIsWrittenBehind is the exchange in which one client got another's page although
// Vary told them apart, by the field that reverse_proxy writes behind Larder, and by others like
// it.
func TestVaryOnWhatIsWrittenBehind(t *testing.T) {
	for _, tc := range writers {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, varying)
			in := start(t, setup{site: tc.site, routes: tc.routes}, o)
			path := "/" + tc.field + "?n=Client"
			for range 2 {
				for _, address := range []string{"127.0.0.1", "127.0.0.9"} {
					a := in.from(t, address).get(path)
					if !strings.HasSuffix(a.body, address) || strings.Contains(a.cacheStatus(), "stored") || a.isHit() {
						t.Errorf("%s: %q %q", address, a.body, a.cacheStatus())
					}
				}
			}
		})
	}
}

// TestVaryOnWhatIsWrittenForSome is the exchange in which guests got the page of staff: a constant
// that is written, or a field that is taken away, behind a matcher is not the same for all who
// share a key.
func TestVaryOnWhatIsWrittenForSome(t *testing.T) {
	const toStaff, toGuests = "{\nheader_up X-Role staff\n}", "{\nheader_up X-Role guest\n}"
	for _, tc := range []struct{ name, site string }{
		{"two proxies", "@staff remote_ip 127.0.0.9\nlarder\nreverse_proxy @staff {{origin}} " + toStaff + "\nreverse_proxy {{origin}} " + toGuests},
		{"the second writes alone", "@staff remote_ip 127.0.0.9\nlarder\nreverse_proxy @staff {{origin}}\nreverse_proxy {{origin}} " + toGuests},
		{"a field that the key has not", "@staff header Cookie staff=1\nlarder\nreverse_proxy @staff {{origin}} " + toStaff + "\nreverse_proxy {{origin}}"},
		{"not the key's", "@staff not header Cookie guest=1\nlarder\nreverse_proxy @staff {{origin}} " + toStaff + "\nreverse_proxy {{origin}}"},
		{"a handle", "larder\n@staff client_ip 127.0.0.9\nhandle @staff {\nrequest_header X-Role staff\nreverse_proxy {{origin}}\n}\nhandle {\nrequest_header X-Role guest\nreverse_proxy {{origin}}\n}"},
		{"a handle that only writes", "larder\n@staff client_ip 127.0.0.9\nroute {\nhandle @staff {\nrequest_header X-Other a\n}\nhandle {\nrequest_header X-Role guest\n}\nreverse_proxy {{origin}}\n}"},
		{"an expression", "larder\n@staff `{http.request.cookie.staff} == '1'`\nhandle @staff {\nrequest_header X-Role staff\nreverse_proxy {{origin}}\n}\nhandle {\nreverse_proxy {{origin}}\n}"},
		{"taken from some", "route {\nlarder\n@guest not remote_ip 127.0.0.9\nrequest_header @guest -X-Role\nreverse_proxy {{origin}}\n}"},
		{"taken by a pattern", "route {\nlarder\n@guest not remote_ip 127.0.0.9\nrequest_header @guest -X-*\nreverse_proxy {{origin}}\n}"},
		{"taken by what a client names", "route {\nlarder\nrequest_header -{http.request.header.X-Drop}\nreverse_proxy {{origin}}\n}"},
		{"taken by the second proxy", "@staff remote_ip 127.0.0.9\nlarder\nreverse_proxy @staff {{origin}}\nreverse_proxy {{origin}} {\nheader_up -X-Role\n}"},
		{"named by the client", "route {\nlarder\nrequest_header X-{http.request.header.X-Name} guest\nreverse_proxy {{origin}}\n}"},
		{"HTTP's version", "@old protocol http/2+\nlarder\nreverse_proxy @old {{origin}}\nreverse_proxy {{origin}} " + toGuests},
		{"by a path that was rewritten for some", "route {\nlarder\n@staff remote_ip 127.0.0.9\nrewrite @staff /X-Role?staff\nrewrite {http.request.header.X-Path}\n@p path /X-Role\nrequest_header @p X-Role staff\nreverse_proxy {{origin}}\n}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := start(t, setup{site: tc.site}, newOrigin(t, varying))
			staff := in.from(t, "127.0.0.9").get("/X-Role", "X-Role", "any", "Cookie", "staff=1", "X-Path", "/X-Role")
			guest := in.from(t, "127.0.0.1").get("/X-Role", "X-Role", "any", "Cookie", "guest=1", "X-Drop", "X-Role", "X-Name", "Role", "X-Path", "/X-Role?a")
			for _, a := range []*answer{staff, guest} {
				if strings.Contains(a.cacheStatus(), "stored") || a.isHit() {
					t.Errorf("%q %q", a.body, a.cacheStatus())
				}
			}
		})
	}
}

// handles is a site of two handles, each with a larder and what it has behind that. The first is
// for staff.
func handles(staff, guests string) string {
	return "@staff header_regexp Cookie staff=1\nhandle @staff {\nroute {\nlarder\n" + staff + "\n}\n}\nhandle {\nroute {\nlarder\n" + guests + "\n}\n}"
}

// proxyThat is a reverse_proxy with options.
func proxyThat(options ...string) string {
	return "reverse_proxy {{origin}} {\n" + strings.Join(options, "\n") + "\n}"
}

// twoHandlers are two handles of one URL that write otherwise behind Larder. What the client sends
// is the same.
var twoHandlers = []struct{ name, staff, guests, toStaff, toGuests string }{
	{"two constants", proxyThat("header_up X-Role staff"), proxyThat("header_up X-Role guest"), "staff", "guest"},
	{"the second writes nothing", proxyThat("header_up X-Role staff"), proxyThat(), "staff", "any"},
	{"the first writes nothing", proxyThat(), proxyThat("header_up X-Role guest"), "any", "guest"},
	{"one removes it", proxyThat("header_up -X-Role"), proxyThat(), "", "any"},
	{"one removes it by a pattern", proxyThat("header_up -X-R*"), proxyThat(), "", "any"},
	{"one adds to it", proxyThat("header_up +X-Role staff"), proxyThat(), "any", "any"},
	{"two replacements", proxyThat("header_up X-Role any staff"), proxyThat("header_up X-Role any guest"), "staff", "guest"},
	{"in another order", proxyThat("header_up X-Role n m", "header_up X-Role m n"), "request_header X-Role m n\n" + proxyThat("header_up X-Role n m"), "any", "amy"},
	{"by another path", "handle /X-* {\nrequest_header X-Role staff\n}\n" + proxyThat(), "handle /Y-* {\nrequest_header X-Role staff\n}\n" + proxyThat(), "staff", "any"},
	{"behind another path of the same group", "handle /X-* {\nrequest_header X-Role staff\n}\n" + proxyThat(), "handle /X-Role {\nrequest_header X-Other a\n}\nhandle /X-* {\nrequest_header X-Role staff\n}\n" + proxyThat(), "staff", "any"},
	{"behind another rewrite", "rewrite * /X-Role?staff\n" + proxyThat("header_up X-Role {uri}"), "rewrite * /X-Role?guest\n" + proxyThat("header_up X-Role {uri}"), "/X-Role?staff", "/X-Role?guest"},
	{"behind another Host", "request_header Host staff.example\n" + proxyThat("header_up X-Role {host}"), "request_header Host guest.example\n" + proxyThat("header_up X-Role {host}"), "staff.example", "guest.example"},
}

// TestVaryOnWhatTwoHandlersWrite is the exchange in which guests got the page of staff although the
// origin told them apart: by a constant that each of two handlers of one URL writes for all who
// come to it.
func TestVaryOnWhatTwoHandlersWrite(t *testing.T) {
	for _, tc := range twoHandlers {
		t.Run(tc.name, func(t *testing.T) {
			in := start(t, setup{site: handles(tc.staff, tc.guests)}, newOrigin(t, varying))
			for i := range 2 {
				staff, guest := in.get("/X-Role", "X-Role", "any", "Cookie", "staff=1"), in.get("/X-Role", "X-Role", "any")
				if staff.body != "X-Role: "+tc.toStaff || guest.body != "X-Role: "+tc.toGuests {
					t.Errorf("staff get %q, guests %q; want %q, %q", staff.body, guest.body, tc.toStaff, tc.toGuests)
				}
				if i == 1 && (!staff.isHit() || !guest.isHit()) {
					t.Errorf("not kept beside each other: %q, %q", staff.cacheStatus(), guest.cacheStatus())
				}
			}
		})
	}
}

// TestVaryOnWhatAReloadWrites: a constant that has changed selects nothing of before. One that has
// not does, whatever else has changed.
func TestVaryOnWhatAReloadWrites(t *testing.T) {
	t.Setenv("LARDER_TEST_ROLE", "one")
	o := newOrigin(t, varying)
	site := func(constant string) setup { return setup{site: "larder\n" + proxyThat("header_up X-Role "+constant)} }
	in := start(t, site("one"), o)
	in.get("/X-Role").want(t, 200, "X-Role: one", "Larder; fwd=uri-miss; stored")
	in.load(site("two"), o)
	in.get("/X-Role").want(t, 200, "X-Role: two", "Larder; fwd=vary-miss; stored")
	in.load(setup{site: "header X-Front a\nlarder\n" + proxyThat("header_up X-Role one", "header_up X-Other {remote_host}")}, o)
	if a := in.get("/X-Role"); a.body != "X-Role: one" || !a.isHit() {
		t.Errorf("%q %q", a.body, a.cacheStatus())
	}
	in.load(site("{env.LARDER_TEST_ROLE}"), o)
	in.get("/X-Role").want(t, 200, "X-Role: one", "")
	t.Setenv("LARDER_TEST_ROLE", "three")
	in.load(setup{site: "header X-Front b\n" + site("{env.LARDER_TEST_ROLE}").site}, o)
	in.get("/X-Role").want(t, 200, "X-Role: three", "")
}

// TestVaryOnWhatTwoHandlersWriteForFollowers: who waits for the fetch of the other handler gets an
// answer of its own.
func TestVaryOnWhatTwoHandlersWriteForFollowers(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, v *visit) { varying(w, v.Request) })
	in := start(t, setup{site: handles(proxyThat("header_up X-Role staff"), proxyThat("header_up X-Role guest"))}, g.origin)
	staff := gather(t, in, 1, http.MethodGet, "/X-Role", func(int) []string { return []string{"Cookie", "staff=1"} })
	first := g.next(t, 1)
	guests := gather(t, in, 2, http.MethodGet, "/X-Role", nil)
	parked(t, 3)
	open(first...)
	open(g.next(t, 1)...)
	staff.all()[0].want(t, 200, "X-Role: staff", "")
	for _, guest := range guests.all() {
		guest.want(t, 200, "X-Role: guest", "")
	}
	settled(t, in)
}

// TestVaryOnAVariableOfFastCGI is the exchange in which a guest got a member's page: php_fastcgi's
// `env` goes before the field of the client.
func TestVaryOnAVariableOfFastCGI(t *testing.T) {
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Close() })
	go func() { _ = fcgi.Serve(app, http.HandlerFunc(varying)) }() // until it is closed
	for _, tc := range []struct {
		name, env, path     string
		toMember, toGuest   string
		storesNone, isAlike bool
	}{
		{"by the client", "HTTP_X_ROLE {http.request.cookie.role}", "/X-Role", "member", "", true, false},
		{"another field of the same variable", "HTTP_X_ROLE {http.request.cookie.role}", "/X_Role", "", "", true, false},
		{"the content type", "CONTENT_TYPE {http.request.cookie.role}", "/Content-Type", "member", "", true, false},
		{"a constant", "HTTP_X_ROLE all", "/X-Role", "all", "all", false, true},
		{"another field", "HTTP_X_OTHER {http.request.cookie.role}", "/X-Role", "", "", false, true},
		{"no field", "ROLE {http.request.cookie.role}", "/ROLE", "", "", false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			site := "larder\nreverse_proxy " + app.Addr().String() + " {\ntransport fastcgi {\nenv " + tc.env + "\n}\n}"
			in := start(t, setup{site: site}, newOrigin(t, varying))
			member, guest := in.get(tc.path, "Cookie", "role=member"), in.get(tc.path)
			field := strings.TrimPrefix(tc.path, "/")
			if member.body != field+": "+tc.toMember || guest.body != field+": "+tc.toGuest {
				t.Errorf("a member gets %q, a guest %q", member.body, guest.body)
			}
			if stored := strings.Contains(member.cacheStatus(), "stored"); stored == tc.storesNone || guest.isHit() != tc.isAlike {
				t.Errorf("a member %q, a guest %q", member.cacheStatus(), guest.cacheStatus())
			}
		})
	}
}

// TestVaryOnAURLThatIsRewrittenBehind: {uri} and {host} are the key's until a handler behind Larder
// makes others of them.
func TestVaryOnAURLThatIsRewrittenBehind(t *testing.T) {
	for _, tc := range []struct{ name, site, value string }{
		{"with the address", "rewrite * /{remote_host}{uri}", "{uri}"},
		{"for some", "@s remote_ip 127.0.0.9\nrewrite @s /staff{uri}", "{http.request.uri.path}"},
		{"the query", "uri query +t {header.X-Tenant}", "{http.request.uri.query.t}"},
		{"a substring", "uri replace X-Ctx {remote_host}", "{path}"},
		{"the host", "request_header Host {header.X-Tenant}", "{host}"},
		{"by a foreign handler", "foreign_writer", "{uri}"},
		{"what the query rules leave out", "", "{http.request.orig_uri}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			larder := "larder"
			if tc.site == "" {
				larder = "larder {\nkey {\nquery ignore utm_*\n}\n}"
			}
			site := "route {\n" + larder + "\n" + tc.site + "\nreverse_proxy {{origin}} {\nheader_up X-Ctx " + tc.value + "\n}\n}"
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Vary", "X-Ctx")
				_, _ = fmt.Fprint(w, r.Header.Get("X-Ctx"))
			})
			in := start(t, setup{site: site}, o)
			for _, tenant := range []string{"1", "2"} {
				a := in.get("/X-Ctx?utm_a="+tenant, "X-Tenant", tenant)
				if strings.Contains(a.cacheStatus(), "stored") || a.isHit() {
					t.Errorf("%q %q", a.body, a.cacheStatus())
				}
			}
		})
	}
}

// TestVaryOnWhatIsWrittenBehindAtLookUp: what was stored before a field was written is not found by
// it after.
func TestVaryOnWhatIsWrittenBehindAtLookUp(t *testing.T) {
	o := newOrigin(t, varying)
	in := start(t, proxied("larder"), o)
	in.get("/X-Client").want(t, 200, "X-Client: ", "Larder; fwd=uri-miss; stored")
	in.load(setup{site: "larder\nreverse_proxy {{origin}} {\nheader_up X-Client {remote_host}\n}"}, o)
	in.from(t, "127.0.0.9").get("/X-Client").want(t, 200, "X-Client: 127.0.0.9", "Larder; fwd=vary-miss")
	in.load(proxied("larder"), o)
	if a := in.get("/X-Client"); !a.isHit() {
		t.Errorf("written no more: %q", a.cacheStatus())
	}
}

// TestVaryOnWhatIsWrittenBehindForFollowers: who waits gets an answer of its own.
func TestVaryOnWhatIsWrittenBehindForFollowers(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, v *visit) { varying(w, v.Request) })
	in := start(t, proxied("larder"), g.origin)
	one := gather(t, in.from(t, "127.0.0.1"), 1, http.MethodGet, "/X-Forwarded-For", nil)
	first := g.next(t, 1)
	other := gather(t, in.from(t, "127.0.0.9"), 1, http.MethodGet, "/X-Forwarded-For", nil)
	parked(t, 2)
	open(first...)
	open(g.next(t, 1)...)
	one.all()[0].want(t, 200, "X-Forwarded-For: 127.0.0.1", "Larder; fwd=uri-miss")
	other.all()[0].want(t, 200, "X-Forwarded-For: 127.0.0.9", "")
	settled(t, in)
}

// TestVaryOnWhatATrustedProxySays: that Larder sees as the origin does, as far as it is there.
func TestVaryOnWhatATrustedProxySays(t *testing.T) {
	o := newOrigin(t, varying)
	s := proxied("larder")
	s.global = "servers {\ntrusted_proxies static 127.0.0.0/8\n}"
	in := start(t, s, o)
	for _, visitor := range []string{"203.0.113.1", "203.0.113.2"} {
		body := "X-Forwarded-For: " + visitor + ", 127.0.0.1"
		client := in.from(t, "127.0.0.1")
		if a := client.get("/X-Forwarded-For", "X-Forwarded-For", visitor); a.body != body || !strings.HasSuffix(a.cacheStatus(), "stored") {
			t.Errorf("%q %q", a.body, a.cacheStatus())
		}
		if a := client.get("/X-Forwarded-For", "X-Forwarded-For", visitor); a.body != body || !a.isHit() {
			t.Errorf("%q %q", a.body, a.cacheStatus())
		}
	}
	for _, address := range []string{"127.0.0.1", "127.0.0.9"} { // they are clients themselves
		in.from(t, address).get("/X-Forwarded-For").want(t, 200, "X-Forwarded-For: "+address, "")
	}
	// Which overwrites what the proxy said.
	s.site = "larder\nreverse_proxy {{origin}} {\nheader_up X-Forwarded-For {remote_host}\n}"
	in.load(s, o)
	for _, address := range []string{"127.0.0.1", "127.0.0.9"} {
		in.from(t, address).get("/X-Forwarded-For", "X-Forwarded-For", "203.0.113.1").want(t, 200, "X-Forwarded-For: "+address, "")
	}
}

// TestVaryThatStillSelects: what is written alike for all who share a key, taken away, or written
// where a request does not come by selects as before.
func TestVaryThatStillSelects(t *testing.T) {
	for _, tc := range []struct{ name, field, site string }{
		{"the scheme is in the key", "X-Forwarded-Proto", "larder\nreverse_proxy {{origin}}"},
		{"the host is in the key", "X-Forwarded-Host", "larder\nreverse_proxy {{origin}}"},
		{"a constant", "Accept-Encoding", "larder\nreverse_proxy {{origin}} {\nheader_up Accept-Encoding identity\n}"},
		{"a constant, in place", "Accept-Encoding", "route {\nlarder\nrequest_header Accept-Encoding identity\nreverse_proxy {{origin}}\n}"},
		{"made of what the key has", "X-Site", "larder\nreverse_proxy {{origin}} {\nheader_up X-Site {scheme}://{host}{uri}\n}"},
		{"a constant for a path", "X-Site", "route {\nlarder\nhandle /X-* {\nrequest_header X-Site a\n}\nhandle {\nrequest_header X-Site b\n}\nreverse_proxy {{origin}}\n}"},
		{"a constant for a keyed field", "X-Site", "larder {\nkey {\nheader X-Any\n}\n}\n@a header X-Any a\nreverse_proxy @a {{origin}} {\nheader_up X-Site a\n}\nreverse_proxy {{origin}}"},
		{"a constant behind what some are refused", "Accept-Encoding", "larder\n@no remote_ip 127.0.0.8\nrespond @no 403\nreverse_proxy {{origin}} {\nheader_up Accept-Encoding identity\n}"},
		{"a URL that is rewritten alike for all", "X-Site", "route {\nlarder\nrewrite * {uri}?a\nreverse_proxy {{origin}} {\nheader_up X-Site {uri}\n}\n}"},
		{"another field for some", "X-Client", "route {\nlarder\n@s remote_ip 127.0.0.9\nrequest_header @s -X-S*\nreverse_proxy {{origin}}\n}"},
		{"taken away", "Accept-Language", "larder\nreverse_proxy {{origin}} {\nheader_up -Accept-Language\n}"},
		{"written in front", "X-Client", "request_header X-Client {http.request.header.X-Any}\nlarder\nreverse_proxy {{origin}}"},
		{"written in another handle", "X-Client", "handle /other/* {\nrequest_header X-Client {remote_host}\nreverse_proxy {{origin}}\n}\nhandle {\nlarder\nreverse_proxy {{origin}}\n}"},
		{"nothing is written", "X-Client", "larder\nreverse_proxy {{origin}}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, varying)
			in := start(t, setup{site: tc.site}, o)
			header := []string{"X-Any", "a", "Accept-Language", "de"}
			if a := in.get("/"+tc.field, header...); !strings.HasSuffix(a.cacheStatus(), "; stored") {
				t.Errorf("%q %q", a.body, a.cacheStatus())
			}
			if a := in.get("/"+tc.field, header...); !a.isHit() {
				t.Errorf("%q %q", a.body, a.cacheStatus())
			}
			o.asked(t, 1)
		})
	}
}

func init() {
	caddy.RegisterModule(foreignWriter{})
	httpcaddyfile.RegisterHandlerDirective("foreign_writer", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return foreignWriter{}, nil
	})
}

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func init() { caddy.RegisterModule(eventRecorder{}) }

func TestSoftPurge(t *testing.T) {
	for _, tc := range []struct {
		name, directive string
		then            http.HandlerFunc
		says            string
	}{
		{"within stale-while-revalidate", block("stale_while_revalidate 5m"), answering(200, "Cache-Control", "max-age=60"), "Larder; hit; ttl=-N; detail=swr"},
		{"within stale-if-error, the origin fails", block("stale_if_error 5m"), answering(503), "Larder; hit; ttl=-N; detail=sie"},
		{"within stale-if-error, the origin does not", block("stale_if_error 5m"), answering(200, "Cache-Control", "max-age=60"), "Larder; fwd=stale; fwd-status=200; stored"},
		{"revalidation", "larder", answering(304), "Larder; fwd=stale; fwd-status=304; stored"},
		{"no window and a failure", "larder", answering(503), "Larder; fwd=stale; fwd-status=503"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var n atomic.Int64
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) > 1 {
					tc.then(w, r)
					return
				}
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Etag", `"v1"`)
				w.Header().Set("Surrogate-Key", "a")
				_, _ = io.WriteString(w, "old")
			})
			in := start(t, proxied(tc.directive), o)
			in.get("/").want(t, 200, "old", "Larder; fwd=uri-miss; stored")
			if got := in.purge(`{"tags":["a"],"soft":true}`); got != 1 {
				t.Errorf("matched %d", got)
			}
			if e := in.entries("?host=" + strings.TrimPrefix(in.url(""), "http://")).Entries; len(e) != 1 || e[0].TTL > 0 {
				t.Errorf("entries %+v", e)
			}
			second := in.get("/")
			second.wantParsed(t)
			if strings.Contains(tc.says, "ttl=") {
				if ttl := second.ttl(t); ttl > 0 {
					t.Errorf("ttl=%d of what was purged", ttl)
				}
				tail := tc.says[strings.LastIndex(tc.says, ";"):]
				if !second.isHit() || !strings.HasSuffix(second.cacheStatus(), tail) || second.body != "old" {
					t.Errorf("Cache-Status %q, body %q", second.cacheStatus(), second.body)
				}
				return
			}
			second.wantStatus(t, tc.says)
		})
	}
}

func TestPurgeOfAURLGoesThroughTheQueryRules(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, setup{site: `
		handle /sorted {
			` + keyed("query sort", "query ignore utm_*") + `
			reverse_proxy {{origin}}
		}
		handle {
			larder
			reverse_proxy {{origin}}
		}`}, o)
	for _, tc := range []struct {
		stored, purged string
		want           int
	}{
		{"/sorted?b=2&a=1&utm_x=y", "/sorted?a=1&b=2", 1},
		{"/sorted?a=1&b=2", "/sorted?utm_z=1&b=2&a=1", 1},
		{"/sorted?a=1", "/sorted?a=2", 0},
		{"/plain?b=2&a=1", "/plain?b=2&a=1", 1},
		{"/plain?b=2&a=1", "/plain?a=1&b=2", 0},
		{"/plain?utm_x=y", "/plain?utm_x=y", 1},
		{"/plain?utm_x=y", "/plain", 0},
	} {
		in.get(tc.stored)
		if got := in.purge(`{"urls":["` + in.url(tc.purged) + `"]}`); got != tc.want {
			t.Errorf("%s stored, %s purged: matched %d, want %d", tc.stored, tc.purged, got, tc.want)
		}
		in.purge(`{"all":true}`)
	}
}

// heard are the events that the tests' subscriber has been told of.
var heard struct {
	sync.Mutex
	events []caddy.Event
}

// eventRecorder is a subscriber of Caddy's events.
type eventRecorder struct{}

// CaddyModule implements caddy.Module.
func (eventRecorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.larder_test", New: func() caddy.Module { return new(eventRecorder) }}
}

// UnmarshalCaddyfile implements caddyfile.Unmarshaler.
func (*eventRecorder) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

// Handle implements caddyevents.Handler.
func (eventRecorder) Handle(_ context.Context, e caddy.Event) error {
	heard.Lock()
	defer heard.Unlock()
	heard.events = append(heard.events, e)
	return nil
}

func TestPurgedEvent(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60", "Surrogate-Key", "a"))
	s := proxied("larder")
	s.global = "events {\non larder.purged larder_test\n}"
	in := start(t, s, o)
	in.get("/1")
	in.get("/2")
	heard.Lock()
	heard.events = nil
	heard.Unlock()
	in.purge(`{"tags":["a"],"dry_run":true}`)
	in.purge(`{"tags":["a","b"],"urls":["` + in.url("/1") + `"],"soft":true}`)
	in.purge(`{"all":true}`)

	heard.Lock()
	defer heard.Unlock()
	if len(heard.events) != 2 {
		t.Fatalf("%d events, want one for each purge and none for the dry run", len(heard.events))
	}
	for i, want := range []map[string]any{
		{"matched": 2, "soft": true, "all": false, "tags": []string{"a", "b"}},
		{"matched": 2, "soft": false, "all": true},
	} {
		for name, value := range want {
			if got := heard.events[i].Data[name]; fmt.Sprint(got) != fmt.Sprint(value) {
				t.Errorf("event %d: %s is %v, want %v", i, name, got, value)
			}
		}
	}
}

// TestMatchedCountsEachResponseOnce: in whichever tiers it is, with each variant, and none that is
// purged already.
func TestMatchedCountsEachResponseOnce(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language")
		w.Header().Set("Surrogate-Key", "all "+r.Header.Get("Accept-Language"))
		_, _ = w.Write([]byte(strings.Repeat("x", 10_000)))
	})
	s := withDisk(t, "larder")
	s.options = "memory 256KiB" // a part of it: the rest is on disk only
	in := start(t, s, o)
	languages := []string{"de", "fr", "it"}
	const pages = 10
	for n := range pages {
		for _, language := range languages {
			in.get(fmt.Sprintf("/p/%d", n), "Accept-Language", language).want(t, 200, "", "")
		}
		in.awaitDisk(3 * (n + 1))
	}
	if n := in.stats().Memory.Entries; n == 0 || n == pages*3 {
		t.Fatalf("%d entries are in memory; want some", n)
	}
	base := in.url("/p/")
	for _, step := range []struct {
		body string
		want int
	}{
		{`{"tags":["all"],"dry_run":true}`, 30},
		{`{"urls":["` + base + `0"],"tags":["de"],"dry_run":true}`, 12}, // one is both
		{`{"urls":["` + base + `0"]}`, 3},
		{`{"urls":["` + base + `0"]}`, 0},
		{`{"tags":["de"],"soft":true}`, 9},
		{`{"tags":["de"],"soft":true}`, 0},
		{`{"tags":["de"]}`, 9}, // what is stale already goes all the same
		{`{"prefixes":["` + base + `"],"dry_run":true}`, 18},
		{`{"hosts":["` + strings.TrimPrefix(in.url(""), "http://") + `"]}`, 18},
		{`{"all":true}`, 0},
	} {
		if got := in.purge(step.body); got != step.want {
			t.Errorf("%s matched %d, want %d", step.body, got, step.want)
		}
	}
	eventually(t, "all room is given back", func() bool {
		st := in.stats()
		return st.Memory.Entries == 0 && st.Disk.Entries == 0
	})
}

// behindProxy is a site at a port of its own, which takes any Host and trusts 127.0.0.2. proxied
// asks it from there, direct from 127.0.0.1.
func behindProxy(t *testing.T, directive string, o *origin) (proxied, direct *instance) {
	t.Helper()
	port := freePort(t)
	s := setup{site: "respond unused", more: fmt.Sprintf("http://:%d {\n%s\nreverse_proxy {{origin}}\n}", port, directive)}
	s.global = "servers {\ntrusted_proxies static 127.0.0.2/32\n}"
	in := start(t, s, o)
	from := func(address string) *instance {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		transport := &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		}}
		t.Cleanup(transport.CloseIdleConnections)
		one := *in
		one.port, one.client = port, &http.Client{Transport: transport, CheckRedirect: in.client.CheckRedirect, Timeout: in.client.Timeout}
		return &one
	}
	return from("127.0.0.2"), from("127.0.0.1")
}

// claimsOf are the fields by which a proxy that ends TLS says what it was asked.
func claimsOf(scheme, host string) []string {
	return []string{"Host", "backend.internal", "X-Forwarded-Proto", scheme, "X-Forwarded-Host", host}
}

// What is stored behind a proxy that ends TLS is purged and listed by the URL that visitors know.
// It was stored as http://, so that a purge of the https URL answered "purged 0" and the old page
// stayed.
func TestPurgeBehindATrustedProxy(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in, _ := behindProxy(t, "larder", o)
	for _, tc := range []struct {
		name   string
		header []string
		url    string
	}{
		{"scheme and host", claimsOf("https", "example.com"), "https://example.com/page"},
		{"in capitals, with the default port", claimsOf("HTTPS", "EXAMPLE.com.:443"), "https://example.com/page"},
		{"a port of its own", claimsOf("https", "example.com:8443"), "https://example.com:8443/page"},
		{"the scheme alone", []string{"Host", "example.com", "X-Forwarded-Proto", "https"}, "https://example.com/page"},
		{"the scheme alone, beside its port", []string{"Host", "example.com:443", "X-Forwarded-Proto", "https"}, "https://example.com/page"},
		{"the host alone", []string{"Host", "backend.internal", "X-Forwarded-Host", "example.com"}, "http://example.com/page"},
		{"lists", claimsOf("http, https", "evil.test,example.com"), "https://example.com/page"},
		{"several lines", append(claimsOf("http", "evil.test"), "X-Forwarded-Proto", "https", "X-Forwarded-Host", "example.com"), "https://example.com/page"},
		{"no scheme and no host", claimsOf("gopher", "a/b"), "http://backend.internal/page"},
		{"empty ones", claimsOf("", ""), "http://backend.internal/page"},
		{"none", []string{"Host", "backend.internal"}, "http://backend.internal/page"},
	} {
		for _, selector := range []string{`{"urls":[%q]}`, `{"prefixes":[%q]}`} {
			in.get("/page", tc.header...).want(t, 200, "", "Larder; fwd=uri-miss; stored")
			if !in.get("/page", tc.header...).isHit() {
				t.Errorf("%s: not a hit", tc.name)
			}
			if l := in.entries("").Entries; len(l) != 1 || l[0].URL != tc.url {
				t.Errorf("%s: listed are %v, want %s", tc.name, l, tc.url)
			}
			if n := in.purge(fmt.Sprintf(selector, tc.url)); n != 1 {
				t.Errorf("%s: a purge of %s matches %d", tc.name, tc.url, n)
				in.purge(`{"all":true}`)
			}
		}
	}
	in.get("/page", claimsOf("https", "example.com")...)
	if n := in.purge(`{"hosts":["example.com"]}`); n != 1 {
		t.Errorf("a purge of the host matches %d", n)
	}
}

// What unsafe requests behind such a proxy change goes: their own URL, what the answer names by its
// public URL, and groups.
func TestInvalidationBehindATrustedProxy(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/by-location":
			w.Header().Set("Location", "https://example.com/page")
		case "/by-group":
			w.Header().Set("Cache-Group-Invalidation", `"g"`)
		}
		if r.Method == http.MethodGet {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Cache-Groups", `"g"`)
		}
		_, _ = io.WriteString(w, r.URL.Path)
	})
	in, _ := behindProxy(t, block("invalidate {\nurls {http.request.header.Destination}\n}"), o)
	claims := claimsOf("https", "example.com")
	for _, path := range []string{"/page", "/by-location", "/by-group", "/by-destination"} {
		in.get("/page", claims...)
		if !in.get("/page", claims...).isHit() {
			t.Fatal("not stored")
		}
		header := slices.Clone(claims)
		if path == "/by-destination" {
			header = append(header, "Destination", "https://example.com/page")
		}
		in.do(http.MethodPost, path, "x", header...).want(t, 200, "", "")
		if a := in.get("/page", claims...); a.isHit() {
			t.Errorf("POST %s: afterwards %q", path, a.cacheStatus())
		}
	}
}

// C24: who is not trusted names no URL, and shares nothing with those of whom a trusted proxy says
// the same: reverse_proxy tells the origin something else.
func TestClaimsOfTheUntrusted(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-Proto")+" "+r.Header.Get("X-Forwarded-Host"))
	})
	proxied, direct := behindProxy(t, "larder", o)
	for range 2 {
		direct.get("/", claimsOf("https", "example.com")...).want(t, 200, "http backend.internal", "")
		proxied.get("/", claimsOf("https", "example.com")...).want(t, 200, "https example.com", "")
	}
	o.asked(t, 2)
	for _, url := range []string{"http://backend.internal/", "https://example.com/"} {
		if n := direct.purge(fmt.Sprintf(`{"urls":[%q]}`, url)); n != 1 {
			t.Errorf("a purge of %s matches %d", url, n)
		}
	}
}

// A purge that has answered holds against a validation under way, although the 304 takes away what
// the purge found the response by.
func TestPurgeHoldsAgainstAValidationUnderWay(t *testing.T) {
	type pairs = []string
	post := func(path string) func(in *instance) int {
		return func(in *instance) int { in.do(http.MethodPost, path, "x"); return 1 }
	}
	purge := func(selectors string) func(in *instance) int {
		return func(in *instance) int { return in.purge(fmt.Sprintf(selectors, in.url(""))) }
	}
	tagged, search := pairs{"Surrogate-Key", "product-7", "Cache-Groups", `"g7"`}, pairs{"No-Vary-Search", `params=("u")`}
	for _, tc := range []struct {
		name                string
		first, notModified  pairs
		firstPath, thenPath string
		purge               func(in *instance) int
	}{
		{"tag, another comes", tagged, pairs{"Surrogate-Key", "product-8"}, "/p", "/p", purge(`{"tags":["product-7"]}%.0s`)},
		{"tag, none is left", tagged, pairs{"Surrogate-Key", ""}, "/p", "/p", purge(`{"tags":["product-7"]}%.0s`)},
		{"tag, softly", tagged, pairs{"Surrogate-Key", "product-8"}, "/p", "/p", purge(`{"tags":["product-7"],"soft":true}%.0s`)},
		{"invalidate", tagged, pairs{"Surrogate-Key", "product-8"}, "/p", "/p", post("/edit")},
		{"cache group", tagged, pairs{"Cache-Groups", `"g8"`}, "/p", "/p", post("/group")},
		{"URL by No-Vary-Search", search, pairs{"No-Vary-Search", ""}, "/p?u=x", "/p", purge(`{"urls":["%s/p"]}`)},
		{"URL of before", search, pairs{"No-Vary-Search", ""}, "/p?u=x", "/p", purge(`{"urls":["%s/p?u=x"]}`)},
		{"prefix of before", search, nil, "/p?u=x", "/p", purge(`{"prefixes":["%s/p?u"]}`)},
	} {
		for _, window := range []string{"", ", stale-while-revalidate=600"} {
			if window != "" && tc.name == "tag, softly" {
				continue // served stale within the window, whether it was purged or not
			}
			t.Run(tc.name+window, func(t *testing.T) {
				g := newGate(t, func(w http.ResponseWriter, v *visit) {
					fields := append(pairs{"Etag", `"v1"`, "Cache-Control", "max-age=600"}, tc.notModified...)
					switch {
					case v.Method == http.MethodPost:
						fields = pairs{"Cache-Group-Invalidation", `"g7"`}
					case v.number == 1:
						fields = append(pairs{"Etag", `"v1"`, "Age", "60", "Cache-Control", "max-age=60" + window}, tc.first...)
					case v.number > 3:
						fields = pairs{"Cache-Control", "max-age=600"}
					}
					for i := 0; i < len(fields); i += 2 {
						w.Header().Add(fields[i], fields[i+1])
					}
					if v.number > 1 && v.Header.Get("If-None-Match") != "" {
						w.WriteHeader(http.StatusNotModified)
						return
					}
					_, _ = io.WriteString(w, map[bool]string{true: "old", false: "new"}[v.number == 1])
				})
				in := start(t, proxied("larder {\ninvalidate /edit {\ntags product-7\n}\n}"), g.origin)
				ask := func(path string) *crowd { return gather(t, in, 1, http.MethodGet, path, nil) }
				first := ask(tc.firstPath)
				open(g.next(t, 1)...)
				first.all()
				settled(t, in)

				waits := ask(tc.thenPath)
				validation := g.next(t, 1)
				done := make(chan int)
				go func() { done <- tc.purge(in) }()
				if tc.name == "invalidate" || tc.name == "cache group" {
					open(g.next(t, 1)...)
				}
				if matched := <-done; matched != 1 {
					t.Errorf("the purge matched %d", matched)
				}
				later := ask(tc.thenPath)
				open(validation...)
				waits.all()[0].want(t, 200, "old", "")
				open(g.next(t, 1)...)
				soft := tc.name == "tag, softly"
				if a := later.all()[0]; a.body != "new" && !soft {
					t.Errorf("a request after the purge got %q %q", a.body, a.cacheStatus())
				}
				settled(t, in)
				if a := in.get(tc.thenPath); a.body != "new" && !soft || !a.isHit() {
					t.Errorf("stored is %q %q", a.body, a.cacheStatus())
				}
			})
		}
	}
}

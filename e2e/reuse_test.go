package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestRequestDirectives asks for what is stored, aged 50 s of 100, with directives of its own (RFC 9111 5.2.1).
func TestRequestDirectives(t *testing.T) {
	for _, tc := range []struct {
		name    string
		request []string
		hit     bool
	}{
		{"none", nil, true},
		{"max-age larger than the age", []string{"Cache-Control", "max-age=80"}, true},
		{"max-age smaller than the age", []string{"Cache-Control", "max-age=20"}, false},
		{"max-age=0", []string{"Cache-Control", "max-age=0"}, false},
		{"min-fresh smaller than the rest", []string{"Cache-Control", "min-fresh=20"}, true},
		{"min-fresh larger than the rest", []string{"Cache-Control", "min-fresh=80"}, false},
		{"no-cache", []string{"Cache-Control", "no-cache"}, false},
		{"no-cache in capitals, among others", []string{"Cache-Control", "foo=bar, NO-CACHE"}, false},
		{"Pragma", []string{"Pragma", "no-cache"}, false},
		{"Pragma beside Cache-Control", []string{"Pragma", "no-cache", "Cache-Control", "max-stale=1"}, true},
		{"no-store", []string{"Cache-Control", "no-store"}, true},
		{"only-if-cached", []string{"Cache-Control", "only-if-cached"}, true},
		{"max-stale", []string{"Cache-Control", "max-stale"}, true},
		{"no-transform", []string{"Cache-Control", "no-transform"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, answering(200, "Cache-Control", "max-age=100", "Age", "50"))
			in := start(t, proxied("larder"), o)
			in.get("/").want(t, 200, "1", "")
			if a := in.get("/", tc.request...); a.isHit() != tc.hit {
				t.Errorf("Cache-Status %q", a.cacheStatus())
			}
		})
	}
}

func TestOnlyIfCached(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=90", "Age", "100", "Etag", `"a"`))
	in := start(t, proxied("larder"), o)
	before := in.metric("caddy_larder_requests_total", `outcome="miss"`)
	in.get("/", "Cache-Control", "only-if-cached").want(t, 504, "", "")
	o.asked(t, 0)
	if after := in.metric("caddy_larder_requests_total", `outcome="miss"`); after != before+1 {
		t.Errorf("the request was counted %v times", after-before)
	}
	in.get("/").want(t, 200, "1", "")
	in.get("/", "Cache-Control", "only-if-cached").want(t, 504, "", "") // stale
	in.get("/", "Cache-Control", "only-if-cached, max-stale").want(t, 200, "1", "")
	o.asked(t, 1)
}

// TestAge: the origin's Age and Date count, and so does the time here.
func TestAge(t *testing.T) {
	for _, tc := range []struct {
		name     string
		response []string
		age, ttl int
	}{
		{"none", []string{"Cache-Control", "max-age=100"}, 0, 100},
		{"Age", []string{"Cache-Control", "max-age=100", "Age", "30"}, 30, 70},
		{"an old Date", []string{"Cache-Control", "max-age=100", "Date", httpDate(-30 * time.Second)}, 30, 70},
		{"the larger one of both", []string{"Cache-Control", "max-age=100", "Age", "50", "Date", httpDate(-30 * time.Second)}, 50, 50},
		{"a Date in the future", []string{"Cache-Control", "max-age=100", "Date", httpDate(time.Hour)}, 0, 100},
		{"Expires counts from Date", []string{"Expires", httpDate(70 * time.Second), "Date", httpDate(-30 * time.Second)}, 30, 70},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Date"] = nil
				for i := 0; i < len(tc.response); i += 2 {
					w.Header().Set(tc.response[i], tc.response[i+1])
				}
			})
			in := start(t, proxied("larder"), o)
			in.get("/")
			hit := in.get("/")
			if !hit.isHit() {
				t.Fatalf("Cache-Status %q", hit.cacheStatus())
			}
			age, err := strconv.Atoi(hit.Header.Get("Age"))
			if err != nil || age < tc.age || age > tc.age+5 {
				t.Errorf("Age %q, want %d", hit.Header.Get("Age"), tc.age)
			}
			hit.wantTTL(t, tc.ttl)
			for i := 0; i < len(tc.response); i += 2 {
				if name := tc.response[i]; name == "Date" && hit.Header.Get(name) != tc.response[i+1] {
					t.Errorf("Date %q, the origin sent %q", hit.Header.Get(name), tc.response[i+1])
				}
			}
			if _, err := http.ParseTime(hit.Header.Get("Date")); err != nil || len(hit.Header.Values("Date")) != 1 {
				t.Errorf("Date %q", hit.Header.Values("Date"))
			}
		})
	}
}

// TestDateIsAdded: what is stored has a Date even if the origin sent none. Go's server would add one of the present to what has none, so
// the site marks the one that is there before.
func TestDateIsAdded(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"] = nil
		w.Header().Set("Cache-Control", "max-age=100")
	})
	s := proxied("larder")
	s.site = "header >Date ^ \"stored \"\n" + s.site
	in := start(t, s, o)
	before := time.Now().Truncate(time.Second)
	in.get("/")
	arrived := time.Now()
	date, found := strings.CutPrefix(in.get("/").Header.Get("Date"), "stored ")
	at, err := http.ParseTime(date)
	if !found || err != nil || at.Before(before) || at.After(arrived) {
		t.Errorf("Date %q, the response arrived between %v and %v", date, before, arrived)
	}
}

// TestConditionals has the order of RFC 9110 13.2.2, on a hit, on a miss, and on what is passed through.
func TestConditionals(t *testing.T) {
	const modified = "Mon, 02 Jan 2023 03:04:05 GMT"
	earlier, later := "Sun, 01 Jan 2023 00:00:00 GMT", "Tue, 03 Jan 2023 00:00:00 GMT"
	for _, tc := range []struct {
		name    string
		request []string
		status  int
	}{
		{"If-None-Match, strong", []string{"If-None-Match", `"v1"`}, 304},
		{"If-None-Match, weak", []string{"If-None-Match", `W/"v1"`}, 304},
		{"If-None-Match, in a list", []string{"If-None-Match", `"a,b", "v1"`}, 304},
		{"If-None-Match, in two lines", []string{"If-None-Match", `"a"`, "If-None-Match", `"v1"`}, 304},
		{"If-None-Match, any", []string{"If-None-Match", "*"}, 304},
		{"If-None-Match, another", []string{"If-None-Match", `"v2"`}, 200},
		{"If-Modified-Since, the same", []string{"If-Modified-Since", modified}, 304},
		{"If-Modified-Since, later", []string{"If-Modified-Since", later}, 304},
		{"If-Modified-Since, earlier", []string{"If-Modified-Since", earlier}, 200},
		{"If-Modified-Since, no date", []string{"If-Modified-Since", "yesterday"}, 200},
		{"If-None-Match goes first, another", []string{"If-None-Match", `"v2"`, "If-Modified-Since", later}, 200},
		{"If-None-Match goes first, the same", []string{"If-None-Match", `"v1"`, "If-Modified-Since", earlier}, 304},
		{"If-Range, the same", []string{"Range", "bytes=0-1", "If-Range", `"v1"`}, 206},
		{"If-Range, another", []string{"Range", "bytes=0-1", "If-Range", `"v2"`}, 200},
		{"If-Range, weak", []string{"Range", "bytes=0-1", "If-Range", `W/"v1"`}, 200},
		{"If-Range, the date", []string{"Range", "bytes=0-1", "If-Range", modified}, 206},
		{"If-Range, another date", []string{"Range", "bytes=0-1", "If-Range", later}, 200},
		{"If-None-Match before Range", []string{"Range", "bytes=0-1", "If-None-Match", `"v1"`}, 304},
		{"a unit that is not bytes", []string{"Range", "lines=0-1"}, 200},
		{"a Range that is none", []string{"Range", "bytes=5-1"}, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Etag", `"v1"`)
				w.Header().Set("Last-Modified", modified)
				w.Header().Set("Content-Type", "text/plain")
				_, _ = io.WriteString(w, "0123456789")
			})
			in := start(t, proxied("larder"), o)
			for _, when := range []string{"miss", "hit"} {
				a := in.get("/", tc.request...)
				if a.StatusCode != tc.status {
					t.Errorf("%s: status %d, want %d", when, a.StatusCode, tc.status)
				}
				a.wantParsed(t)
				body := map[int]string{200: "0123456789", 206: "01", 304: ""}[tc.status]
				if a.body != body || a.err != nil {
					t.Errorf("%s: body %q, %v", when, a.body, a.err)
				}
				if tc.status == 304 && (a.Header.Get("Content-Type") != "" || a.Header.Get("Etag") != `"v1"` || a.Header.Get("Cache-Control") == "") {
					t.Errorf("%s: header of the 304: %v", when, a.Header)
				}
			}
			o.asked(t, 1)
		})
	}
}

// TestNotModifiedUpdatesWhatIsStored is RFC 9111 4.3.4 and 3.2.
func TestNotModifiedUpdatesWhatIsStored(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		if r.Header.Get("If-None-Match") == `"v1"` && r.Header.Get("If-Modified-Since") != "" {
			h.Set("Cache-Control", "max-age=60")
			h.Set("Etag", `"v1"`)
			h.Set("X-New", "1")
			h.Set("X-Both", "new")
			h.Set("Content-Length", "99")
			h.Set("Content-Encoding", "gzip")
			h.Set("Set-Cookie", "a=b")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Cache-Control", "max-age=90")
		h.Set("Age", "100")
		h.Set("Etag", `"v1"`)
		h.Set("Last-Modified", "Mon, 02 Jan 2023 03:04:05 GMT")
		h.Set("X-Old", "1")
		h.Set("X-Both", "old")
		_, _ = io.WriteString(w, "body")
	})
	in := start(t, withDisk(t, "larder"), o)
	in.get("/").want(t, 200, "body", "Larder; fwd=uri-miss; stored")
	in.get("/").want(t, 200, "body", "Larder; fwd=stale; fwd-status=304; stored")
	hit := in.get("/")
	hit.want(t, 200, "body", "")
	hit.wantTTL(t, 60)
	for name, want := range map[string]string{
		"X-Old": "1", "X-New": "1", "X-Both": "new", "Etag": `"v1"`, "Cache-Control": "max-age=60",
		"Content-Encoding": "", "Set-Cookie": "", "Content-Length": "4", "Last-Modified": "Mon, 02 Jan 2023 03:04:05 GMT",
	} {
		if got := hit.Header.Get(name); got != want {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	o.asked(t, 2)
}

func TestHeadOnStale(t *testing.T) {
	o := newOrigin(t, stale(answering(200, "Cache-Control", "max-age=60"), "Cache-Control", "max-age=90", "Etag", `"old"`))
	in := start(t, proxied("larder"), o)
	in.get("/").want(t, 200, "old", "")
	head := in.do(http.MethodHead, "/", "")
	head.want(t, 200, "", "")
	head.wantParsed(t)
	if head.body != "" || !strings.HasPrefix(head.cacheStatus(), "Larder; fwd=stale") {
		t.Errorf("HEAD: body %q, Cache-Status %q", head.body, head.cacheStatus())
	}
	if a := in.get("/"); a.body == "old" {
		t.Errorf("what the HEAD has found outdated was served: %q", a.cacheStatus())
	}
}

// TestLocationIsInvalidatedOnTheSameOriginOnly is RFC 9111 4.4.
func TestLocationIsInvalidatedOnTheSameOriginOnly(t *testing.T) {
	for _, field := range []string{"Location", "Content-Location"} {
		for _, tc := range []struct {
			name, value string // {{url}} stands for the site
			gone        bool
		}{
			{"a path", "/item?id=1", true},
			{"relative", "item?id=1", true},
			{"absolute", "{{url}}/item?id=1", true},
			{"absolute, in capitals", "HTTP://LOCALHOST:{{port}}/item?id=1", true},
			{"another host", "http://example.com/item?id=1", false},
			{"another port", "http://localhost:1/item?id=1", false},
			{"another scheme", "https://localhost:{{port}}/item?id=1", false},
			{"another query", "/item?id=2", false},
			{"no URL", "http://[::1/item?id=1", false},
		} {
			t.Run(field+", "+tc.name, func(t *testing.T) {
				var in *instance
				o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPost {
						value := strings.ReplaceAll(tc.value, "{{url}}", in.url(""))
						w.Header().Set(field, strings.ReplaceAll(value, "{{port}}", strconv.Itoa(in.port)))
						w.WriteHeader(http.StatusCreated)
						return
					}
					w.Header().Set("Cache-Control", "max-age=60")
				})
				in = start(t, proxied("larder"), o)
				in.get("/item?id=1")
				in.do(http.MethodPost, "/create", "x").want(t, 201, "", "")
				if hit := in.get("/item?id=1").isHit(); hit == tc.gone {
					t.Errorf("a hit: %v", hit)
				}
			})
		}
	}
}

// TestCacheGroups is RFC 9875.
func TestCacheGroups(t *testing.T) {
	for _, tc := range []struct {
		name, method, invalidation string
		status                     int
		gone                       bool
	}{
		{"its group", "POST", `"b"`, 200, true},
		{"one of several", "POST", `"x", "a"`, 200, true},
		{"another", "POST", `"c"`, 200, false},
		{"case matters", "POST", `"B"`, 200, false},
		{"a failure", "POST", `"b"`, 500, false},
		{"a safe method", "OPTIONS", `"b"`, 200, false},
		{"not a string", "POST", `b`, 200, false},
		{"not a list", "POST", `"b"; ;`, 200, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet {
					w.Header().Set("Cache-Group-Invalidation", tc.invalidation)
					w.WriteHeader(tc.status)
					return
				}
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Cache-Groups", `"a", "b"`)
			})
			in := start(t, proxied("larder"), o)
			for range 2 {
				if got := in.get("/").Header.Get("Cache-Groups"); got != `"a", "b"` {
					t.Errorf("Cache-Groups %q reached the client", got)
				}
			}
			if got := in.do(tc.method, "/other", "x").Header.Get("Cache-Group-Invalidation"); got != tc.invalidation {
				t.Errorf("Cache-Group-Invalidation %q reached the client", got)
			}
			if hit := in.get("/").isHit(); hit == tc.gone {
				t.Errorf("a hit: %v", hit)
			}
		})
	}
	t.Run("of another origin", func(t *testing.T) {
		o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Cache-Groups", `"a"`)
			w.Header().Set("Cache-Group-Invalidation", `"a"`)
		})
		s := proxied("larder")
		other := freePort(t)
		s.more = fmt.Sprintf("http://localhost:%d {\n%s\n}", other, s.site)
		in := start(t, s, o)
		in.get("/")
		resp, err := in.client.Post(fmt.Sprintf("http://localhost:%d/x", other), "", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if !in.get("/").isHit() {
			t.Error("one origin has invalidated another's group")
		}
	})
}

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

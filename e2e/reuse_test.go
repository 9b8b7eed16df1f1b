package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRequestDirectives asks for what is stored, aged 50 s of 100, with directives of its own (RFC
// 9111 5.2.1).
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
	begun := time.Now()
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
			if err != nil || age < tc.age || age > tc.age+secondsSince(begun) {
				t.Errorf("Age %q, want %d", hit.Header.Get("Age"), tc.age)
			}
			hit.wantTTL(t, tc.ttl, begun)
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

// TestDateIsAdded: what is stored has a Date even if the origin sent none. Go's server would add
// one of the present to what has none, so the site marks the one that is there before.
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

// TestConditionals has the order of RFC 9110 13.2.2, on a hit, on a miss, and on what is passed
// through.
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

// TestModifiedSinceWithoutDates holds that what has neither Last-Modified nor a Date that is one is
// as old as it is here (RFC 9111 4.3.2): for the client it was fetched for, who sent the condition,
// and for a hit; stored or not.
func TestModifiedSinceWithoutDates(t *testing.T) {
	for _, control := range []string{"max-age=600", "no-store"} {
		for status, since := range map[int]time.Duration{http.StatusOK: -time.Hour, http.StatusNotModified: time.Hour} {
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("If-Modified-Since") != "" {
					t.Error("the fetch carries the condition")
				}
				w.Header()["Date"] = []string{"yesterday"}
				w.Header().Set("Cache-Control", control)
				_, _ = io.WriteString(w, "body")
			})
			in := start(t, proxied("larder"), o)
			in.get("/", "If-Modified-Since", httpDate(since)).want(t, status, "", "")
			if control == "max-age=600" {
				in.get("/", "If-Modified-Since", httpDate(since)).want(t, status, "", "")
			}
			o.asked(t, 1)
		}
	}
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

// TestVaryByWhatAFetchGoesWithout asks for forty ranges, and by conditionals, of what varies by
// them: a fetch carries none of these fields, so there is one variant and one fetch (RFC 9111 4.1).
func TestVaryByWhatAFetchGoesWithout(t *testing.T) {
	o := newOrigin(t, answering(http.StatusOK, "Cache-Control", "max-age=60", "Etag", `"a"`,
		"Vary", "Range, If-None-Match, If-Modified-Since, If-Range, If-Match, If-Unmodified-Since"))
	in := start(t, proxied("larder"), o)
	for i := range 40 {
		a := in.get("/", "Range", fmt.Sprintf("bytes=0-%d", i))
		if a.StatusCode != http.StatusPartialContent {
			t.Fatalf("range %d: status %d", i, a.StatusCode)
		}
	}
	in.get("/", "If-None-Match", `"b"`).want(t, http.StatusOK, "1", "")
	in.get("/", "If-None-Match", `"a"`).want(t, http.StatusNotModified, "", "")
	o.asked(t, 1)
}

// TestChunkedGetWithoutContent asks for what is stored by a GET whose framing leaves open whether
// it has content. It has none, so it is no fat GET; one with a single byte is.
func TestChunkedGetWithoutContent(t *testing.T) {
	o := newOrigin(t, answering(http.StatusOK, "Cache-Control", "max-age=60"))
	in := start(t, proxied("larder"), o)
	in.get("/").want(t, http.StatusOK, "1", "")
	host := fmt.Sprintf("localhost:%d", in.port)
	ask := func(method, body string) *answer {
		return in.raw(method + " / HTTP/1.1\nHost: " + host + "\nTransfer-Encoding: chunked\nConnection: close\n\n" + body)
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if a := ask(method, "0\n\n"); !a.isHit() {
			t.Errorf("%s without content: Cache-Status %q", method, a.cacheStatus())
		}
		if a := ask(method, "1\nx\n0\n\n"); a.cacheStatus() != "Larder; fwd=bypass; detail=body" {
			t.Errorf("%s with content: Cache-Status %q", method, a.cacheStatus())
		}
	}
	if sent := o.last(); sent.ContentLength != -1 {
		t.Errorf("the fat GET reached the origin with Content-Length %d", sent.ContentLength)
	}
	o.asked(t, 3)
}

// TestUnsatisfiableRangeHasNoLifetime holds that our own 416 says nothing of how long the whole may
// be kept, nor how it is validated.
func TestUnsatisfiableRangeHasNoLifetime(t *testing.T) {
	o := newOrigin(t, answering(http.StatusOK, "Cache-Control", "public, max-age=600", "Cdn-Cache-Control", "max-age=600",
		"Surrogate-Control", "max-age=600", "Fastly-Cache-Control", "max-age=600", "Expires", httpDate(time.Hour), "Pragma", "x",
		"Etag", `"a"`, "Last-Modified", httpDate(-time.Hour), "Content-Language", "en", "X-Kept", "1"))
	in := start(t, proxied("larder {\n\ttargeted Surrogate-Control Cdn-Cache-Control\n}"), o)
	for _, who := range []string{"the leader", "a hit"} {
		a := in.get("/", "Range", "bytes=9-")
		a.want(t, http.StatusRequestedRangeNotSatisfiable, "", "")
		if a.Header.Get("Content-Range") != "bytes */1" || a.Header.Get("X-Kept") != "1" {
			t.Errorf("%s: header %v", who, a.Header)
		}
		for name := range a.Header {
			if slices.Contains([]string{
				"Cache-Control", "Cdn-Cache-Control", "Surrogate-Control", "Fastly-Cache-Control", "Expires", "Pragma", "Etag", "Last-Modified",
				"Content-Language",
			}, name) {
				t.Errorf("%s: the 416 has %s: %q", who, name, a.Header[name])
			}
		}
	}
}

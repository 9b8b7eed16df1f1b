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
	"sync/atomic"
	"testing"
	"time"
)

// answering answers with the status, the header fields given as pairs, and a body that is different each time: "1", "2", and so on.
func answering(status int, header ...string) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, n.Add(1))
	}
}

// isHit reports whether the answer came from the store.
func (a *answer) isHit() bool { return strings.HasPrefix(a.cacheStatus(), "Larder; hit") }

// ttl is the ttl parameter of our member of Cache-Status.
func (a *answer) ttl(t *testing.T) int {
	t.Helper()
	_, rest, found := strings.Cut(a.cacheStatus(), "; ttl=")
	digits, _, _ := strings.Cut(rest, ";")
	n, err := strconv.Atoi(digits)
	if !found || err != nil {
		t.Fatalf("Cache-Status %q has no ttl", a.cacheStatus())
	}
	return n
}

// wantTTL compares ttl with want, and leaves a slow machine a few seconds.
func (a *answer) wantTTL(t *testing.T, want int) {
	t.Helper()
	if got := a.ttl(t); got > want || got < want-5 {
		t.Errorf("Cache-Status %q, want ttl=%d", a.cacheStatus(), want)
	}
}

// block is the directive with lines in its block.
func block(lines ...string) string { return "larder {\n" + strings.Join(lines, "\n") + "\n}" }

// httpDate is the time d from now as it stands in header fields.
func httpDate(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }

// TestLifetime asks twice: the second answer is a hit with this rest of freshness, or comes from the origin.
func TestLifetime(t *testing.T) {
	const never = -1
	type pairs = []string
	lastModified := pairs{"Last-Modified", httpDate(-960 * time.Second)} // a tenth is 96 s, and 100 s on a machine that takes 40 s to come to it
	for _, tc := range []struct {
		name      string
		directive string
		status    int
		response  pairs
		request   pairs
		want      int // ttl of the second answer, or never
	}{
		{"no directive of its own, nothing said", "larder", 200, nil, nil, never},
		{"max-age", "larder", 200, pairs{"Cache-Control", "max-age=60"}, nil, 60},
		{"s-maxage beats max-age", "larder", 200, pairs{"Cache-Control", "max-age=60, s-maxage=90"}, nil, 90},
		{"Expires", "larder", 200, pairs{"Expires", httpDate(100 * time.Second)}, nil, 100},
		{"a 404 with max-age", "larder", 404, pairs{"Cache-Control", "max-age=60"}, nil, 60},
		{"a 500 with max-age", "larder", 500, pairs{"Cache-Control", "max-age=60"}, nil, 60},
		{"a 404 that says nothing", "larder", 404, nil, nil, never},

		{"ttl", block("ttl 5m"), 200, nil, nil, 300},
		{"ttl 203", block("ttl 5m"), 203, nil, nil, 300},
		{"ttl 300", block("ttl 5m"), 300, nil, nil, 300},
		{"ttl 301", block("ttl 5m"), 301, pairs{"Location", "/x"}, nil, 300},
		{"ttl 308", block("ttl 5m"), 308, pairs{"Location", "/x"}, nil, 300},
		{"ttl is not for 302", block("ttl 5m"), 302, pairs{"Location", "/x"}, nil, never},
		{"ttl is not for 404", block("ttl 5m"), 404, nil, nil, never},
		{"ttl is not for 500", block("ttl 5m"), 500, nil, nil, never},
		{"ttl yields to max-age", block("ttl 5m"), 200, pairs{"Cache-Control", "max-age=60"}, nil, 60},
		{"ttl yields to Expires", block("ttl 5m"), 200, pairs{"Expires", httpDate(100 * time.Second)}, nil, 100},
		{"ttl yields to an Expires in the past", block("ttl 5m"), 200, pairs{"Expires", "0"}, nil, never},
		{"ttl yields to no-store", block("ttl 5m"), 200, pairs{"Cache-Control", "no-store"}, nil, never},
		{"ttl yields to private", block("ttl 5m"), 200, pairs{"Cache-Control", "private"}, nil, never},
		{"ttl yields to no-cache", block("ttl 5m"), 200, pairs{"Cache-Control", "no-cache"}, nil, never},
		{"ttl beside public", block("ttl 5m"), 200, pairs{"Cache-Control", "public"}, nil, 300},
		{"ttl with a status", block("ttl 1m 404"), 404, nil, nil, 60},
		{"ttl with another status", block("ttl 1m 404"), 410, nil, nil, never},
		{"ttl with a status is not for 200", block("ttl 1m 404"), 200, nil, nil, never},
		{"ttl with 302", block("ttl 1m 302"), 302, pairs{"Location", "/x"}, nil, 60},
		{"ttl with a class", block("ttl 1m 4xx"), 410, nil, nil, 60},
		{"ttl with the class of server errors", block("ttl 1m 404 5xx"), 503, nil, nil, 60},
		{"ttl: the status beats its class", block("ttl 1m 4xx", "ttl 2m 404"), 404, nil, nil, 120},
		{"ttl: the status beats its class, whatever the order", block("ttl 2m 404", "ttl 1m 4xx"), 404, nil, nil, 120},
		{"ttl: one with status beats the general", block("ttl 1m", "ttl 2m 200"), 200, nil, nil, 120},
		{"ttl is not for Authorization", block("ttl 5m"), 200, nil, pairs{"Authorization", "Basic eDp5"}, never},
		{"ttl is not for Authorization, public or not", block("ttl 5m"), 200, pairs{"Cache-Control", "public"}, pairs{"Authorization", "Basic eDp5"}, never},
		{"ttl is not for a cookie", block("ttl 5m"), 200, nil, pairs{"Cookie", "a=b"}, never},
		{"ttl is for a cookie in the key", block("ttl 5m", "key {\ncookie a\n}"), 200, nil, pairs{"Cookie", "a=b"}, 300},
		{"ttl is not for a cookie beside one in the key", block("ttl 5m", "key {\ncookie a\n}"), 200, nil, pairs{"Cookie", "a=b; c=d"}, never},
		{"ttl after the cookie was dropped", "request_header -Cookie\n" + block("ttl 5m"), 200, nil, pairs{"Cookie", "a=b"}, 300},
		{"a cookie matters not to the origin's own word", block("ttl 5m"), 200, pairs{"Cache-Control", "max-age=60"}, pairs{"Cookie", "a=b"}, 60},
		{"ttl is not for event streams", block("ttl 5m"), 200, pairs{"Content-Type", "text/event-stream; charset=utf-8"}, nil, never},
		{"ttl counts from here, not from the origin's Age", block("ttl 5m"), 200, pairs{"Age", "1000"}, nil, 300},

		{"force_ttl", block("force_ttl 5m"), 200, nil, nil, 300},
		{"force_ttl beats max-age", block("force_ttl 5m"), 200, pairs{"Cache-Control", "max-age=60"}, nil, 300},
		{"force_ttl beats s-maxage", block("force_ttl 5m"), 200, pairs{"Cache-Control", "s-maxage=0"}, nil, 300},
		{"force_ttl beats a longer max-age", block("force_ttl 1m"), 200, pairs{"Cache-Control", "max-age=600"}, nil, 60},
		{"force_ttl beats Expires", block("force_ttl 5m"), 200, pairs{"Expires", "0"}, nil, 300},
		{"force_ttl beats no-cache", block("force_ttl 5m"), 200, pairs{"Cache-Control", "no-cache"}, nil, 300},
		{"force_ttl beats Pragma", block("force_ttl 5m"), 200, pairs{"Pragma", "no-cache"}, nil, 300},
		{"force_ttl beats must-revalidate", block("force_ttl 5m"), 200, pairs{"Cache-Control", "must-revalidate, max-age=0"}, nil, 300},
		{"force_ttl beats a targeted field", block("force_ttl 5m"), 200, pairs{"CDN-Cache-Control", "max-age=0"}, nil, 300},
		{"force_ttl yields to no-store", block("force_ttl 5m"), 200, pairs{"Cache-Control", "no-store"}, nil, never},
		{"force_ttl yields to private", block("force_ttl 5m"), 200, pairs{"Cache-Control", "private, max-age=60"}, nil, never},
		{"force_ttl yields to Set-Cookie", block("force_ttl 5m"), 200, pairs{"Set-Cookie", "a=b"}, nil, never},
		{"force_ttl yields to Vary: *", block("force_ttl 5m"), 200, pairs{"Vary", "*"}, nil, never},
		{"force_ttl yields to Authorization", block("force_ttl 5m"), 200, pairs{"Cache-Control", "max-age=60"}, pairs{"Authorization", "Basic eDp5"}, never},
		{"force_ttl is not for Authorization that is let in", block("force_ttl 5m"), 200, pairs{"Cache-Control", "public, max-age=60"}, pairs{"Authorization", "Basic eDp5"}, 60},
		{"force_ttl is not for a cookie", block("force_ttl 5m"), 200, pairs{"Cache-Control", "max-age=60"}, pairs{"Cookie", "a=b"}, 60},
		{"force_ttl is not for event streams", block("force_ttl 5m"), 200, pairs{"Content-Type", "text/event-stream"}, nil, never},
		{"force_ttl without a status is not for 404", block("force_ttl 5m"), 404, pairs{"Cache-Control", "max-age=60"}, nil, 60},
		{"force_ttl with a status", block("force_ttl 5m 404"), 404, pairs{"Cache-Control", "max-age=60"}, nil, 300},
		{"force_ttl beats ttl", block("force_ttl 5m", "ttl 1m"), 200, nil, nil, 300},

		{"max_ttl", block("max_ttl 10s"), 200, pairs{"Cache-Control", "max-age=60"}, nil, 10},
		{"max_ttl that is longer", block("max_ttl 100s"), 200, pairs{"Cache-Control", "max-age=60"}, nil, 60},
		{"max_ttl caps ttl", block("max_ttl 10s", "ttl 1m"), 200, nil, nil, 10},
		{"max_ttl caps force_ttl", block("max_ttl 10s", "force_ttl 1m"), 200, nil, nil, 10},
		{"max_ttl caps heuristics", block("max_ttl 10s", "heuristic on"), 200, lastModified, nil, 10},
		{"max_ttl caps a targeted field", block("max_ttl 10s"), 200, pairs{"CDN-Cache-Control", "max-age=60"}, nil, 10},

		{"heuristic is off", "larder", 200, lastModified, nil, never},
		{"heuristic on", block("heuristic on"), 200, lastModified, nil, 100},
		{"heuristic off", block("heuristic off"), 200, lastModified, nil, never},
		{"heuristic yields to max-age", block("heuristic on"), 200, append(pairs{"Cache-Control", "max-age=60"}, lastModified...), nil, 60},
		{"heuristic is at most a day", block("heuristic on"), 200, pairs{"Last-Modified", httpDate(-100 * 24 * time.Hour)}, nil, 86400},
		{"heuristic 404", block("heuristic on"), 404, lastModified, nil, 100},
		{"heuristic 302", block("heuristic on"), 302, append(pairs{"Location", "/x"}, lastModified...), nil, never},
		{"ttl beats heuristics", block("heuristic on", "ttl 5m"), 200, lastModified, nil, 300},

		{"ignore Cache-Control", block("ignore Cache-Control", "ttl 5m"), 200, pairs{"Cache-Control", "no-store, private, max-age=0"}, nil, 300},
		{"ignore Cache-Control leaves Expires", block("ignore Cache-Control"), 200, pairs{"Cache-Control", "no-store", "Expires", httpDate(100 * time.Second)}, nil, 100},
		{"ignore Cache-Control alone gives no lifetime", block("ignore Cache-Control"), 200, pairs{"Cache-Control", "max-age=60"}, nil, never},
		{"ignore Expires", block("ignore Expires", "ttl 5m"), 200, pairs{"Expires", "0"}, nil, 300},
		{"ignore Set-Cookie", block("ignore Set-Cookie"), 200, pairs{"Cache-Control", "max-age=60", "Set-Cookie", "a=b"}, nil, 60},
		{"ignore Vary", block("ignore Vary"), 200, pairs{"Cache-Control", "max-age=60", "Vary", "*"}, nil, 60},
		// Go's client adds Cache-Control: no-cache where a response has Pragma: no-cache alone.
		{"ignore Pragma", block("ignore Pragma Cache-Control", "ttl 5m"), 200, pairs{"Pragma", "no-cache"}, nil, 300},
		{"ignore in lower case", block("ignore set-cookie vary"), 200, pairs{"Cache-Control", "max-age=60", "Set-Cookie", "a=b", "Vary", "*"}, nil, 60},
		{"ignore Cache-Control leaves Authorization", block("ignore Cache-Control", "ttl 5m"), 200, pairs{"Cache-Control", "public"}, pairs{"Authorization", "Basic eDp5"}, never},

		{"set_cookie refuse", block("set_cookie refuse"), 200, pairs{"Cache-Control", "max-age=60", "Set-Cookie", "a=b"}, nil, never},
		{"set_cookie strip", block("set_cookie strip"), 200, pairs{"Cache-Control", "max-age=60", "Set-Cookie", "a=b"}, nil, 60},
		{"set_cookie store", block("set_cookie store"), 200, pairs{"Cache-Control", "max-age=60", "Set-Cookie", "a=b"}, nil, 60},

		{"targeted: CDN-Cache-Control", "larder", 200, pairs{"CDN-Cache-Control", "max-age=60", "Cache-Control", "no-store"}, nil, 60},
		{"targeted: ours first", "larder", 200, pairs{"CDN-Cache-Control", "max-age=60", "Larder-Cache-Control", "max-age=90"}, nil, 90},
		{"targeted: no-store in it", "larder", 200, pairs{"CDN-Cache-Control", "no-store", "Cache-Control", "max-age=60"}, nil, never},
		{"targeted: one that is no dictionary is as if absent", "larder", 200, pairs{"CDN-Cache-Control", "max-age=60, ???", "Cache-Control", "max-age=30"}, nil, 30},
		{"targeted: the next if the first is invalid", "larder", 200, pairs{"Larder-Cache-Control", "&", "CDN-Cache-Control", "max-age=60", "Cache-Control", "no-store"}, nil, 60},
		{"targeted: an empty one is as if absent", "larder", 200, pairs{"CDN-Cache-Control", "", "Cache-Control", "max-age=30"}, nil, 30},
		{"targeted: parameters are ignored", "larder", 200, pairs{"CDN-Cache-Control", "max-age=60;a=b"}, nil, 60},
		{"targeted: the last of equal members counts", "larder", 200, pairs{"CDN-Cache-Control", "max-age=60, max-age=70"}, nil, 70},
		{"targeted: a string is no lifetime", "larder", 200, pairs{"CDN-Cache-Control", `max-age="60", foo`, "Cache-Control", "max-age=30"}, nil, never},
		{"targeted: Expires is not asked beside it", "larder", 200, pairs{"CDN-Cache-Control", "public", "Expires", httpDate(100 * time.Second)}, nil, never},
		{"targeted: other fields", block("targeted X-Edge-Control"), 200, pairs{"X-Edge-Control", "max-age=60", "CDN-Cache-Control", "no-store"}, nil, 60},
		{"targeted: the default is replaced", block("targeted X-Edge-Control"), 200, pairs{"CDN-Cache-Control", "max-age=60"}, nil, never},
		{"targeted: the order is the operator's", block("targeted B-Cache-Control A-Cache-Control"), 200, pairs{"A-Cache-Control", "max-age=60", "B-Cache-Control", "max-age=90"}, nil, 90},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, answering(tc.status, tc.response...))
			in := start(t, proxied(tc.directive), o)
			in.get("/", tc.request...).want(t, tc.status, "1", "")
			second := in.get("/", tc.request...)
			if tc.want == never {
				second.want(t, tc.status, "2", "")
				return
			}
			second.want(t, tc.status, "1", "")
			second.wantTTL(t, tc.want)
		})
	}
}

// TestTTLOfOneIsNotForAnother: what is fresh by the operator's word alone is not for requests to which that word does not apply.
func TestTTLOfOneIsNotForAnother(t *testing.T) {
	for name, rule := range map[string]string{"ttl": "ttl 5m", "force_ttl": "force_ttl 5m"} {
		for who, header := range map[string][]string{"a cookie": {"Cookie", "session=1"}, "Authorization": {"Authorization", "Basic eDp5"}} {
			t.Run(name+", "+who, func(t *testing.T) {
				o := newOrigin(t, answering(200))
				in := start(t, proxied(block(rule)), o)
				in.get("/").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
				in.get("/", header...).want(t, 200, "2", "")
				in.get("/", header...).want(t, 200, "3", "")
				in.get("/").want(t, 200, "1", "")
			})
		}
	}
	t.Run("what the origin made cacheable is", func(t *testing.T) {
		o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
		in := start(t, proxied(block("ttl 5m")), o)
		in.get("/").want(t, 200, "1", "")
		in.get("/", "Cookie", "session=1").want(t, 200, "1", "")
		in.get("/", "Authorization", "Basic eDp5").want(t, 200, "1", "")
	})
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
		{"max_ttl", "larder", block("max_ttl 10s"), []string{"Cache-Control", "max-age=60"}, true, func(t *testing.T, a *answer) { a.wantTTL(t, 10) }},
		{"ttl", block("ttl 5m"), block("ttl 1m"), nil, true, func(t *testing.T, a *answer) { a.wantTTL(t, 60) }},
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

func TestClientDirectives(t *testing.T) {
	for _, tc := range []struct {
		name    string
		request []string
		obeyed  string // body under obey
	}{
		{"no-cache", []string{"Cache-Control", "no-cache"}, "2"},
		{"Pragma", []string{"Pragma", "no-cache"}, "2"},
		{"no-store", []string{"Cache-Control", "no-store"}, "1"}, // it forbids storing, not using what is stored
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

// stale answers with what is stale on arrival, and from the second request on as then says.
func stale(then http.HandlerFunc, header ...string) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 1 {
			then(w, r)
			return
		}
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.Header().Set("Age", "100")
		_, _ = io.WriteString(w, "old")
	}
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
			in := start(t, proxied(tc.directive), o)
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
			if ttl := second.ttl(t); ttl > -10 || ttl < -16 {
				t.Errorf("ttl=%d, want -10", ttl)
			}
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

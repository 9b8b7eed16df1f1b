package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestLifetime asks twice: the second answer is a hit with this rest of freshness, or comes from
// the origin.
func TestLifetime(t *testing.T) {
	const never = -1
	type pairs = []string
	// A tenth is 99.5 s, of which a Cache-Status says 100.
	lastModified := pairs{"Last-Modified", fromNow(-995 * time.Second)}
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
		{"Expires", "larder", 200, pairs{"Expires", fromNow(100 * time.Second)}, nil, 100},
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
		{"ttl yields to Expires", block("ttl 5m"), 200, pairs{"Expires", fromNow(100 * time.Second)}, nil, 100},
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
		{"heuristic is at most a day", block("heuristic on"), 200, pairs{"Last-Modified", fromNow(-100 * 24 * time.Hour)}, nil, 86400},
		{"heuristic 404", block("heuristic on"), 404, lastModified, nil, 100},
		{"heuristic 302", block("heuristic on"), 302, append(pairs{"Location", "/x"}, lastModified...), nil, never},
		{"ttl beats heuristics", block("heuristic on", "ttl 5m"), 200, lastModified, nil, 300},

		{"ignore Cache-Control", block("ignore Cache-Control", "ttl 5m"), 200, pairs{"Cache-Control", "no-store, private, max-age=0"}, nil, 300},
		{"ignore Cache-Control leaves Expires", block("ignore Cache-Control"), 200, pairs{"Cache-Control", "no-store", "Expires", fromNow(100 * time.Second)}, nil, 100},
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
		{"targeted: Expires is not asked beside it", "larder", 200, pairs{"CDN-Cache-Control", "public", "Expires", fromNow(100 * time.Second)}, nil, never},
		{"targeted: other fields", block("targeted X-Edge-Control"), 200, pairs{"X-Edge-Control", "max-age=60", "CDN-Cache-Control", "no-store"}, nil, 60},
		{"targeted: the default is replaced", block("targeted X-Edge-Control"), 200, pairs{"CDN-Cache-Control", "max-age=60"}, nil, never},
		{"targeted: the order is the operator's", block("targeted B-Cache-Control A-Cache-Control"), 200, pairs{"A-Cache-Control", "max-age=60", "B-Cache-Control", "max-age=90"}, nil, 90},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, answering(tc.status, tc.response...))
			in, begun := start(t, proxied(tc.directive), o), time.Now()
			in.get("/", tc.request...).want(t, tc.status, "1", "")
			second := in.get("/", tc.request...)
			if tc.want == never {
				second.want(t, tc.status, "2", "")
				return
			}
			second.want(t, tc.status, "1", "")
			second.wantTTL(t, tc.want, begun)
		})
	}
}

// TestTTLOfOneIsNotForAnother: what is fresh by the operator's word alone is not for requests to
// which that word does not apply.
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
				t.Run("followers", func(t *testing.T) { wantOwnFetches(t, rule, k.method, k.header) })
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

// wantOwnFetches has a request of the kind come while one without credentials, or the same POST, is
// being fetched.
func wantOwnFetches(t *testing.T, rule, method string, header []string) {
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
		in, begun := start(t, proxied(directive), o), time.Now()
		in.get("/").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
		for _, header := range [][]string{{"Cookie", "session=bob"}, {"Authorization", "Basic Ym9iOmJvYg=="}} {
			a := in.get("/", header...)
			a.want(t, 200, "1", "")
			a.wantTTL(t, 60, begun)
		}
	}
}

// TestKeyedCredentials: what the key has keeps nothing out. All who show the same credentials have
// the same page, and no others have it.
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

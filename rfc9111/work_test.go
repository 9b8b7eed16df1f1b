package rfc9111

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/rfc9111/worktest"
)

// readers are all that is read here of what a client or an origin sends, each with the field under
// the names by which it is read. Where two fields meet, both are the one that is measured, so that
// no product of two lengths stays unseen.
var readers = map[string]worktest.Reader{
	"CDN-Loop": func(lines []string) {
		h := http.Header{"Cdn-Loop": lines}
		CDNLoopCount(h, "larder")
		AppendCDNLoop(h, "larder")
	},
	"Vary":                 func(lines []string) { VaryNames(http.Header{"Vary": lines}) },
	"Accept-Encoding":      varying("Accept-Encoding"),
	"Accept-Language":      varying("Accept-Language"),
	"a field Vary names":   varying("X-Any"),
	"Content-Encoding":     readCodings,
	"request directives":   func(lines []string) { ParseRequest(http.Header{"Cache-Control": lines}) },
	"request Pragma":       func(lines []string) { ParseRequest(http.Header{"Pragma": lines}) },
	"Cache-Control":        judging("Cache-Control"),
	"Pragma":               judging("Pragma"),
	"CDN-Cache-Control":    judging("Cdn-Cache-Control"),
	"Expires":              judging("Expires"),
	"Date":                 judging("Date"),
	"Age":                  judging("Age"),
	"Last-Modified":        judging("Last-Modified"),
	"ETag":                 judging("Etag"),
	"Content-Type":         judging("Content-Type"),
	"Set-Cookie":           judging("Set-Cookie"),
	"Connection":           judging("Connection"),
	"If-None-Match":        conditional("If-None-Match", "Etag"),
	"If-Modified-Since":    conditional("If-Modified-Since", "Last-Modified"),
	"Range":                ranged("Range", "Etag"),
	"If-Range, a tag":      ranged("If-Range", "Etag"),
	"If-Range, a date":     ranged("If-Range", "Last-Modified"),
	"validators of a 304":  validate,
	"Surrogate-Key":        func(lines []string) { Tags(http.Header{"Surrogate-Key": lines}, nil) },
	"Cache-Tag":            func(lines []string) { Tags(http.Header{"Cache-Tag": lines}, nil) },
	"tags of the operator": func(lines []string) { Tags(http.Header{"X-Tags": lines}, []string{"X-Tags"}) },
	"Cache-Groups":         func(lines []string) { CacheGroups(http.Header{"Cache-Groups": lines}, "Cache-Groups") },
	"Incremental":          func(lines []string) { Incremental(http.Header{"Incremental": lines}) },
	"No-Vary-Search":       search,
	"Cache-Status":         func(lines []string) { new(CacheStatus).Append(http.Header{"Cache-Status": lines}) },
	"Location": func(lines []string) {
		target := &url.URL{Scheme: "http", Host: "h", Path: "/a"}
		InvalidatedURLs(target, http.Header{"Location": lines, "Content-Location": lines})
	},
}

// varying reads a field as one that Vary names, against variants that equal fields and others have
// selected.
func varying(name string) worktest.Reader {
	return func(lines []string) {
		names, req := []string{name}, http.Header{name: lines}
		stored := VariantValues(names, req)
		for _, coding := range []string{"", "gzip", stored[0]} {
			VariantScore(names, stored, coding, req)
			VariantScore(names, []string{stored[0] + "x"}, coding, req)
			VariantScore(names, []string{"gzip"}, coding, req)
			VariantScore(names, stored, coding, http.Header{name: {"a, b, gzip"}})
		}
	}
}

// readCodings reads a Content-Encoding against clients that accept a lot.
func readCodings(lines []string) {
	coding := ContentCoding(http.Header{"Content-Encoding": lines})
	names, many := []string{acceptEncoding}, http.Header{acceptEncoding: lines}
	VariantScore(names, []string{"gzip"}, coding, many)
	VariantScore(names, []string{coding}, coding, http.Header{acceptEncoding: {"a, b;q=0.1, c;q=0, *"}})
	Selects(http.Header{"Etag": {`"a"`}, "Content-Encoding": lines}, http.Header{"Etag": {`"b"`}})
}

// judging reads a field of a response with all that is decided by it: under rules that ask for as
// much as there is.
func judging(name string) worktest.Reader {
	p := &Policy{
		TTL: []StatusTTL{{Duration: time.Minute}}, Heuristic: true, SetCookie: SetCookieStrip, DeceptionGuard: true,
		Ignore: []string{"Expires-Not"},
	}
	return func(lines []string) {
		x := &Exchange{
			Method: http.MethodGet, URL: "http://h/x.css", Status: http.StatusOK, Header: http.Header{name: lines},
			RequestTime: arrival, ResponseTime: arrival, UnkeyedCookie: true,
		}
		p.Freshness(x)
		p.Storable(x)
		StorableHeader(x, p)
		Merge(x.Header, x.Header)
		NotModifiedHeader(x.Header)
	}
}

func conditional(name, validator string) worktest.Reader {
	return func(lines []string) {
		for _, stored := range []http.Header{{validator: lines}, {validator: lines[:1]}, {validator: {`"a"`}}} {
			Precondition(http.MethodGet, http.Header{name: lines}, http.StatusOK, stored, arrival)
		}
	}
}

func ranged(name, validator string) worktest.Reader {
	return func(lines []string) {
		for _, some := range [][]string{lines, lines[:1]} {
			h := http.Header{"Range": {"bytes=0-1"}}
			h[name] = some
			ParseRange(h, http.Header{validator: some}, 1<<20)
		}
	}
}

func validate(lines []string) {
	for _, name := range []string{"Etag", "Last-Modified", "Content-Length"} {
		h := http.Header{name: lines}
		Selects(h, h)
		MakeConditional(make(http.Header), h)
		FreshenByHead(h, h)
	}
}

func search(lines []string) {
	v := ParseNoVarySearch(http.Header{"No-Vary-Search": lines})
	many := SearchVariance{names: make([]string, 1000), custom: true}
	for _, query := range lines[:1] {
		v.Normalize(query)
		many.Normalize(query)
	}
}

// TestFieldsTooLongToRead holds what a field says that is longer than is read: what grants is not
// granted, what forbids may be behind the bound and so is obeyed.
func TestFieldsTooLongToRead(t *testing.T) {
	for _, tc := range []struct {
		name   string
		length int
		reason Reason
	}{
		{"Cache-Control", maxField, Storable},
		{"Cache-Control", maxField + 1, ReasonNoStore},
		{"Cdn-Cache-Control", maxField, Storable},
		{"Cdn-Cache-Control", maxField + 1, ReasonNoStore},
	} {
		const lifetime = "max-age=60, "
		h := http.Header{tc.name: {lifetime + strings.Repeat("x", tc.length-len(lifetime))}, "Expires": {"Sun, 01 Mar 2099 12:00:00 GMT"}}
		x := &Exchange{Method: http.MethodGet, Status: http.StatusOK, Header: h, RequestTime: arrival, ResponseTime: arrival}
		if got := new(Policy).Storable(x); got != tc.reason {
			t.Errorf("%s of %d bytes: reason %q, want %q", tc.name, tc.length, got, tc.reason)
		}
	}
	long := strings.Repeat("a, ", maxField)
	if d := ParseRequest(http.Header{"Cache-Control": {long}}); d != (RequestDirectives{NoStore: true}) {
		t.Errorf("a long Cache-Control of a request is %+v", d)
	}
	if v := ParseNoVarySearch(http.Header{"No-Vary-Search": {"key-order, " + long + "a"}}); !v.IsDefault() {
		t.Error("a long No-Vary-Search is not the default")
	}
	h := http.Header{"Cache-Status": {long + "a"}}
	if new(CacheStatus).Append(h); len(h["Cache-Status"]) != 1 || h["Cache-Status"][0] != CacheName {
		t.Errorf("behind a long Cache-Status: %.40q", h["Cache-Status"])
	}
}

// workSeeds are fields of a head, a unit that is repeated, and a tail.
var workSeeds = [][3]string{
	{"", "a", ""},
	{`"`, `\"`, ""},
	{`"`, `\"`, ","},
	{"a,", `"\",`, ""},
	{`a="`, `\"`, `"`},
	{"", `a=""`, ""},
	{"", `a="",`, ""},
	{"", `a="`, ""},
	{"", `"`, ""},
	{"", `\`, ""},
	{`"`, `\\`, ""},
	{"", ",", ""},
	{"", `",`, ""},
	{"", `"\",`, ""},
	{"", ";", ""},
	{"a", ";a=b", ""},
	{"", "=", ""},
	{"", "(", ""},
	{"", "(a)", ""},
	{"", "(),", ""},
	{"(", `"a#" `, ")"},
	{`params=(`, `"a#" `, ")"},
	{"", " ", ""},
	{"a", " ", "b"},
	{"", "\t,", ""},
	{"", "a,", "a"},
	{"", "a#,", "a"},
	{"", "a#=#, ", "a"},
	{"a", ", b", ""},
	{"", "a ", ""},
	{"", "A# ", ""},
	{"", `"#", `, `"a"`},
	{"", `W/"#",`, ""},
	{"", "W/", ""},
	{"bytes=", "#-#,", "-1"},
	{"bytes=", "0-1,", "0-1"},
	{"", "no-store,", ""},
	{`private="`, "a#,", `"`},
	{"", `private="a#",`, ""},
	{"", "max-age=1 ", ""},
	{"max-age=", "1", ""},
	{"", "gzip;q=0.1,", "br"},
	{"gzip", ";q=0.1", ",*"},
	{"", "x-gzip,", "identity;q=0"},
	{"", "en-#;q=0.#,", "de"},
	{"Sun, 06 Nov 1994 08:49:37 ", " ", "GMT"},
	{"", "0, ", "7200"},
	{"/", "a/", ""},
	{"/" + "a/a/a/a/a/a/a/a", "/../a/", "/.."},
	{"/", "%2e%2e/", ""},
	{"", "larder, ", "larder"},
	{"", "a#=?1;b=\"\\\"\", ", "c"},
	{":", "AAAA", ":"},
	{"", "ü", ""},
	{"text/css", "; a*#=b", ""},
	{"text/css", ";;", "="},
}

// FuzzWork holds that no field costs more to read than its length allows.
func FuzzWork(f *testing.F) {
	if worktest.Raced {
		f.Skip("the race detector has nothing to find here, and makes it ten times slower")
	}
	for _, seed := range workSeeds {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, head, unit, tail string) {
		if len(head) > 256 || len(unit) > 64 || len(tail) > 256 {
			t.Skip("more of the same")
		}
		for name, read := range readers {
			worktest.Check(t, name, read, head, unit, tail)
		}
	})
}

package httpcache

import (
	"net/http"
	"slices"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// Vary selects by what the origin saw of a request. Where a handler behind the cache writes a field,
// the cache sees another value than the origin, the same one for clients that the origin tells
// apart: a proxy writes X-Forwarded-For. By such a field nothing can be selected, so a Vary that
// names it is as good as `Vary: *`, at storing, at look-up and for those who wait. Behind tells
// which fields these are.

// varyIgnored is the variant of a response whose Vary was ignored. It suits every request at the
// handlers that ignore Vary, and as `Vary: *` does, none at the others.
func varyIgnored() store.Variant { return store.Variant{Names: []string{"*"}, Values: []string{""}} }

func isVaryIgnored(v *store.Variant) bool { return len(v.Names) == 1 && v.Names[0] == "*" }

// variant is what selected the response (RFC 9111 4.1).
func (x *Fetch) variant(header http.Header) store.Variant {
	names, star := rfc9111.VaryNames(header)
	if x.route.Policy.Ignores("Vary") {
		if star || len(names) > 0 {
			return varyIgnored()
		}
		return store.Variant{}
	}
	return store.Variant{
		Names: names, Values: variantValues(names, x.clientHeader),
		Coding: rfc9111.ContentCoding(header),
	}
}

// renewedVariant is what selects a stored response that a 304 has updated to this header. Where Vary
// is ignored it stays as it was, unless the Vary is another now.
func (x *Fetch) renewedVariant(header http.Header) store.Variant {
	if was := x.stale.Variant; x.route.Policy.Ignores("Vary") {
		names, star := rfc9111.VaryNames(header)
		if isVaryIgnored(&was) || !star && slices.Equal(names, was.Names) {
			return was
		}
	}
	return x.variant(header)
}

// variantScore tells how well a variant suits a request with this header, 0 for not at all.
func (rt *Route) variantScore(v *store.Variant, header http.Header) int {
	if !isVaryIgnored(v) {
		return rfc9111.VariantScore(v.Names, v.Values, v.Coding, header)
	}
	if rt.Policy.Ignores("Vary") {
		return 1
	}
	return 0
}

// seesAll reports whether the origin sees all fields by which a response is selected as Larder
// does.
func (q *Request) seesAll(names []string) bool {
	for _, name := range names {
		if !q.route.Behind.Sees(q.r, name, q.r.Header[name]) {
			return false
		}
	}
	return true
}

// seesAll reports the same of the fetch that brought a response with this header. Its request shows
// by now what has been written into it.
func (x *Fetch) seesAll(header http.Header) bool {
	if len(header["Vary"]) == 0 {
		return true
	}
	r := x.request()
	names, _ := rfc9111.VaryNames(header)
	for _, name := range names {
		lines, now := linesOf(x.clientHeader, name), r.Header[name]
		if !x.route.Behind.Sees(r, name, lines) {
			return false
		}
		if len(now) > 0 && !slices.Equal(now, lines) && !x.route.Behind.WritesAlike(r, name) {
			return false
		}
	}
	return true
}

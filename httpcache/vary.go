package httpcache

import (
	"net/http"
	"slices"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// Vary selects by what the origin saw of a request. A handler behind the cache may write a field,
// as a proxy writes X-Forwarded-For. Then the cache sees another value than the origin, and the
// same one for clients that the origin tells apart. No response can be selected by such a field. So
// a Vary that names it counts as `Vary: *`: when a response is stored, at look-up, and for requests
// that wait. Behind tells which fields these are.

// varyIgnored is the variant of a response whose Vary was ignored. It matches every request at
// routes that ignore Vary, and none at other routes, as with `Vary: *`.
func varyIgnored() store.Variant { return store.Variant{Names: []string{"*"}, Values: []string{""}} }

func isVaryIgnored(v *store.Variant) bool { return len(v.Names) == 1 && v.Names[0] == "*" }

// variant returns what selected the response (RFC 9111 4.1).
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

// renewedVariant returns what selects a stored response after a 304 has updated its header. Where
// Vary is ignored it stays as it was, unless the 304 changed Vary.
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

// selector returns a function that scores variants for a request that had this header when it came.
// By now handlers may have rewritten it.
func (rt *Route) selector(r *http.Request, header http.Header) func(*store.Variant) int {
	return func(v *store.Variant) int {
		for _, name := range v.Names {
			if !rt.Behind.Sees(r, name, header[name]) {
				return 0
			}
		}
		return rt.variantScore(v, header)
	}
}

// seesAll reports whether the origin sees all fields by which a response is selected as the cache
// sees them.
func (q *Request) seesAll(names []string) bool {
	for _, name := range names {
		if !q.route.Behind.Sees(q.r, name, q.r.Header[name]) {
			return false
		}
	}
	return true
}

// seesAll reports the same of the fetch that brought a response with this header. By now the
// fetch's request shows what handlers have written into it.
func (x *Fetch) seesAll(header http.Header) bool {
	if len(header["Vary"]) == 0 {
		return true
	}
	r := x.request()
	for _, name := range rfc9111.VaryConditions(header) {
		// The fetch writes these itself, so their values tell nothing.
		if !x.route.Behind.Sees(r, name, nil) {
			return false
		}
	}
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

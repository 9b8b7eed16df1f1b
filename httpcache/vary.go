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
//
// What is written alike for all requests with one key selects, as the client's own value does. But
// another handler of the same URL may write otherwise, or nothing, and so may this one after a
// reload: `header_up X-Lang de` in one `handle`, and `header_up X-Lang fr` in the next. So what is
// written to the fields of a Vary stands in the variant as well, under a name of its own.

// writtenName is that name. No field has it, and it sorts before all that do.
const writtenName = " written"

// fieldsOfVariant returns the fields by which a variant selects, and what was written to them.
func fieldsOfVariant(v *store.Variant) (names, values []string, written string) {
	if names, values = v.Names, v.Values; len(names) > 0 && names[0] == writtenName {
		return names[1:], values[1:], values[0]
	}
	return names, values, ""
}

// varyNamesOf returns the names of a variant that are those of fields.
func varyNamesOf(names []string) []string {
	names, _, _ = fieldsOfVariant(&store.Variant{Names: names, Values: names})
	return names
}

// withWritten adds what is written to the named fields of r to the names and values by which it
// selects.
func (rt *Route) withWritten(r *http.Request, names, values []string) (allNames, allValues []string) {
	written := rt.Behind.Written(r, names)
	if written == "" {
		return names, values
	}
	return append([]string{writtenName}, names...), append([]string{written}, values...)
}

// writtenAlike reports whether the same was written to the fields of two variants.
func writtenAlike(a, b *store.Variant) bool {
	_, _, one := fieldsOfVariant(a)
	_, _, other := fieldsOfVariant(b)
	return one == other
}

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
	names, values := x.route.withWritten(x.request(), names, variantValues(names, x.clientHeader))
	return store.Variant{Names: names, Values: values, Coding: rfc9111.ContentCoding(header)}
}

// renewedVariant returns what selects a stored response after a 304 has updated its header. Where
// Vary is ignored it stays as it was, unless the 304 changed Vary.
func (x *Fetch) renewedVariant(header http.Header) store.Variant {
	if was := x.stale.Variant; x.route.Policy.Ignores("Vary") {
		names, star := rfc9111.VaryNames(header)
		if isVaryIgnored(&was) || !star && slices.Equal(names, varyNamesOf(was.Names)) {
			return was
		}
	}
	return x.variant(header)
}

// variantScore tells how well a variant suits a request that had this header when it came, 0 for
// not at all.
func (rt *Route) variantScore(v *store.Variant, r *http.Request, header http.Header) int {
	if isVaryIgnored(v) {
		if rt.Policy.Ignores("Vary") {
			return 1
		}
		return 0
	}
	if len(v.Names) > 0 && !rt.seesVariant(v, r, header) {
		return 0
	}
	names, values, _ := fieldsOfVariant(v)
	return rfc9111.VariantScore(names, values, v.Coding, header)
}

// seesVariant reports whether the origin sees the fields by which a variant selects as the cache
// does, with the same written to them.
func (rt *Route) seesVariant(v *store.Variant, r *http.Request, header http.Header) bool {
	names, _, written := fieldsOfVariant(v)
	for _, name := range names {
		if !rt.Behind.Sees(r, name, header[name]) {
			return false
		}
	}
	return rt.Behind.Written(r, names) == written
}

// selector returns a function that scores variants for a request that had this header when it came.
// By now handlers may have rewritten it.
func (rt *Route) selector(r *http.Request, header http.Header) func(*store.Variant) int {
	return func(v *store.Variant) int { return rt.variantScore(v, r, header) }
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
func (x *Fetch) seesAll(header http.Header) bool { return x.seesAllIn(x.request(), header) }

// seesAllIn is seesAll where r is what the handlers have answered.
func (x *Fetch) seesAllIn(r *http.Request, header http.Header) bool {
	if len(header["Vary"]) == 0 {
		return true
	}
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

package httpcache

import (
	"maps"
	"net/http"
	"slices"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// An object is used as its head says. So the answer for a slice belongs to it only if what that
// says of itself allows as much. An origin may say of the same version that it selects by a field
// of the request, or that it has to be validated: for one client, or for all by now.

// selectsAsHead reports whether an answer for a slice is selected by no field of the request by
// which its head is not. One that is says nothing of the requests that the head is for.
func (rt *Route) selectsAsHead(head *store.Entry, names []string) bool {
	if rt.Policy.Ignores("Vary") {
		return true
	}
	known := varyNamesOf(head.Variant.Names)
	return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(known, name) })
}

// isStricter reports whether an answer for a slice may be used for less than its head: not without
// being validated, or not once it is stale. A lifetime that is merely shorter is that of a server
// which counts it down.
func isStricter(slice, head *rfc9111.Freshness) bool {
	return slice.NoCache && !head.NoCache || slice.MustRevalidate && !head.MustRevalidate ||
		slice.Lifetime <= 0 && head.Lifetime > 0
}

// selectsAlike reports whether two responses are selected by the same fields.
func selectsAlike(a, b *store.Variant) bool {
	return slices.Equal(varyNamesOf(a.Names), varyNamesOf(b.Names))
}

// allowsSlice reports whether a stored slice belongs to its head by the rules of today.
func (rt *Route) allowsSlice(head, slice *store.Entry) bool {
	if isBareSlice(slice) {
		return true
	}
	says := rt.evaluated(slice)
	return says.freshness.Reason == rfc9111.Storable && rt.selectsAsHead(head, says.vary) &&
		!isStricter(&says.freshness, rt.evaluateFor(head, false))
}

// isBareSlice reports whether a slice was stored by a version that did not note what it says.
func isBareSlice(slice *store.Entry) bool { return len(slice.Header) == 1 }

// sliceHeader is the header with which a slice is stored.
func sliceHeader(said http.Header, contentRange string) http.Header {
	header := maps.Clone(said)
	delete(header, "Content-Length")
	header["Content-Range"] = []string{contentRange}
	return header
}

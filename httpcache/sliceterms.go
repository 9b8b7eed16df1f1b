package httpcache

import (
	"maps"
	"net/http"
	"slices"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// A file in slices is served by the terms of its head: which requests it answers, until when, and
// whether it has to be validated first. Each slice comes with an answer of its own, which has terms
// too. The slice may be stored under the head only if its own terms are no stricter, because the
// bytes would otherwise be served more freely than the origin has allowed. The terms of two answers
// can differ although they are of one version: an origin may add `Vary: Cookie` or `no-cache` for
// one client, or from some moment on for all.

// selectsAsHead reports whether the Vary of a slice's answer, given as names, has no field that the
// Vary of the head lacks. The head answers requests whatever they have in a field that it lacks,
// and the slice's answer is only for those that are alike in it (RFC 9111 4.1).
func (rt *Route) selectsAsHead(head *store.Entry, names []string) bool {
	if rt.Policy.Ignores("Vary") {
		return true
	}
	known := varyNamesOf(head.Variant.Names)
	return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(known, name) })
}

// isStricter reports whether a slice's answer has to be validated where its head has not: always
// (no-cache), when it is stale (must-revalidate), or at once, because it arrives without a
// lifetime. A lifetime that is only shorter does not count: a cache in between sends the rest of
// the lifetime, which is less at each fetch.
func isStricter(slice, head *rfc9111.Freshness) bool {
	return slice.NoCache && !head.NoCache || slice.MustRevalidate && !head.MustRevalidate ||
		slice.Lifetime <= 0 && head.Lifetime > 0
}

// selectsAlike reports whether two stored responses vary by the same fields.
func selectsAlike(a, b *store.Variant) bool {
	return slices.Equal(varyNamesOf(a.Names), varyNamesOf(b.Names))
}

// allowsSlice reports whether a stored slice may be served under its head by the rules that the
// route has now, to an ordinary request or to a personal one. Other rules may have been in force
// when it was stored.
func (rt *Route) allowsSlice(head, slice *store.Entry, personal bool) bool {
	if isBareSlice(slice) {
		return isUnderstood(slice)
	}
	own := rt.evaluateFor(slice, personal)
	return own.Reason == rfc9111.Storable && rt.selectsAsHead(head, rt.evaluated(slice).vary) &&
		!isStricter(own, rt.evaluateFor(head, personal))
}

// isBareSlice reports whether a slice was stored by a release that kept Content-Range alone of its
// header, so that its terms are not known.
func isBareSlice(slice *store.Entry) bool { return len(slice.Header) == 1 }

// sliceHeader returns the header that a slice is stored with: that of its answer, for its terms,
// with the range that the slice has of the file.
func sliceHeader(answer http.Header, contentRange string) http.Header {
	header := maps.Clone(answer)
	delete(header, "Content-Length")
	header["Content-Range"] = []string{contentRange}
	return header
}

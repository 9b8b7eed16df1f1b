package larder

import (
	"net/http"
	"slices"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// What is kept with a response beside its header, so that rules which are stricter than those that
// let it in, after a reload or at another handler of the same URL, can be held against it.

// The facts of a fetch that are kept with its response, as the stored header does not tell them and
// stricter rules than those that let it in may ask for them.
const (
	flagAuthorized store.Flags = 1 << iota
	flagUnkeyedCookie
	flagSetCookie
	flagNoStore
	flagUntyped // it has no Content-Type, and none is guessed: see fetchWriter.untyped
)

func flagsOf(x *rfc9111.Exchange) (f store.Flags) {
	note := func(flag store.Flags, set bool) {
		if set {
			f |= flag
		}
	}
	note(flagAuthorized, x.Authorized)
	note(flagUnkeyedCookie, x.UnkeyedCookie)
	note(flagSetCookie, x.HadSetCookie)
	note(flagNoStore, x.RequestNoStore)
	return f
}

// exchangeOf is a stored response as rfc9111 sees it.
func exchangeOf(e *store.Entry) rfc9111.Exchange {
	return rfc9111.Exchange{
		Method: e.Method, URL: store.BareURL(e.URL), Status: e.Status, Header: e.Header, Trailer: e.Trailer,
		RequestTime: e.RequestTime, ResponseTime: e.ResponseTime,
		Authorized: e.Flags&flagAuthorized != 0, UnkeyedCookie: e.Flags&flagUnkeyedCookie != 0,
		HadSetCookie: e.Flags&flagSetCookie != 0, RequestNoStore: e.Flags&flagNoStore != 0,
	}
}

// varyIgnored is the variant of a response whose Vary was ignored. It suits every request at the
// handlers that ignore Vary, and as `Vary: *` does, none at the others.
func varyIgnored() store.Variant { return store.Variant{Names: []string{"*"}, Values: []string{""}} }

func isVaryIgnored(v *store.Variant) bool { return len(v.Names) == 1 && v.Names[0] == "*" }

// variant is what selected the response (RFC 9111 4.1).
func (x *fetch) variant(header http.Header) store.Variant {
	names, star := rfc9111.VaryNames(header)
	if x.h.policy.Ignores("Vary") {
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
func (x *fetch) renewedVariant(header http.Header) store.Variant {
	if was := x.stale.Variant; x.h.policy.Ignores("Vary") {
		names, star := rfc9111.VaryNames(header)
		if isVaryIgnored(&was) || !star && slices.Equal(names, was.Names) {
			return was
		}
	}
	return x.variant(header)
}

package httpcache

import (
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

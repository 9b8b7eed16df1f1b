package httpcache

import (
	"fmt"

	"github.com/larder-cache/larder/coalesce"
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

// Spill begins to write the body to disk while it arrives. The flight asks for it when the body outgrows what it may hold in memory.
func (x *Fetch) Spill() (coalesce.Spill, error) {
	bodyWriter, err := x.cache.store.NewBodyWriter(x.writer.declared)
	if err != nil {
		return nil, fmt.Errorf("writing a body ahead: %w", err)
	}
	x.bodyWriter = bodyWriter
	return bodyWriter, nil
}

// wholeBody is the body for the store, if the flight has it whole: from the disk where it was spilled.
func (x *Fetch) wholeBody() (body store.Body, whole bool) {
	chunks, whole := x.flight.HandOver()
	if whole && x.flight.Spilled() {
		body = x.bodyWriter.Body()
		return body, body != nil
	}
	return store.NewBody(chunks), whole
}

// Interface guards.
var (
	_ coalesce.Spiller = (*Fetch)(nil)
	_ coalesce.Storer  = (*Fetch)(nil)
	_ coalesce.Spill   = (*store.BodyWriter)(nil)
)

package httpcache

import (
	"net/http"
	"slices"
	"strings"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// This file has what is stored with a response besides its header. A route may judge the response
// by stricter rules than those under which it was stored: after a reload, or as another route of
// the same URL.

// The facts of a fetch that are stored with its response. The stored header does not tell them, and
// stricter rules may ask for them.
const (
	flagAuthorized store.Flags = 1 << iota
	flagUnkeyedCookie
	flagSetCookie
	flagNoStore
	flagUntyped // it has no Content-Type, and none may be guessed: see fetchWriter.untyped
	// flagObserved: the origin was asked otherwise than a fetch asks, so only routes that observe
	// use it: see observed.asksAsFetch.
	flagObserved

	flagSliced = store.FlagHead // it is the head of a file in slices: see object.go
)

// isUnderstood reports whether all that is stored with a response has a meaning here. Notes that
// begin with NUL say what a response is: one that only a later release knows may say that it is not
// what it seems to be.
func isUnderstood(e *store.Entry) bool {
	return !slices.ContainsFunc(e.Notes, func(note string) bool {
		return strings.HasPrefix(note, "\x00") && !strings.HasPrefix(note, objectNote) && !strings.HasPrefix(note, askedNote)
	})
}

func flagsOf(ex *rfc9111.Exchange) (f store.Flags) {
	note := func(flag store.Flags, set bool) {
		if set {
			f |= flag
		}
	}
	note(flagAuthorized, ex.Authorized)
	note(flagUnkeyedCookie, ex.UnkeyedCookie)
	note(flagSetCookie, ex.HadSetCookie)
	note(flagNoStore, ex.RequestNoStore)
	return f
}

// exchangeOf returns a stored response in the form that rfc9111 judges.
func exchangeOf(e *store.Entry) rfc9111.Exchange {
	status := e.Status
	if e.Flags&store.FlagPart != 0 {
		status = http.StatusOK // it is judged as the whole, see allowsSlice
	}
	return rfc9111.Exchange{
		Method: e.Method, URL: store.BareURL(e.URL), Status: status, Header: e.Header, Trailer: e.Trailer,
		RequestTime: e.RequestTime, ResponseTime: e.ResponseTime,
		Authorized: e.Flags&flagAuthorized != 0, UnkeyedCookie: e.Flags&flagUnkeyedCookie != 0,
		HadSetCookie: e.Flags&flagSetCookie != 0, RequestNoStore: e.Flags&flagNoStore != 0,
	}
}

package httpcache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/larder-cache/larder/rfc9111"
)

// Origin is a request's way to the handlers that answer what the cache cannot, and to what its
// server knows of it. Its methods are called on the goroutine of the request. An error of theirs
// that is not an [Error] counts as a status of 500.
type Origin interface {
	// ServeHTTP passes the client's own request on. The response is the client's alone.
	ServeHTTP(w http.ResponseWriter, r *http.Request) error
	// Detach makes the requests by which a fetch asks the origin, so that the client may leave. It
	// makes one copy of r in ctx, one more where the first answer may be about another response,
	// and one for a request that is made for several fetches. Handlers are to see in them what they
	// would see in r.
	Detach(ctx context.Context, r *http.Request, copies int) OriginRequest
	// ClientAddr returns the address of the client as its server knows it, with or without a port.
	// Behind proxies that the server trusts it is what these say. It is empty where there is none.
	ClientAddr() string
	// Expand replaces the placeholders in a text of the configuration.
	Expand(text string) string
	// ExpandURL does so in a text that names a URL. A placeholder for a part of the request's URL
	// stands for that part as the client sent it.
	ExpandURL(text string) string
	// Decided is told how the request is answered, before the response header is written. The
	// decision belongs to the request and is valid as long as that.
	Decided(d *Decision)
}

// OriginRequest has the requests of one fetch. It outlives the client's request. Its methods are
// called on the goroutine of the fetch, except where they say otherwise.
type OriginRequest interface {
	// Fetch returns the same Fetch each time. An OriginRequest embeds it, so a miss allocates both
	// at once.
	Fetch() *Fetch
	// Request returns a copy that Detach made, counted from 0. The cache edits it before Do.
	Request(n int) *http.Request
	// Retarget makes that copy one for the path and query of u, before Do. Handlers are to see in
	// it what they would see if the client had asked for that.
	Retarget(n int, u *url.URL)
	// Do makes the handlers answer that copy. It lets their panics through. An error that is not an
	// [Error] counts as a status of 500.
	Do(n int, w http.ResponseWriter) error
	// Expand replaces the placeholders in a text of the configuration.
	Expand(text string) string
	// HeaderWritten says that the handlers have written the response header. They may still change
	// what Expose tells the leader.
	HeaderWritten()
	// Expose shows the leader's server what the handlers had set by the response header, because
	// outer handlers may write that into it. returned says that the handlers have returned. Expose
	// is called on the leader's goroutine, or while the leader waits for the fetch.
	Expose(leader Origin, returned bool)
	// Unexposed says, right after Detach, that neither Expose nor Finish will follow. A client that
	// reads a large file has any number of such requests made.
	Unexposed(leader Origin)
	// Finish takes the rest of what the handlers have left, for the leader's access log. It is
	// called on the leader's goroutine, when the handlers have returned.
	Finish(leader Origin)
}

// Behind tells what the handlers behind the cache do to requests. Where one writes a field, the
// cache sees another value than the origin, so no response can be selected by that.
type Behind interface {
	// Sees reports whether the origin sees a field of r as the cache does, which has these lines of
	// it.
	Sees(r *http.Request, name string, lines []string) bool
	// WritesAlike reports whether a field is written, and alike for all requests with one key.
	WritesAlike(r *http.Request, name string) bool
	// Written returns a text that is equal where the same is done to the named fields, alike for
	// all requests with one key. It is empty where nothing is.
	Written(r *http.Request, names []string) string
}

// nothingKnown is the Behind of a Route that has none. It assumes the fields that proxies write.
type nothingKnown struct{}

func (nothingKnown) Sees(_ *http.Request, name string, _ []string) bool {
	return !rfc9111.WrittenByProxies(name)
}

func (nothingKnown) WritesAlike(*http.Request, string) bool { return false }

func (nothingKnown) Written(*http.Request, []string) string { return "" }

// Error is a failure with the status that the client gets for it. It is the cache's own, or one
// that handlers return in place of a response.
type Error struct {
	Status int   // the HTTP status
	Err    error // the cause, may be nil
}

// Error implements error.
func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("HTTP %d", e.Status)
	}
	return fmt.Sprintf("HTTP %d: %v", e.Status, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func fail(status int, err error) error { return &Error{Status: status, Err: err} }

// statusOf is the status that an error of the handlers or of the cache is answered with.
func statusOf(err error) int {
	if own, ok := errors.AsType[*Error](err); ok && own.Status != 0 {
		return own.Status
	}
	return http.StatusInternalServerError
}

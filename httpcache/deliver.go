package httpcache

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// delivery is a whole response to give to one client, as its conditionals, range and method ask for
// it. Its body is either stored, with the trailer known, or streaming, with trailers that come at
// its end.
type delivery struct {
	status     int
	header     http.Header // as stored
	fields     []field     // of header, as the client gets them; see changes
	length     int64       // of the body, -1 if not known yet
	lengthText string      // length as text, if known
	age        time.Duration
	aged       bool // it comes from the store, so the client gets an Age

	stored    store.Body
	trailer   http.Header
	streaming *flightBody
	slices    *sliceBody
	leads     bool // streaming was fetched for this client
	untyped   bool // it has no Content-Type, and net/http must not guess one
}

// sendBody writes n bytes of the body from off to the client, all the rest if n is negative. It
// returns an error of the writer, whose client may have gone, or of the body.
func (q *Request) sendBody(a *delivery, off, n int64) (err error) {
	var sent int64
	switch {
	case a.slices != nil:
		sent, err = a.slices.send(q.w, off, n)
	case a.streaming != nil:
		sent, err = a.streaming.send(q.w, off, n)
	default:
		sent, err = q.found.WriteBody(q.w, a.stored, off, n, (*bodyClient)(q))
	}
	q.sent += sent
	return err
}

// trailers returns the fields behind the body as this client gets them. Those of a streaming body
// are known when it has been sent.
func (q *Request) trailers(a *delivery) http.Header {
	if a.streaming == nil {
		return a.trailer
	}
	trailer, _ := a.streaming.flight.Trailer().(http.Header)
	if !a.leads {
		trailer = q.route.Policy.StorableTrailer(a.header, trailer)
	}
	return q.route.trailersWithoutTags(trailer)
}

// send writes the answer. The header has a function of its own, which keeps the stack below the
// body's writes shallow, see Serve.
func (q *Request) send(a *delivery, cs *rfc9111.CacheStatus) error {
	q.beginSending()
	defer q.endSending()
	if whole, err := q.sendHeader(a, cs); !whole {
		return err
	}
	return q.sendWhole(a)
}

// sendStored is sendWhole for what is stored.
func (q *Request) sendStored(a *delivery) error {
	sent, err := q.found.WriteBody(q.w, a.stored, 0, -1, (*bodyClient)(q))
	if q.sent += sent; err != nil {
		return q.brokenOff(a, err)
	}
	q.sendTrailers(a.trailer)
	return nil
}

// sendWhole writes the whole body and the trailers.
func (q *Request) sendWhole(a *delivery) error {
	if err := q.sendBody(a, 0, -1); err != nil {
		return q.brokenOff(a, err)
	}
	q.sendTrailers(q.trailers(a))
	return nil
}

// sendHeader writes the header, and the whole of an answer that is not a whole body: a 304, parts,
// and an answer without a body. whole says that the whole body has to follow.
func (q *Request) sendHeader(a *delivery, cs *rfc9111.CacheStatus) (whole bool, err error) {
	h := q.w.Header()
	overlay(h, a.fields, q.scratch())
	q.route.stripTags(h) // of outer handlers
	if a.aged {
		h["Age"] = q.scratch().one(scratchAge, strconv.FormatInt(int64(a.age/time.Second), 10))
	}
	if q.notModified(a.status, a.header, q.received(a)) {
		overwriteWithNotModified(h)
		a.forwarded(cs, http.StatusNotModified)
		q.sendStatus(h, cs)
		q.w.WriteHeader(http.StatusNotModified)
		return false, nil
	}
	if ranges, unsatisfiable, ok := q.ranges(a.status, a.header, a.length); ok {
		return false, q.sendRanges(a, cs, ranges, unsatisfiable)
	}
	// Trailers need a body without Content-Length in HTTP/1.1.
	if a.length >= 0 && bodyAllowed(a.status) && len(a.trailer) == 0 {
		if a.lengthText == "" {
			a.lengthText = strconv.FormatInt(a.length, 10)
		}
		h["Content-Length"] = q.scratch().one(scratchLength, a.lengthText)
	}
	if bodyAllowed(a.status) {
		a.announce(h)
	} else {
		delete(h, "Trailer") // a 204 has none (RFC 9110 15.3.5)
	}
	if a.untyped {
		leaveUntyped(h)
	}
	if a.slices != nil {
		a.forwarded(cs, a.status)
	}
	q.sendStatus(h, cs)
	q.w.WriteHeader(a.status)
	return q.r.Method != http.MethodHead && bodyAllowed(a.status), nil
}

// forwarded puts the status of the origin's answer into cs, where the client is sent another.
func (a *delivery) forwarded(cs *rfc9111.CacheStatus, sent int) {
	status := a.status
	if a.slices != nil {
		status = http.StatusPartialContent
	}
	if !cs.Hit && cs.FwdStatus == 0 && status != sent {
		cs.FwdStatus = status
	}
}

// notModified reports whether a response that has arrived then is a 304 to this client, by the
// request's own conditionals.
func (q *Request) notModified(status int, header http.Header, received time.Time) bool {
	return q.fields.has(hasConditional) &&
		rfc9111.Precondition(q.r.Method, q.r.Header, status, header, received) == rfc9111.NotModified
}

// received returns when the response arrived.
func (q *Request) received(a *delivery) time.Time {
	if a.streaming != nil {
		return a.streaming.flight.Shared().(*sharedResponse).exchange.ResponseTime
	}
	return q.found.Entry.ResponseTime
}

// sendTrailers sends the fields behind the body. It flushes first. Otherwise net/http would give a
// short body a Content-Length, which leaves no place for them.
func (q *Request) sendTrailers(trailers http.Header) {
	if len(trailers) == 0 || http.NewResponseController(q.w).Flush() != nil {
		return
	}
	setTrailers(q.w.Header(), trailers)
}

// announce says which fields come behind the body (RFC 9110 6.6.2): the trailers of a stored
// answer, and those that the handlers announced for a streaming one. The leader has that field from
// them. Trailer is hop by hop, so the stored header lacks it.
func (a *delivery) announce(h http.Header) {
	switch {
	case a.streaming != nil && len(a.streaming.announced) > 0:
		h["Trailer"] = slices.Clone(a.streaming.announced)
	case len(a.trailer) > 0:
		names := make([]string, 0, len(a.trailer))
		for name := range a.trailer {
			names = append(names, http.CanonicalHeaderKey(strings.TrimPrefix(name, http.TrailerPrefix)))
		}
		slices.Sort(names)
		h["Trailer"] = []string{strings.Join(slices.Compact(names), ", ")}
	}
}

// bodyAllowed is RFC 9110 6.4.1.
func bodyAllowed(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// brokenOff ends an answer that its source or its client has left unfinished. It must not look like
// a clean end: a client that has closed only its own side of the connection reads on. The part of
// the response that the origin has sent reaches the client before, as it does without a cache.
func (q *Request) brokenOff(a *delivery, err error) error {
	// Not if the client is at fault: then another goroutine sets a deadline for the dropped reader
	// now.
	failed := a.slices != nil && a.slices.failed
	if a.streaming != nil {
		failure := a.streaming.flight.Err()
		failed = failure != nil && errors.Is(err, failure)
	}
	if failed {
		_ = http.NewResponseController(q.w).Flush() // the client may have gone
	}
	abort(err)
	return err
}

// abort breaks the client's connection, with the handlers' panic if that is the cause.
func abort(err error) {
	rethrow(err)
	panic(http.ErrAbortHandler)
}

package httpcache

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/larder-cache/larder/rfc9111"
)

// batchWriter is the http.ResponseWriter of a request for many items. It keeps the answer whole,
// since what breaks off may not be used. One that is of no use is broken off at its header.
type batchWriter struct {
	run      *batchRun
	header   http.Header
	seed     []field // the leader's, with its own notes of what is lent
	status   int
	declared int64 // Content-Length, -1 for none
	outcome  batchOutcome
	why      error // in words
	cut      bool  // handlers were told to stop
	body     []byte
}

// init makes w the writer of run, with the header as the leader's outer handlers had filled it.
func (w *batchWriter) init(run *batchRun) {
	w.run, w.declared, w.outcome = run, -1, batchItem
	w.seed = slices.Clone(run.leader.fetch.seed)
	w.header = lend(w.seed)
}

// Header implements http.ResponseWriter.
func (w *batchWriter) Header() http.Header { return w.header }

// WriteHeader judges the answer.
func (w *batchWriter) WriteHeader(status int) {
	if w.status != 0 || status < http.StatusOK && status != http.StatusSwitchingProtocols {
		return // a 1xx is for one client
	}
	w.status, w.declared = status, declaredLength(w.header)
	w.run.visit.answered(status, w.header, lengthToCome(status, w.declared))
	w.run.changed = withoutTrailers(changes(w.seed, w.header, w.run.Route().decisive))
	w.run.header = w.run.Route().provided(w.seed, w.run.changed)
	freshness := w.judge()
	switch {
	case status != http.StatusOK:
		w.refuse(batchStatus, fmt.Errorf("its status is %d", status))
	case freshness.Reason != rfc9111.Storable && !freshness.UsableByFollowers():
		w.refuse(batchNotStorable, errors.New(freshness.Reason.String()))
	case rfc9111.ContentCoding(w.run.header) != "":
		w.refuse(batchCoded, nil)
	case w.declared > w.limit():
		w.refuse(batchTooLarge, nil)
	default:
		w.run.hadSetCookie = len(w.header["Set-Cookie"]) > 0
		w.leaveOutPersonal(&freshness)
	}
}

// leaveOutPersonal leaves out the fields that are for one client. The answer goes to several, and
// was made for none of them: each gets of it what those get who wait for a response.
func (w *batchWriter) leaveOutPersonal(freshness *rfc9111.Freshness) {
	shared := headerOf(w.run.changed)
	w.run.Route().Policy.MakeStorable(shared, freshness)
	w.run.changed = slices.DeleteFunc(w.run.changed, func(f field) bool {
		_, kept := shared[f.name]
		return !kept
	})
}

// judge says whether the answer may be stored, or given to all who wait: then so may its items be.
// It is judged without the fields of the whole, as its items are: a validator, which they lack, is
// no reason to store them. Each of them is judged by itself once more.
func (w *batchWriter) judge() rfc9111.Freshness {
	x := w.run.leader.fetch
	seen := *x.origin.Request(w.run.leader.call)
	seen.Header = seen.Header.Clone()
	// The request asks for no coding, so what a Vary says of codings does not count.
	seen.Header["Accept-Encoding"] = linesOf(x.clientHeader, "Accept-Encoding")
	header := maps.Clone(w.run.header)
	removeOfMany(header)
	ex := rfc9111.Exchange{
		Method: x.method, URL: x.URL(), Status: w.status, Header: header,
		RequestTime: w.run.begun, ResponseTime: time.Now(), RequestNoStore: x.noStore,
		HadSetCookie: len(w.header["Set-Cookie"]) > 0, VaryUnseen: !x.seesAllIn(&seen, w.run.header),
		// All of the batch have the same values of what their keys name.
		BeginsSession: x.route.beginsSession(w.header, linesOf(x.clientHeader, rfc9111.SessionField)),
	}
	return x.route.Policy.Freshness(&ex)
}

// limit is how long the answer may be: each item may be as long as the route says, and the store
// takes nothing longer than its own maximum.
func (w *batchWriter) limit() int64 {
	s := w.run.leader.fetch.cache.store
	if most := s.Settings().MaxBody; most > 0 {
		return min(most, s.LargestBody())
	}
	return s.LargestBody()
}

// refuse notes that the answer is of no use. The first reason counts.
func (w *batchWriter) refuse(outcome batchOutcome, why error) {
	if w.outcome == batchItem {
		w.outcome, w.why, w.body = outcome, why, nil
	}
}

// Write keeps a part of the answer.
func (w *batchWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.run.visit.received(int64(len(p)))
	if w.run.overdue.Load() {
		w.refuse(batchOverdue, nil)
	}
	if int64(len(w.body))+int64(len(p)) > w.limit() {
		w.refuse(batchTooLarge, nil)
	}
	if w.outcome == batchItem && !w.grow(len(p)) {
		w.refuse(batchNoRoom, nil)
	}
	if w.outcome != batchItem {
		w.cut = true
		w.run.visit.cutShort()
		return 0, errBatchCut
	}
	w.body = append(w.body, p...)
	return len(p), nil
}

// minBatchRoom is how much room an answer gets at first, in bytes.
const minBatchRoom = 4 << 10

// grow makes room for n more bytes. They count in the memory budget twice: while it grows, what has
// come is there a second time.
func (w *batchWriter) grow(n int) bool {
	if len(w.body)+n <= cap(w.body) {
		return true
	}
	room := max(2*cap(w.body), len(w.body)+n, minBatchRoom)
	more := 2 * int64(room-cap(w.body))
	if !w.run.leader.fetch.cache.store.Reserve(more, -w.run.reserved) {
		return false
	}
	w.run.reserved += more
	grown := make([]byte, len(w.body), room)
	copy(grown, w.body)
	w.body = grown
	return true
}

// end says what the answer is, now that the handlers have returned err.
func (w *batchWriter) end(err error) batchOutcome {
	switch {
	case w.status == 0:
		w.refuse(batchFailed, cmp.Or(err, errUnwritten))
	case w.outcome != batchItem:
	case err != nil, w.declared >= 0 && int64(len(w.body)) != w.declared:
		w.refuse(batchBrokeOff, err)
	}
	return w.outcome
}

// errUnwritten is why there is no answer where handlers have returned none.
var errUnwritten = errors.New("the handlers behind wrote no response")

// FlushError implements what http.ResponseController looks for: nothing is sent to a client.
func (w *batchWriter) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return nil
}

// Flush implements http.Flusher, for handlers that ask for it by type.
func (w *batchWriter) Flush() { _ = w.FlushError() }

// Interface guards.
var (
	_ http.ResponseWriter = (*batchWriter)(nil)
	_ http.Flusher        = (*batchWriter)(nil)
)

package httpcache

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/larder-cache/larder/batch"
	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// Fetches for single items may go to the origin together, as one request for many. Each stays a
// fetch of its own, with its flight, its ticket and its entry in the store. Only the way to the
// origin is shared:
//
//	fetch ─► window ─┬─ no other id came ──────────────────────────► its own request
//	                 └─ several ─► one request ─┬─ its item ───────► as if the origin had sent it
//	                                            ├─ lacks the id ───► 404, or its own request
//	                                            └─ of no use ──────► its own request
//
// The ticket is older than the window. So a purge that is issued after the window has begun finds
// the item, whether its request has gone out by then or not. The first of the fetches is the leader
// of the batch, and asks on its goroutine; see batchrun.go. What it gets is judged in
// batchwriter.go. A fetch that the rules do not let in has no batchMember.

// batchMember is the place of a fetch in a batch.
type batchMember struct {
	fetch *Fetch
	rule  *batch.Rule
	id    string
	group store.Key // equal for those that may be put together
	call  int       // which of the origin's requests is the one for many
	// remote is that of fetch. Here it stays when the member has left, and its fetch has ended.
	remote RemoteFetch

	// The origin's requests have a context of their own: the one for many may outlive the flight of
	// the leader. Its own request ends with that flight, see follow.
	ctx    context.Context
	cancel context.CancelCauseFunc

	alone  atomic.Bool              // no client waits for it
	run    atomic.Pointer[batchRun] // that it is a part of, while that is under way
	state  atomic.Uint32            // of memberState
	done   chan struct{}            // closed when result is set, and the member has not left
	result batchResult
}

// memberState says who has the last word.
type memberState = uint32

const (
	memberWaits    memberState = iota
	memberAnswered             // it has a result
	memberLeft                 // its flight has ended first
)

// batchResult is what came of a batch for one of its members.
type batchResult struct {
	outcome batchOutcome
	err     error     // for batchRefused, and in words for what was of no use
	run     *batchRun // nil if no request was made
	item    []byte    // for batchItem
}

// batchOutcome is what becomes of a fetch in a batch.
type batchOutcome uint8

const (
	// batchItem: the answer has its item.
	batchItem batchOutcome = iota
	// batchMissing: the answer lacks its id, which the rule answers with 404.
	batchMissing
	// batchRefused: the origin had no place for the request, so none of its fetches asks.
	batchRefused

	// After the following outcomes it asks on its own.

	// batchAlone: no other id came in the window.
	batchAlone
	// batchFailed: no answer came.
	batchFailed
	// batchOverdue: the answer was not there in time.
	batchOverdue
	// batchStatus: the answer is no 200.
	batchStatus
	// batchNotStorable: the answer may not be stored.
	batchNotStorable
	// batchCoded: the answer has a coding, although none was asked for.
	batchCoded
	// batchTooLarge: the answer is larger than the store takes.
	batchTooLarge
	// batchNoRoom: there was no room for the answer in the memory budget.
	batchNoRoom
	// batchBrokeOff: the answer broke off.
	batchBrokeOff
	// batchUnreadable: the answer is no JSON, or has no items where the rule looks for them.
	batchUnreadable
	// batchLacking: the answer lacks its id.
	batchLacking
	// batchAmbiguous: the answer has several items with its id.
	batchAmbiguous
	// batchOtherVariant: the answer is for other values of the fields that its Vary names.
	batchOtherVariant
)

// String returns the outcome in words.
func (o batchOutcome) String() string {
	switch o {
	case batchItem:
		return "the answer has the item"
	case batchMissing:
		return "the answer lacks the id, which counts as 404"
	case batchRefused:
		return "the origin had no place for the request"
	case batchAlone:
		return "no other id came in time"
	case batchFailed:
		return "no answer came"
	case batchOverdue:
		return "the answer was not there after half of coalesce wait"
	case batchStatus:
		return "the answer is no 200"
	case batchNotStorable:
		return "the answer may not be stored"
	case batchCoded:
		return "the answer has a Content-Encoding"
	case batchTooLarge:
		return "the answer is larger than max_body"
	case batchNoRoom:
		return "memory has no room for the answer"
	case batchBrokeOff:
		return "the answer broke off"
	case batchUnreadable:
		return "the answer has no items"
	case batchLacking:
		return "the answer lacks the id"
	case batchAmbiguous:
		return "the answer has the id more than once"
	case batchOtherVariant:
		return "the answer is for requests that differ in a field which its Vary names"
	}
	return fmt.Sprintf("batch(%d)", uint8(o))
}

// batchFit says whether a request may be put together with others.
type batchFit uint8

const (
	fitOtherPath     batchFit = iota // no rule speaks of it
	fitAlike                         // it may, with those alike
	fitMethod                        // it is no GET
	fitAuthorization                 // it has Authorization
	fitCookie                        // it has a cookie outside of the key
	fitQuery                         // it has a query, which the request for many has no place for
	fitRange                         // it asks for a part
	fitObserved                      // the route only observes
	fitTooLong                       // its id is too long
	fitUnlistable                    // its id cannot stand in a list
	fitLate                          // the answer for others is late
)

// String returns the reason in words.
func (f batchFit) String() string {
	switch f {
	case fitOtherPath:
		return batch.OtherPath.String()
	case fitAlike:
		return batch.Fits.String()
	case fitMethod:
		return "it is no GET"
	case fitAuthorization:
		return "it has Authorization"
	case fitCookie:
		return "it has a cookie that is not in the key"
	case fitQuery:
		return "it has a query"
	case fitRange:
		return "it has Range"
	case fitObserved:
		return "the route only observes"
	case fitTooLong:
		return batch.TooLong.String()
	case fitUnlistable:
		return batch.Unlistable.String()
	case fitLate:
		return fmt.Sprintf("the answer to such a request is late, or was given up within the last %s", batchRest)
	}
	return fmt.Sprintf("fit(%d)", uint8(f))
}

// batchFit returns the rule that speaks of the request, its number, the id, and whether the request
// may be put together with others.
func (q *Request) batchFit() (n int, id string, fit batchFit) {
	if len(q.route.Batches) == 0 {
		return 0, "", fitOtherPath
	}
	path := q.keyed.inner.EscapedPath()
	for n, rule := range q.route.Batches {
		switch id, of := rule.ID(path); of {
		case batch.OtherPath:
		case batch.TooLong:
			return n, id, fitTooLong
		case batch.Unlistable:
			return n, id, fitUnlistable
		case batch.Fits:
			return n, id, q.fitOfItem()
		}
	}
	return 0, "", fitOtherPath
}

// fitOfItem says whether a request for an item may be put together with others.
func (q *Request) fitOfItem() batchFit {
	h, rules := q.r.Header, &q.route.Key.Query
	hasQuery := func(u *url.URL) bool { return rules.apply(u.RawQuery) != "" || u.ForceQuery && u.RawQuery == "" }
	switch {
	case q.r.Method != http.MethodGet:
		return fitMethod
	case len(h["Authorization"]) > 0:
		return fitAuthorization
	case q.unkeyedCookie:
		return fitCookie
	case hasQuery(q.keyed.inner), hasQuery(q.keyed.URL):
		return fitQuery
	case len(h["Range"]) > 0:
		return fitRange
	case q.observed() != nil:
		return fitObserved
	}
	return fitAlike
}

// batchMember returns the place of the request's fetch in a batch, nil if it asks on its own. So
// does one that waits for no other, and one that follows a failure.
func (q *Request) batchMember(f *coalesce.Flight) *batchMember {
	if len(q.route.Batches) == 0 || f.Attempt() > 1 || f.Tag().(*flightTag).solo {
		return nil
	}
	n, id, fit := q.batchFit()
	if fit != fitAlike {
		return nil
	}
	group := q.batchGroup(n)
	if q.batchesRest(group) {
		return nil
	}
	m := &batchMember{rule: q.route.Batches[n], id: id, group: group, done: make(chan struct{})}
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	return m
}

// requests returns the context of the origin's requests for a flight, and how many are made. One
// more than copies is made if it may ask together with others.
func (m *batchMember) requests(f *coalesce.Flight, copies int) (ctx context.Context, all int) {
	if m == nil {
		return f.Context(), copies
	}
	m.call = copies
	return m.ctx, copies + 1
}

// serve makes m the place of x. The request for many validates nothing.
func (m *batchMember) serve(x *Fetch) {
	if m != nil {
		m.fetch = x
		rfc9111.ClearConditions(x.origin.Request(m.call).Header)
	}
}

// follow has the request that the fetch makes on its own end with its flight.
func (m *batchMember) follow() {
	flight := m.fetch.flight.Context()
	context.AfterFunc(flight, func() { m.cancel(context.Cause(flight)) })
}

// batchFields are those of a request that the origin, or a cache in front of it, may answer
// otherwise for without saying so in Vary.
var batchFields = [...]string{"Accept", "Cache-Control", "Pragma"}

// batchGroup is equal for requests that may be put together by a rule: those whose keys differ in
// the id alone, and that have the same batchFields.
func (q *Request) batchGroup(n int) store.Key {
	k, pattern := q.keyed, &url.URL{Path: q.route.Batches[n].Path}
	if sameTarget(k.URL, k.inner) {
		k.URL = pattern
	} else if prefix, ok := strings.CutSuffix(k.URL.EscapedPath(), k.inner.EscapedPath()); ok {
		k.URL = &url.URL{Path: prefix + pattern.Path}
	} // else it was rewritten otherwise, and nothing tells which part of it the id is
	k.inner = pattern
	values := make([]string, 0, len(batchFields)+2)
	values = append(values, strconv.Itoa(n), strconv.Itoa(int(q.hops)))
	for _, name := range batchFields {
		values = append(values, strings.Join(q.r.Header[name], "\n"))
	}
	return q.route.byRules(variantKey(q.route.Key.key(&k), batchFields[:], values))
}

// batchesRest reports whether none of a group are put together for now: an answer for many of them
// is late, or was given up lately.
func (q *Request) batchesRest(group store.Key) bool { return q.cache().lateBatches.rests(group) }

// askTogether asks the origin together with other fetches. answered is false if the fetch has to
// ask on its own.
func (x *Fetch) askTogether() (answered bool, err error) {
	m := x.member
	x.flight.SetQueued(true) // until the request for all has its place
	m.remote = x.remote
	group, leads := x.route.batches.Join(m.group, m.rule, m.id, m)
	if leads {
		m.lead(group.Gather())
	}
	select {
	case <-m.done:
	case <-x.flight.Context().Done():
		if m.state.CompareAndSwap(memberWaits, memberLeft) {
			return true, fmt.Errorf("waiting for the answer for many: %w", context.Cause(x.flight.Context()))
		}
		<-m.done
	}
	defer m.result.run.release()
	if outcome := m.result.outcome; outcome == batchItem || outcome == batchMissing {
		if !x.selectedAlike(m.result.run) {
			m.result.outcome = batchOtherVariant
		}
	}
	x.trace.batched(m)
	switch m.result.outcome {
	case batchItem:
		x.takeItem(http.StatusOK)
		return true, nil
	case batchMissing:
		x.takeItem(http.StatusNotFound)
		return true, nil
	case batchRefused:
		return true, m.result.err
	default:
		x.tellWaits()
		m.follow()
		return false, nil
	}
}

// answer sets the result of a member, unless that has left.
func (m *batchMember) answer(result batchResult) {
	if !m.state.CompareAndSwap(memberWaits, memberAnswered) {
		return
	}
	if result.run != nil {
		result.run.readers.Add(1)
	}
	m.result = result
	m.run.Store(nil) // what it asks for from now on is its own
	close(m.done)
}

// selectedAlike reports whether the answer to a batch was selected as one to this fetch would be
// (RFC 9111 4.1). The request for many asks for no coding, whatever its clients accept.
func (x *Fetch) selectedAlike(run *batchRun) bool {
	return slices.Equal(x.selectedBy(run.header), run.selectedBy)
}

func (x *Fetch) selectedBy(header http.Header) []string {
	if x.route.Policy.Ignores("Vary") {
		return nil
	}
	names, _ := rfc9111.VaryNames(header)
	names = slices.DeleteFunc(names, func(name string) bool { return name == "Accept-Encoding" })
	names, values := x.route.withWritten(x.request(), names, variantValues(names, x.clientHeader))
	return append(names, values...)
}

// takeItem takes the fetch's part of the answer for many as if the origin had sent it alone.
func (x *Fetch) takeItem(status int) {
	result := &x.member.result
	x.begun, x.hadSetCookie = result.run.begun, result.run.hadSetCookie
	header := x.writer.header
	overlay(header, result.run.changed, nil)
	removeOfMany(header)
	if status != http.StatusOK {
		delete(header, "Content-Type")
	}
	header["Content-Length"] = []string{strconv.Itoa(len(result.item))}
	x.writer.WriteHeader(status)
	if len(result.item) > 0 {
		_, _ = x.writer.Write(result.item) // what comes of it the writer knows
	}
}

// fieldsOfMany are about the whole answer, and wrong for a part of it: validators, where it is, its
// length, codings, ranges, digests and signatures.
var fieldsOfMany = [...]string{
	"Etag", "Last-Modified", "Content-Location", "Content-Length", "Content-Encoding", "Content-Range", "Accept-Ranges",
	"Content-Md5", "Digest", "Content-Digest", "Repr-Digest", "Signature", "Signature-Input", "Trailer",
}

func removeOfMany(h http.Header) {
	for _, name := range fieldsOfMany {
		delete(h, name)
	}
}

// batchTags returns the tags that the rules give to what the fetch brings, together with others or
// not. What is no tag is left out without a line in the log: a client has sent a long id.
func (x *Fetch) batchTags() []string {
	if len(x.route.Batches) == 0 {
		return nil
	}
	path := x.inner.EscapedPath()
	for _, rule := range x.route.Batches {
		if id, fit := rule.ID(path); fit != batch.OtherPath {
			return slices.DeleteFunc(rule.Tags(id, x.origin.Expand), func(tag string) bool { return !rfc9111.ValidTag(tag) })
		}
	}
	return nil
}

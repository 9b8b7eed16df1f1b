package httpcache

import (
	"errors"
	"net/http"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// membership is a request's place on a flight.
type membership struct {
	flight *coalesce.Flight
	member *coalesce.Member
	fetch  *Fetch // not nil for the leader
}

// following is the state of a request that waits for the fetches of others.
type following struct {
	deadline time.Time // how long it waits, for all of them together; zero: it has not begun to
	// What it had found in slices has proved outdated then.
	outdatedAt time.Time
	// One of them was for another client only, and it has had another round since.
	rejoined bool
	// It has given one of them up early because its header was late, see late.go.
	gaveUp bool
	// It has waited until the deadline.
	isOver bool
	// It has begun to wait for a body that may break off, see awaitFirst.
	withheld bool
	// What two fetches of others have failed with, the second at least, if it waits for a third.
	failed  error
	failure int
	// What it has tried to read ahead of a fetch of the whole, or nil: see rangeahead.go.
	ahead *aheadOfWhole
}

// follower is the request's state as one that follows others.
func (q *Request) follower() *following {
	if q.following == nil {
		q.following = new(following)
	}
	return q.following
}

// join joins the flight for the request's key, or begins one.
func (q *Request) join(key store.Key) membership {
	ticket, tag := q.begin(key)
	f, m, started := q.cache().flights.Join(q.keepApart(tag), tag, q.joinable)
	return q.startFetch(f, m, started, ticket)
}

// solo begins a flight that no other request can join.
func (q *Request) solo(key store.Key) membership {
	ticket, tag := q.begin(key)
	tag.solo = true
	f, m := q.cache().flights.Solo(tag)
	return q.startFetch(f, m, true, ticket)
}

// joinRunning joins the flight for the request's key if there is one. Otherwise it passes the
// request on as it is.
func (q *Request) joinRunning(key store.Key) (answered bool, err error) {
	f, m, ok := q.cache().flights.JoinRunning(key, q.joinable)
	if !ok {
		return true, q.passUncached(q.forward, rfc9111.Storable)
	}
	return q.serveFrom(membership{flight: f, member: m})
}

// retry joins the flight that follows a failed one.
func (q *Request) retry(s membership) (next membership, ok bool) {
	if q.keyed.ShowsHead || s.flight.Attempt() > 1 && q.failsAlike(s.flight) {
		return membership{}, false
	}
	failed, failure := s.flight.Err(), s.failure()
	ticket, tag := q.begin(q.flightKey())
	tag.apart = s.flight.Tag().(*flightTag).apart
	f, m, started := s.member.Retry(tag)
	if f == nil {
		ticket.End()
		return membership{}, false
	}
	if f.Attempt() > 2 {
		following := q.follower()
		following.failed, following.failure = failed, failure
	}
	return q.startFetch(f, m, started, ticket), true
}

// failsAlike reports whether one of the two fetches that have failed was made for a request with
// the same fields as this one. Any client can have the origin fail by a field of its own. So what
// two fetches have failed with is given to those with the same fields alone. The others make a
// third one together. A fetch that had no place at the origin, or failed by another machine's, says
// nothing about fields.
func (q *Request) failsAlike(f *coalesce.Flight) bool {
	fields := q.fieldsSum()
	for _, of := range [...]any{f.Tag(), f.Former()} {
		if tag, ok := of.(*flightTag); ok && tag.asked.Load() && sumOf(tag.came) == fields {
			return true
		}
	}
	return false
}

// startFetch starts the fetch if this request leads the flight.
func (q *Request) startFetch(f *coalesce.Flight, m *coalesce.Member, started bool, ticket ticket) membership {
	s := membership{flight: f, member: m}
	if !started {
		ticket.End()
		return s
	}
	if q.found.Entry != nil && q.found.Ready(0) != nil {
		q.treatAsMiss() // it must not be validated
	}
	s.fetch = q.newFetch(f, ticket)
	q.run(s.fetch)
	return s
}

// run starts the fetch, unless what it would fetch has been stored meanwhile.
func (q *Request) run(x *Fetch) {
	if q.observed() != nil {
		q.observed().copy(x)
		return
	}
	if q.answerFromStore(x) {
		x.end()
		return
	}
	q.cache().workers.run(x)
}

// begin opens a ticket for a fetch that this request may have to make, and returns it with its
// flightTag.
func (q *Request) begin(key store.Key) (ticket, *flightTag) {
	tag := &flightTag{
		key: key, page: key, url: q.storedURL(), begun: q.now, client: q.origin.ClientAddr(), followsLate: q.hasGivenUp(),
	}
	t := q.cache().begin(tag.url)
	tag.generation = t.Generation()
	return t, tag
}

// answerFromStore answers the flight of a fetch that has not begun from the store, and reports
// whether it did. Between this request's look-up and its joining, another flight for the same key
// may have stored its response and ended. The fetch would then be one too many. So would be a
// refresh of what another one has renewed meanwhile.
func (q *Request) answerFromStore(x *Fetch) bool {
	if q.found.Entry != nil && !x.background || q.forward == rfc9111.ForwardRequest || q.mustValidate {
		return false
	}
	found := q.cache().store.Lookup(q.key, q.selects)
	if found.Entry == nil || q.found.Entry != nil && !found.Entry.RequestTime.After(q.found.Entry.RequestTime) {
		found.Release()
		return false
	}
	q.updateNow() // the response may be newer than q.now
	freshness := q.evaluate(found.Entry)
	use, _ := freshness.UseFor(q.directives, q.arrivedAt(), q.now, validityOf(found.Severity))
	if use != rfc9111.UseFresh || !q.route.varianceAgrees(found.Entry, &q.keyed, q.keyed.variance) || found.Ready(0) != nil {
		found.Release()
		return false
	}
	x.hold(found)
	x.share(&sharedResponse{
		source: fromStore, entry: found.Entry, freshness: freshness,
		variant: found.Entry.Variant, was: found.Entry,
	}, 0)
	x.flight.Finish(nil)
	return true
}

// usable reports whether a running flight may answer this request, by purges, by its beginning and
// the age of its answer.
func (q *Request) usable(f *coalesce.Flight) bool {
	tag := f.Tag().(*flightTag)
	if !q.began(f) || q.foundLater(f) || q.shuns(f) {
		return false
	}
	if q.objectChanged && !tag.begun.After(q.following.outdatedAt) {
		return false // it has brought the head that is outdated, or may have
	}
	shared, decided := f.Shared().(*sharedResponse)
	if !decided {
		return q.cache().store.Purged(tag.url, nil, tag.generation) == store.NotPurged
	}
	// If the ticket has ended, the store may have forgotten a purge. Then the shared response has
	// recorded it.
	return q.inTime(shared) && !shared.purgedSince(q.cache().store, tag.url, tag.generation) && !shared.purged.Load()
}

// foundLater reports whether what is stored was asked for later than a flight asked: its answer
// would be the older one of the two, although the stored one is not fresh any more.
func (q *Request) foundLater(f *coalesce.Flight) bool {
	if q.found.Entry == nil {
		return false
	}
	begun, asked := f.Tag().(*flightTag).begun, q.found.Entry.RequestTime
	return asked.After(begun) && !asked.After(time.Now()) // the clock may have been set back
}

// inTime reports whether a flight's response, which is older than this request, may answer it, as a
// stored one would. If it stands in for a failure, or came from the store, respondShared checks
// more.
func (q *Request) inTime(shared *sharedResponse) bool {
	if shared.source != fromOrigin && shared.source != fromValidation {
		return true
	}
	use, _ := shared.freshness.UseFor(q.directives, q.arrivedAt(), time.Now(), rfc9111.Valid)
	return use != rfc9111.UseValidate && use != rfc9111.UseNever
}

// joinable reports whether the request may join a running flight. It may not if the origin has sent
// nothing for as long as a follower waits, or so little that it is as late as that: one fetch that
// hangs must not make a URL unavailable while the origin is well. What is late by other measures is
// in late.go. A flight may hang if its header is all that the request needs.
func (q *Request) joinable(f *coalesce.Flight) bool {
	if !q.usable(f) {
		q.watch(f)
		return false
	}
	shared, decided := f.Shared().(*sharedResponse)
	switch {
	case !decided:
		return !q.isLate(f)
	case f.TimeLeft(q.route.Wait) > 0, shared.source == fromOrigin && q.headerIsEnough(shared):
		return true
	}
	q.watch(f)
	return false
}

// headerIsEnough reports whether the answer to this request from a shared response has no body.
func (q *Request) headerIsEnough(shared *sharedResponse) bool {
	return q.r.Method == http.MethodHead ||
		q.notModified(shared.status, shared.header, shared.exchange.ResponseTime)
}

// serveFrom waits for the flight's decision and acts on it. answered is false if the request needs
// another round.
//
//	shared    the answer is the flight's
//	failed    a follower gets the stored response, if it may stand in. Otherwise it waits for the
//	          flight that follows, and goes round the loop again
//	released  a follower fetches for itself, at once or in another round
//
// serveUnshared has the rest, and serveEnded what a leader gets of a failure.
func (q *Request) serveFrom(s membership) (answered bool, err error) {
	if q.observed() != nil {
		return true, q.observeFetch(s)
	}
	for {
		result := s.member.Wait(q.r.Context(), q.waitTimeout(s), q)
		if result == coalesce.Shared || result == coalesce.Failed && s.owesHeader() {
			if answered, err = q.serveShared(s); !errors.Is(err, errBrokenEarly) {
				return answered, err
			}
			result = coalesce.Failed
		}
		if refusal := refusalOf(s.flight.Err()); result == coalesce.Failed && refusal != nil {
			if answered, err := q.answerRefused(s, refusal); answered {
				return true, err
			}
		}
		if result == coalesce.TimedOut && s.flight.Attempt() > 2 {
			q.leave(s, false) // two have failed: it does not ask for itself what may take as long
			return true, q.failFollowers(q.following.failed, q.following.failure)
		}
		if result == coalesce.TimedOut && q.goesOn(s.flight) {
			q.leave(s, false)
			return false, nil
		}
		next, again := membership{}, false
		if result == coalesce.Failed && s.fetch == nil && q.unsafe() {
			// Another's failure says nothing about it.
			q.leave(s, false)
			return q.fetchAlone(q.forward)
		}
		if result == coalesce.Failed && s.fetch == nil {
			if err, ok := q.staleOnError(s.failure()); ok {
				q.leave(s, false)
				return true, err
			}
			next, again = q.retry(s)
		}
		if !again {
			if result == coalesce.Released && q.mayRejoin(s) {
				q.leave(s, false)
				return false, nil
			}
			return true, q.serveUnshared(s, result)
		}
		s = next
	}
}

// unsafe reports whether the request may change something at the origin. Such requests wait for
// each other because the answer may say that it is for all requests with the same content (RFC 9110
// 9.3.3). Any other answer is for one request alone. A failure, or an answer for one client, says
// nothing about a request that has not been sent.
func (q *Request) unsafe() bool { return q.route.Policy.Unsafe(q.keyed.method) }

// owesHeader reports whether the flight was begun for this request and has a header. Its failure
// then came too late for an answer other than that header.
func (s membership) owesHeader() bool {
	return s.fetch != nil && s.flight.Attempt() == 1 && s.flight.Shared() != nil
}

// waitTimeout returns how long the request waits for a flight's decision. A follower's timeout
// covers all its waits together: a flight that fails is followed by another, and one for other
// values of a Vary by one for its own. Of a key that was late it has less for the first.
func (q *Request) waitTimeout(s membership) time.Duration {
	if s.fetch != nil {
		return 0 // the fetch is for it
	}
	f := q.follower()
	if f.deadline.IsZero() {
		wait := q.route.Wait
		if s.flight.Queued() {
			wait += q.route.Budget.Wait()
		}
		if q.sharing() != sharingOpen {
			wait = min(wait, lateHeader)
		}
		f.deadline = time.Now().Add(wait)
	}
	left := time.Until(f.deadline)
	if q.givesUpEarly(s.flight) {
		left = min(left, q.lateWait(q.flightKey()))
	}
	return max(1, left) // 0 would be for ever
}

// mayRejoin reports whether a follower whose flight was released gets another round. It gets one if
// the leader's answer says nothing about its own, because the leader's request was personal or odd.
// Requests such as the leader's share a flight among themselves.
func (q *Request) mayRejoin(s membership) bool {
	if s.fetch != nil || q.following == nil || q.following.rejoined || q.unsafe() {
		return false
	}
	q.following.rejoined = true
	return q.sharing() != sharingHitForMiss
}

// serveShared answers from a flight that shares its response, and leaves the flight. It leaves
// after a panic as well, which is how an answer breaks off. It stays if another attempt may follow.
func (q *Request) serveShared(s membership) (answered bool, err error) {
	answered = true
	defer func() {
		if !errors.Is(err, errBrokenEarly) {
			q.leave(s, answered)
		}
	}()
	return q.respondShared(s)
}

// serveUnshared answers a request whose flight has nothing to share, and leaves the flight. It
// leaves first if it asks the origin for itself.
func (q *Request) serveUnshared(s membership, result coalesce.WaitResult) error {
	if result == coalesce.TakenOver || result == coalesce.Failed {
		defer q.leave(s, true)
		return q.serveEnded(s, result)
	}
	q.leave(s, false)
	switch {
	case result == coalesce.Released:
		return q.passUncached(q.forward, rfc9111.Storable)
	case result != coalesce.TimedOut && result != coalesce.Crowded:
		return q.respondGone()
	}
	return q.respondLate()
}

// respondLate answers a request that has waited for others in vain.
func (q *Request) respondLate() error {
	if e, ok := q.staleOnError(rfc9111.NoAnswer); ok && !q.unsafe() {
		return e
	}
	if q.sharing() == sharingOpen {
		return q.bypass(BypassCoalesceWait)
	}
	q.cache().hitForMiss.note(q.doubtKey(), time.Now()) // again a header that comes late
	_, err := q.fetchAlone(rfc9111.ForwardMiss)
	return err
}

// serveEnded answers a request whose flight ended without a response to share: it failed, or its
// response has gone straight to this request's client.
func (q *Request) serveEnded(s membership, result coalesce.WaitResult) error {
	switch {
	case result == coalesce.TakenOver:
		if s.fetch.writer.out == nil { // an error and no response, so no pass writer has decided
			q.decide(Decision{Outcome: OutcomeMiss, Forward: q.forward, Detail: DetailError})
		}
		return q.leaderError(s)
	case s.fetch == nil || s.flight.Attempt() > 1 || failedElsewhere(s.flight.Err()):
		return q.failFollowers(s.flight.Err(), s.failure())
	}
	if e, ok := q.staleOnError(s.failure()); ok {
		return e
	}
	q.decide(Decision{Outcome: OutcomeMiss, Forward: q.forward, NotStored: rfc9111.ReasonIncomplete})
	return q.leaderError(s)
}

// failedElsewhere reports whether a flight failed because fetches of other machines have. Then its
// leader has no response of its own.
func failedElsewhere(err error) bool {
	failure, ok := errors.AsType[*originError](err)
	return ok && failure.elsewhere
}

// leave leaves the flight. A request that asks the origin for itself leaves before it does: the
// window of a large body waits for the slowest member, and that one would read nothing.
//
// A leader that stayed to the end and has its answer from the fetch takes what the handlers left
// for the access log. A flight may end at the response header while the handlers go on. Then they
// still write to what the leader would take, so it takes nothing.
func (q *Request) leave(s membership, stayed bool) {
	if s.fetch != nil {
		switch {
		case !s.flight.Ended():
			s.fetch.leaderGone.Store(true)
		case stayed && s.fetch.returned.Load():
			s.fetch.origin.Finish(q.origin)
		}
	}
	s.member.Leave()
}

// leaderError returns what the fetch ended with to the leader, as without a cache. That includes a
// panic.
func (q *Request) leaderError(s membership) error {
	if w := s.fetch.writer; w.out == nil {
		// No response came, but error handlers see what was set for one.
		replaceHeader(q.w.Header(), w.header)
		q.route.stripTags(q.w.Header())
		q.trace.tell(q.w.Header())
	}
	err := s.flight.Err()
	rethrow(err)
	return err
}

// failFollowers answers the followers when the last fetch for them failed too. They get its status
// without the origin's body, as an error that error handlers can treat.
func (q *Request) failFollowers(err error, failure int) error {
	if e, ok := q.staleOnError(failure); ok {
		return e
	}
	d := Decision{Outcome: OutcomeMiss, Forward: q.forward, NotStored: rfc9111.ReasonIncomplete}
	status := http.StatusBadGateway
	if failure, ok := errors.AsType[*originError](err); ok {
		status, d.NotStored = failure.status, rfc9111.ReasonStatus
		if failure.retryAfter != "" {
			q.w.Header().Set("Retry-After", failure.retryAfter)
		}
	} else if handlerErr, ok := errors.AsType[*Error](err); ok {
		d.NotStored, d.Detail = rfc9111.Storable, DetailError
		if handlerErr.Status != 0 {
			status = handlerErr.Status
		}
	}
	if errors.Is(err, http.ErrAbortHandler) { // which says nothing to a page for errors
		err = errBrokeOff
	}
	q.decide(d)
	return fail(status, err)
}

// errBrokeOff is what those who wait are told of a fetch whose handlers have aborted it.
var errBrokeOff = errors.New("the origin's response broke off")

// staleOnError answers with the stored response, if that may be used after the origin failed with
// this status, or [rfc9111.NoAnswer] (RFC 5861 4).
func (q *Request) staleOnError(status int) (err error, ok bool) {
	q.updateNow() // it has waited
	if !q.mayUseStale(status) {
		return nil, false
	}
	return q.respondStored(OutcomeStale, DetailSIE), true
}

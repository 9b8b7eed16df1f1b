package httpcache

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/batch"
	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/store"
)

// batchRun is one request for many items, on the goroutine of the fetch that leads.
type batchRun struct {
	leader  *batchMember
	members []*batchMember
	ids     []string // each once
	visit   visit
	begun   time.Time
	writer  batchWriter

	// Set when the answer has come, and only read after that.
	header     http.Header // as it is judged
	changed    []field     // what the origin has changed in the leader's, without one client's fields
	selectedBy []string    // see Fetch.selectedBy
	// hadSetCookie: the answer came with a Set-Cookie, which changed may lack.
	hadSetCookie bool

	lateness lateness     // see lateBatches
	places   sync.Mutex   // orders what the budget is told of clients
	overdue  atomic.Bool  // nobody waits for the answer any more, see wait
	readers  atomic.Int64 // members that read the answer, and the run itself
	reserved int64        // of the memory budget, given back when the last of them has
}

// lead asks for those who have come together. It ends the wait of each, whatever happens.
func (m *batchMember) lead(members []*batchMember) {
	run := &batchRun{leader: m, members: slices.DeleteFunc(members, (*batchMember).gone)}
	run.readers.Store(1)
	defer run.release()
	defer run.endWith(batchFailed, nil)
	for _, other := range run.members {
		if !slices.Contains(run.ids, other.id) {
			run.ids = append(run.ids, other.id)
		}
	}
	if len(run.ids) < 2 {
		run.endWith(batchAlone, nil)
		return
	}
	defer run.outlive()()
	run.ask()
}

// gone reports whether no client waits for the member any more.
func (m *batchMember) gone() bool { return m.fetch.flight.Context().Err() != nil }

// outlive has the request go on until the flights of all members have ended, and not the leader's
// alone. The function that it returns ends that.
func (run *batchRun) outlive() (end func()) {
	var left atomic.Int64
	left.Store(int64(len(run.members)))
	stops := make([]func() bool, len(run.members))
	for i, m := range run.members {
		flight := m.fetch.flight.Context()
		stops[i] = context.AfterFunc(flight, func() {
			if left.Add(-1) == 0 {
				run.leader.cancel(context.Cause(flight))
			}
		})
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// ask asks when the origin has a place for the request.
func (run *batchRun) ask() {
	x := run.leader.fetch
	run.visit.place.Page, run.visit.fetch = pageOf(run.leader.group), x
	class := run.class()
	if class == origin.ClassRefresh {
		run.visit.noteKind() // as with a fetch of its own
	}
	if err := run.visit.enter(run.leader.ctx, run, FetchBatch, class); err != nil {
		run.endWith(batchRefused, err)
		return
	}
	for _, m := range run.members {
		m.run.Store(run)
		m.fetch.flight.SetQueued(false)
		if m.remote != nil {
			m.remote.Asks()
		}
	}
	run.tellClients()
	run.begun = time.Now()
	run.prepare()
	run.writer.init(run)
	done := run.wait()
	err := guarded(func() error { return x.origin.Do(run.leader.call, &run.writer) })
	done()
	outcome := run.writer.end(err)
	if run.writer.cut {
		err = nil // the answer was broken off here
	}
	run.visit.leave(run, err, run.writer.header)
	if outcome != batchItem {
		run.endWith(outcome, run.writer.why)
		return
	}
	run.handOut()
}

// batchLate is how long the answer for many may take before others of its kind are asked for alone
// rather than in another request for many, which may be as slow.
const batchLate = time.Second

// batchRest is for how long they are after an answer was given up.
const batchRest = 10 * time.Second

// lateBatches knows of which groups an answer for many is late, or was given up lately. What comes
// of one run says nothing of another, which may have a slow id among its own.
type lateBatches struct {
	mu      sync.Mutex // of late, and of batchRun.lateness
	late    map[store.Key]int
	givenUp *recentKeys
}

// lateness is what lateBatches knows of a run.
type lateness uint8

const (
	inTime lateness = iota
	isLate
	isOver // whatever came of it
)

func newLateBatches() *lateBatches {
	return &lateBatches{late: make(map[store.Key]int), givenUp: newRecentKeys(maxRecentKeys/16, batchRest, 0)}
}

// begin notes that the answer for a run is late, unless the run is over.
func (l *lateBatches) begin(run *batchRun) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if run.lateness == inTime {
		run.lateness = isLate
		l.late[run.leader.group]++
	}
}

// end notes that a run's answer has come, or was given up.
func (l *lateBatches) end(run *batchRun, givenUp bool) {
	group := run.leader.group
	if givenUp {
		l.givenUp.note(group, time.Now())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if run.lateness == isLate {
		if l.late[group]--; l.late[group] == 0 {
			delete(l.late, group)
		}
	}
	run.lateness = isOver
}

// rests reports whether none of a group are to be put together for now.
func (l *lateBatches) rests(group store.Key) bool {
	l.mu.Lock()
	late := l.late[group] > 0
	l.mu.Unlock()
	return late || l.givenUp.lately(group, time.Now())
}

// batchPatience is how long the answer for many may take. All its members wait for the slowest of
// the ids, which a client may have chosen for that. Half of the wait is left for what each asks for
// on its own then: those who wait for a member's fetch would otherwise ask for themselves.
func (rt *Route) batchPatience() time.Duration { return rt.Wait / 2 }

// wait ends the wait for the answer, whole, when it has taken too long. It is called before the
// handlers are, and the function that it returns when they have returned. Handlers that do not heed
// the end of their request's context hold up the leader alone, whose goroutine they are on.
func (run *batchRun) wait() (done func()) {
	m, late, patience := run.leader, run.Route().cache.lateBatches, run.Route().batchPatience()
	r := m.fetch.origin.Request(m.call)
	ctx, cancel := context.WithCancelCause(r.Context())
	*r = *r.WithContext(ctx)
	run.visit.ctx = ctx // that it is given up says nothing of the origin
	tooLate := time.AfterFunc(min(batchLate, patience), func() { late.begin(run) })
	given := make(chan struct{})
	isOverdue := time.AfterFunc(patience, func() {
		defer close(given)
		late.end(run, true)
		run.overdue.Store(true)
		run.tellClients()
		cancel(errBatchOverdue)
		run.endWith(batchOverdue, nil)
	})
	return func() {
		tooLate.Stop()
		if !isOverdue.Stop() {
			<-given
			run.writer.refuse(batchOverdue, nil)
			return
		}
		late.end(run, false)
	}
}

// setAlone notes whether no client waits for the fetch any more, and reports whether it is a part
// of a batch that is under way.
func (m *batchMember) setAlone(alone bool) (together bool) {
	if m == nil {
		return false
	}
	m.alone.Store(alone)
	run := m.run.Load()
	if run != nil {
		run.tellClients()
	}
	return run != nil
}

// tellClients tells the budget whether a client waits for any of the items. If none does, the
// request may be given up where others need its place, as with a fetch of its own.
func (run *batchRun) tellClients() {
	run.places.Lock()
	defer run.places.Unlock()
	budget := run.Route().Budget
	budget.Attended(&run.visit.place)
	if run.overdue.Load() {
		return // its members have places of their own
	}
	if !slices.ContainsFunc(run.members, func(m *batchMember) bool { return !m.alone.Load() }) {
		budget.Unattended(&run.visit.place, time.Now().Add(unattendedGrace), run.giveUp)
	}
}

// giveUp gives all members up, and reports whether the request will end by that.
func (run *batchRun) giveUp() bool {
	if run.overdue.Load() {
		return true
	}
	for _, m := range run.members {
		if !m.gone() && !m.fetch.flight.GiveUp() {
			return false // a client has come
		}
	}
	return true
}

// prepare makes the leader's request one for all ids.
func (run *batchRun) prepare() {
	m := run.leader
	r := m.fetch.origin.Request(m.call)
	target := *r.URL
	if u, err := url.ParseRequestURI(m.rule.Target(run.ids)); err == nil { // as it was when the rule was made
		target.Path, target.RawPath, target.RawQuery, target.ForceQuery = u.Path, u.RawPath, u.RawQuery, false
	}
	m.fetch.origin.Retarget(m.call, &target)
	r.Header["Accept-Encoding"] = []string{"identity"} // an item is cut out of what is not coded
	delete(r.Header, RepeatsField)                     // which is about one client
}

// class is what the request does without a place: what the member with the least to answer with
// would.
func (run *batchRun) class() origin.Class {
	class := origin.ClassRefresh
	for _, m := range run.members {
		switch m.fetch.admissionClass() {
		case origin.ClassWaiting, origin.ClassOngoing:
			return origin.ClassWaiting
		case origin.ClassStale:
			class = origin.ClassStale
		case origin.ClassRefresh:
		}
	}
	return class
}

// handOut gives each member its item.
func (run *batchRun) handOut() {
	rule := run.leader.rule
	items, err := rule.Split(run.writer.body, run.ids)
	if err != nil {
		run.endWith(batchUnreadable, err)
		return
	}
	run.selectedBy = run.leader.fetch.selectedBy(run.header)
	for _, m := range run.members {
		switch item, presence := items.Find(m.id); {
		case presence == batch.Present:
			m.answer(batchResult{outcome: batchItem, run: run, item: item})
		case presence == batch.Ambiguous:
			m.answer(batchResult{outcome: batchAmbiguous, run: run})
		case rule.Missing == batch.Missing404:
			m.answer(batchResult{outcome: batchMissing, run: run})
		default:
			m.answer(batchResult{outcome: batchLacking, run: run})
		}
	}
}

// endWith gives all members that have no result the same one.
func (run *batchRun) endWith(outcome batchOutcome, err error) {
	for _, m := range run.members {
		m.answer(batchResult{outcome: outcome, err: err, run: run})
	}
}

// release gives the memory of the answer back when it is not read any more.
func (run *batchRun) release() {
	if run == nil || run.readers.Add(-1) > 0 {
		return
	}
	run.leader.fetch.cache.store.Unreserve(run.reserved)
	run.writer.body = nil
}

// URL implements Subject: what all items have in common.
func (run *batchRun) URL() string {
	site := run.leader.fetch.keyed.Site
	return site.Scheme + "://" + site.Authority + run.leader.rule.Path
}

// Route implements Subject.
func (run *batchRun) Route() *Route { return run.leader.fetch.route }

// errBatchOverdue ends the context of a request for many that has taken too long.
var errBatchOverdue = errors.New("the answer for many is overdue")

// errBatchCut is what handlers get that go on with an answer which is of no use.
var errBatchCut = errors.New("the answer for many is of no use")

// Interface guard.
var _ Subject = (*batchRun)(nil)

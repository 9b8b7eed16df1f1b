package fleet

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// readLimit is how many records are read at once. With records of usual size that is 50 KiB.
	readLimit       = 512
	longestReadWait = time.Second

	shortestCall = 500 * time.Millisecond

	firstBackoff = 20 * time.Millisecond
	lastBackoff  = time.Second
)

// beat tells the server that this node is alive, and gets its passes: every tenth of a fence, and
// at once when something was applied.
func (f *Fleet) beat() {
	pause := f.newBackoff()
	var err error
	for f.ctx.Err() == nil {
		f.tell(err)
		if err = f.beatOnce(); err != nil {
			pauseFor(f.ctx, pause.next(), nil)
			continue
		}
		pause.reset()
		f.watchNodes()
		pauseFor(f.ctx, f.options.Fence/10, f.beatNow)
	}
}

// callTimeout is how long a short call may take. With a short fence that is half of it: a server
// that is busy for a moment is no server that does not answer.
func (f *Fleet) callTimeout() time.Duration { return max(f.options.Fence/4, shortestCall) }

func (f *Fleet) beatOnce() error {
	ctx, cancel := context.WithTimeout(f.ctx, f.callTimeout())
	defer cancel()
	f.beats++
	has, self := f.self()
	self.Number = f.beats
	wall, asked := time.Now(), f.clock()
	state, err := f.engine.Beat(ctx, has, self)
	came := f.clock()
	if err != nil {
		return err
	}
	f.watch.ahead(wall, state.Now, time.Now())
	f.act(func() todo { return f.node.beaten(self.Number, asked, came, state) })
	return nil
}

// place is what this node has applied.
func (f *Fleet) place() Place {
	f.acting.Lock()
	defer f.acting.Unlock()
	return f.placeOfNode()
}

// placeAndApplied is place, and how far that is.
func (f *Fleet) placeAndApplied() (Place, Generation) {
	f.acting.Lock()
	defer f.acting.Unlock()
	return f.placeOfNode(), f.node.applied
}

// placeAhead is place when a reply has been applied. current is false where it will not be, or
// brings another term.
func (f *Fleet) placeAhead(r *reading) (has Place, current bool) {
	f.acting.Lock()
	defer f.acting.Unlock()
	has = f.placeOfNode()
	last := len(r.records) - 1
	if last < 0 || f.node.applied != r.after || f.node.back != "" || f.node.term() != r.state.term() {
		return has, false
	}
	has.Generation, has.ID = r.records[last].Generation, r.records[last].ID
	return has, true
}

// placeOfNode is place where the lock is held.
func (f *Fleet) placeOfNode() Place {
	p := f.node.place()
	p.Node = f.id
	return p
}

// self is this node, as the list has it. What it says to have applied it has.
func (f *Fleet) self() (Place, Node) {
	f.acting.Lock()
	defer f.acting.Unlock()
	return f.placeOfNode(), Node{
		ID: f.id, Epoch: f.node.term(), Applied: f.node.applied, Fence: f.options.Fence, Serves: f.options.Serve,
		State: f.node.condition(f.clock(), f.watch.failure()).String(),
		Name:  f.options.Name, Address: f.options.Address, Version: f.options.Version,
	}
}

// read follows the log.
func (f *Fleet) read() {
	pause := f.newBackoff()
	var next progression
	for f.ctx.Err() == nil {
		var err error
		if next, err = f.readOnce(next); errors.Is(err, errNoLog) && pause.now == 0 {
			f.log.Warn("the log of the fleet is not what Larder writes: remove its keys, or give the fleet another name",
				slog.Any("error", err))
		}
		if err != nil {
			pauseFor(f.ctx, pause.next(), nil)
			continue
		}
		pause.reset()
	}
}

// errNoLog is of replies that neither bring a node on nor have let it wait: it would ask without
// end.
var errNoLog = errors.New("records that are not in order, or none where there should be some")

// reading is a call for the records after a generation, and its reply.
type reading struct {
	after       Generation
	asked, came time.Duration
	records     []Record
	state       State
	err         error
	done        chan struct{} // closed when the reply is there
}

// progression is what is under way while a node reads on: the call for what follows, and the disk
// with what was applied before.
type progression struct {
	ahead  *reading // nil: there is no more
	behind []waitFunc
}

// ask begins to read after a generation. has is the record there.
func (f *Fleet) ask(has Place, after Generation) *reading {
	r := &reading{after: after, asked: f.clock(), done: make(chan struct{})}
	f.running.Go(func() {
		defer close(r.done)
		ctx, cancel := context.WithTimeout(f.ctx, f.readWait()+max(f.options.Fence/2, shortestCall))
		defer cancel()
		r.records, r.state, r.err = f.engine.Read(ctx, has, after, readLimit, f.readWait())
		r.came = f.clock()
	})
	return r
}

// readWait is how long the server waits for a record where there is none.
func (f *Fleet) readWait() time.Duration { return min(longestReadWait, f.options.Fence/2) }

// last is the newest record of a reply, more whether the log had more then.
func (r *reading) last() (last Generation, more bool) {
	if n := len(r.records); n > 0 {
		last = r.records[n-1].Generation
		return last, last < r.state.Tail
	}
	return r.after, false
}

// readOnce applies what a call has read. Where there is more it is asked for meanwhile. The node
// takes no reply but one that goes on where it is.
func (f *Fleet) readOnce(was progression) (next progression, err error) {
	r := was.ahead
	if r == nil {
		r = f.ask(f.placeAndApplied())
	}
	if <-r.done; r.err != nil {
		return next, r.err
	}
	last, more := r.last()
	if has, current := f.placeAhead(r); current && more {
		next.ahead = f.ask(has, last)
	}
	on := true
	next.behind = f.act(func() todo {
		term := f.node.term()
		do := f.node.read(r.asked, r.came, r.after, r.records, r.state)
		on = r.came-r.asked >= f.readWait()/2 || do.upTo != r.after || f.node.term() != term
		return do
	})
	if !on {
		return progression{}, errNoLog
	}
	if more && !f.Pass() {
		// No purge waits for this node any longer than for a disk, and what was applied should not
		// gather in memory.
		for _, wait := range was.behind {
			_, _ = wait(f.ctx) // the caches report an error themselves
		}
	}
	return next, nil
}

// act tells the node something, and does what that leaves to do.
func (f *Fleet) act(told func() todo) (counted []waitFunc) {
	f.acting.Lock()
	defer f.acting.Unlock()
	if f.node.left {
		return nil
	}
	term := f.node.term()
	do := told()
	counted = f.perform(do)
	advanced := f.node.done(do)
	if advanced || f.node.term() != term {
		f.publish(nil)
		close(f.moved)
		f.moved = make(chan struct{})
	}
	if advanced {
		if f.node.applied >= f.node.kept {
			at := f.node.place()
			f.caches.SetPosition(at.text(), at.Generation)
		}
		signal(f.beatNow)
	}
	if f.node.until > 0 {
		f.pass.Store(int64(f.node.until + f.options.Serve))
	}
	return counted
}

// pauseFor waits, at most until early is signalled, which may be nil. It reports false if the
// context ends before.
func pauseFor(ctx context.Context, d time.Duration, early <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-early:
	case <-ctx.Done():
		return false
	}
	return true
}

// signal leaves a signal for one who waits now or later. The channel has room for one.
func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// tell logs when the server begins or ceases to answer.
func (f *Fleet) tell(err error) {
	was := f.watch.fail(err)
	switch {
	case f.ctx.Err() != nil:
	case err != nil && (was == nil || conditionOf(was) != conditionOf(err)):
		f.log.Warn("the server of the fleet does not serve this node; it is tried again",
			slog.String("state", conditionOf(err).String()), slog.Any("error", err))
	case err == nil && was != nil:
		f.log.Info("the server of the fleet serves this node again")
	}
}

// backoff is how long to wait after failures in a row: doubling, and spread so that many nodes do
// not come back at once.
type backoff struct{ now, last time.Duration }

func (f *Fleet) newBackoff() backoff { return backoff{last: min(lastBackoff, f.options.Fence/4)} }

func (b *backoff) next() time.Duration {
	b.now = min(max(2*b.now, firstBackoff), b.last)
	return b.now/2 + rand.N(b.now) //nolint:gosec // it keeps no secret
}

func (b *backoff) reset() { b.now = 0 }

package coalesce

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag  = flag.Uint64("coalesce.seed", 0, "seed of the randomised test; 0 takes one from the clock")
	worldFlag = flag.Int("coalesce.worlds", 3000, "how many worlds the randomised test makes")
)

// TestRandomWorlds lets clients with all kinds of habits meet fetches with all kinds of fates, in
// thousands of small worlds with fake time. What a client gets is checked against the plan of the
// very fetch that it got it from; see client.check and client.read.
func TestRandomWorlds(t *testing.T) {
	seed, worlds := *seedFlag, *worldFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	if testing.Short() {
		worlds = min(worlds, 300)
	}
	t.Logf("repeat with -coalesce.seed=%d", seed)
	var seen tally
	for i := range worlds {
		ok := t.Run(fmt.Sprint(i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runWorld(t, rand.New(rand.NewPCG(seed, uint64(i))), &seen) })
		})
		if !ok {
			t.Fatalf("world %d of seed %d", i, seed)
		}
	}
	seen.expectAll(t, worlds)
}

// tally counts what happened, so that the test cannot pass because nothing does.
type tally struct{ counts sync.Map }

func (c *tally) add(what string) {
	n, _ := c.counts.LoadOrStore(what, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
}

func (c *tally) expectAll(t *testing.T, worlds int) {
	t.Helper()
	var line strings.Builder
	for _, what := range []string{
		"shared", "released", "taken-over", "failed", "timed-out", "left", "crowded",
		"past-max", "no-room", "too-old", "clean end", "broken body", "dropped", "told that it is dropped", "second attempt", "third attempt", "last failure", "purged", "silent", "drained", "handed over", "moved",
		"spilled", "read from the spill", "spill unread", "spill failed", "spilled a part", "read from a part", "stored from the spill",
	} {
		n, _ := c.counts.LoadOrStore(what, new(atomic.Int64))
		fmt.Fprintf(&line, "%s %d, ", what, n.(*atomic.Int64).Load())
		if n.(*atomic.Int64).Load() == 0 && worlds >= 1000 {
			t.Errorf("%q never happened", what)
		}
	}
	t.Log(line.String())
}

// world is one group, with what is known of each fetch in it.
type world struct {
	t      *testing.T
	seen   *tally
	g      *Group[string]
	budget *ledger
	seed   uint64
	purges bool
	silent time.Duration // flights are not joined after so long a silence; 0: always

	generation atomic.Int64 // of the last purge

	mu      sync.Mutex
	fetches []*fetchRecord
}

func runWorld(t *testing.T, rng *rand.Rand, seen *tally) {
	w := &world{t: t, seen: seen, seed: rng.Uint64(), purges: rng.IntN(4) == 0}
	w.budget = newLedger([]int64{1 << 40, 1 << 40, rng.Int64N(300_000)}[rng.IntN(3)])
	w.budget.limitPassed = []int64{0, 1, 2 * maxChunk}[rng.IntN(3)]
	w.budget.limitBeyond = []int64{0, 1, spillRoom}[rng.IntN(3)]
	w.g = NewGroup[string](poisoned{w.budget}, Limits{
		Waiters:    2 + rng.IntN(8),
		Window:     512 + rng.Int64N(64<<10), // not so small that the slowest client needs days
		Resident:   512 + rng.Int64N(64<<10),
		ReaderIdle: 10 * time.Second,
		Life:       time.Duration(5+rng.IntN(30)) * time.Second,
	})
	if rng.IntN(4) == 0 {
		w.silent = someTime(rng, 3*time.Second)
	}
	keys := 1 + rng.IntN(2)
	for range 1 + rng.IntN(12) {
		c := newClient(w, rng, keys)
		go c.run()
	}
	if w.purges {
		for range 3 {
			time.AfterFunc(someTime(rng, 5*time.Second), func() { w.generation.Add(1) })
		}
	}
	if rng.IntN(8) == 0 {
		time.AfterFunc(someTime(rng, 10*time.Second), w.drain)
	}
	time.Sleep(24 * time.Hour)
	synctest.Wait()
	w.expectNothingLeft()
}

func (w *world) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if w.g.Drain(ctx) != nil {
		w.seen.add("drained")
	}
}

func (w *world) expectNothingLeft() {
	expectEmpty(w.t, w.g, w.budget)
	for _, rec := range w.fetches {
		if f := rec.f; !f.body.gone || len(f.members) > 0 || f.waiting > 0 || !rec.over.Load() {
			w.t.Errorf("fetch %d: body gone %v, %d members, %d waiting, over %v", rec.id, f.body.gone, len(f.members), f.waiting, rec.over.Load())
		}
		rec.checkSpill(w)
		if kept := rec.f.err == nil && rec.f.phase == streaming; rec.unstorable.Load() == kept {
			w.t.Errorf("fetch %d: kept %v, but told %v that it is not", rec.id, kept, rec.unstorable.Load())
		}
		if rec.source != nil && rec.source.closed != 1 {
			w.t.Errorf("fetch %d: its source was closed %d times", rec.id, rec.source.closed)
		}
	}
}

// someTime is often next to nothing, so that much happens at the same instant, in any order. It is
// never 0: a timer that is due at once runs on its maker's thread, and two such in one bubble upset
// the race detector (go1.26.8, runtime.(*timer).modify).
func someTime(rng *rand.Rand, limit time.Duration) time.Duration {
	if rng.IntN(2) == 0 {
		return 1
	}
	return 1 + time.Duration(rng.Int64N(int64(limit)))
}

// fetchRecord is a fetch: what it will do, and how far it is.
type fetchRecord struct {
	id   int
	f    *Flight
	key  string // "" if none can join: a solo, or the retry of a flight that had left the group
	born int64  // generation

	headerAfter, pause time.Duration
	decision           phase // fetching: it fails before the header
	body               []byte
	failAt             int // where the body breaks off; -1: nowhere
	expect, limit      int64
	keep, panics       bool
	spill              *oneSpill     // nil: it cannot spill
	source             *memorySource // nil: its body is not moved
	rng                *rand.Rand

	undecided, lent, over, finished atomic.Bool

	readers    atomic.Int64 // clients that have begun to read
	unstorable atomic.Bool  // the flight has told that its body is not kept
}

// tag is what a starter attaches: the generation it begins in.
type tag struct{ born int64 }

// start runs the fetch of a flight that a client has just begun.
func (w *world) start(f *Flight, key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rec := w.plan(len(w.fetches))
	rec.f, rec.born = f, f.Tag().(*tag).born
	if w.standsFor(key, f) {
		rec.key = key
	}
	for _, other := range w.fetches {
		if other.f == f {
			w.t.Errorf("fetch %d started twice", other.id)
		}
		// A purge or a silence makes a second fetch of a key right; nothing else does before the
		// first is decided upon or cancelled.
		if rec.key != "" && other.key == rec.key && other.undecided.Load() && other.f.Context().Err() == nil && !w.purges && w.silent == 0 {
			w.t.Errorf("fetch %d began beside fetch %d", rec.id, other.id)
		}
	}
	w.fetches = append(w.fetches, rec)
	switch f.Attempt() {
	case 2:
		w.seen.add("second attempt")
	case 3:
		w.seen.add("third attempt")
	}
	f.OnUnstorable(rec)
	go rec.run(w)
}

// Unstorable implements Storer.
func (rec *fetchRecord) Unstorable() { rec.unstorable.Store(true) }

// standsFor tells whether newcomers for key get f.
func (w *world) standsFor(key string, f *Flight) bool {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	return w.g.flights[key].current() == f
}

func (w *world) plan(id int) *fetchRecord {
	rng := rand.New(rand.NewPCG(w.seed, uint64(id)))
	size := []int{0, rng.IntN(100), rng.IntN(10_000), rng.IntN(300_000)}[rng.IntN(4)]
	rec := &fetchRecord{
		id: id, rng: rng, body: pattern(id, size), failAt: -1, expect: -1, limit: -1,
		headerAfter: someTime(rng, 8*time.Second), pause: someTime(rng, time.Second),
		decision: []phase{fetching, streaming, streaming, streaming, streaming, released, rejected}[rng.IntN(7)],
		keep:     rng.IntN(2) == 0, panics: rng.IntN(2) == 0,
	}
	if rng.IntN(3) == 0 {
		rec.failAt = rng.IntN(size + 1)
	}
	if rng.IntN(3) == 0 {
		rec.expect = int64(size)
	}
	if rng.IntN(3) == 0 {
		rec.limit = rng.Int64N(int64(size) + 1)
	}
	if rng.IntN(2) == 0 {
		rec.spill = randomSpill(w.t, rng, rec.body)
	}
	rec.undecided.Store(true)
	return rec
}

func (rec *fetchRecord) run(w *world) {
	f := rec.f
	defer f.Settle()
	defer rec.over.Store(true)
	if rec.rng.IntN(4) > 0 && rec.headerAfter > 0 { // the others do not look at their context
		// No channel timer that is due at once: goroutines of a bubble that receive from such at
		// the same time share one context of the race detector, which crashes (golang/go#78156, as
		// far as we can tell).
		select {
		case <-time.After(rec.headerAfter):
		case <-f.Context().Done():
		}
	} else {
		time.Sleep(rec.headerAfter)
	}
	if rec.rng.IntN(4) == 0 {
		f.Inform(func(any) { time.Sleep(rec.pause) })
	}
	rec.undecided.Store(false)
	switch rec.decision {
	case fetching:
		rec.fail()
	case streaming, windowed:
		rec.share(w)
	case released:
		f.Release()
		rec.pass()
	case rejected:
		f.Reject()
		rec.pass()
	}
}

func (rec *fetchRecord) fail() {
	if rec.panics {
		rec.f.Fail(fmt.Errorf("fetching: %w", NewPanicError(errOrigin)))
	} else {
		rec.f.Fail(errOrigin)
	}
}

func (rec *fetchRecord) share(w *world) {
	f := rec.f
	f.Keep(rec.keep)
	f.Expect(rec.expect)
	switch {
	case rec.spill == nil:
	case rec.keep || rec.rng.IntN(2) == 0:
		f.SpillTo(rec.spill)
	default:
		f.SpillPartsTo(rec.spill)
	}
	f.Share(rec, rec.limit)
	if err := rec.send(f.Write); err != nil {
		f.Fail(err)
		return
	}
	rec.finished.Store(true)
	f.Finish(rec.id)
	chunks, whole := f.Body()
	switch {
	case f.Spilled():
		if chunks, whole = f.HandOver(); whole {
			w.seen.add("stored from the spill")
			chunks = [][]byte{rec.spill.spill.data}
		}
	case whole && rec.rng.IntN(2) == 0:
		chunks, whole = f.HandOver()
		w.seen.add("handed over")
		switch rec.rng.IntN(4) {
		case 0:
			f.TakeBack()
		case 2:
			f.TakeBackCopy()
		case 1:
			chunks = [][]byte{bytes.Join(chunks, nil)} // they go
			rec.source = &memorySource{t: w.t, data: rec.body}
			f.MoveTo(rec.source)
			w.seen.add("moved")
		}
	}
	time.Sleep(rec.pause) // storing; the flight can still be joined
	if whole && rec.unstorable.Load() {
		w.t.Errorf("fetch %d: a body that is not kept is whole", rec.id)
	}
	if whole && !bytes.Equal(bytes.Join(chunks, nil), rec.body) {
		w.t.Errorf("fetch %d: what would be stored is not the body", rec.id)
	}
	if o := f.Overflow(); o != NoOverflow {
		w.seen.add(o.String())
	}
}

// checkSpill looks at what has become of the spill, now that all have left.
func (rec *fetchRecord) checkSpill(w *world) {
	if rec.spill == nil {
		return
	}
	rec.spill.expectPartsClosed()
	for _, p := range rec.spill.parts {
		w.seen.add("spilled a part")
		if p.reads > 0 {
			w.seen.add("read from a part")
		}
	}
	if rec.spill.spill == nil || rec.spill.asked == 0 {
		return
	}
	s := rec.spill.spill
	s.expectClosed()
	w.seen.add("spilled")
	if s.reads > 0 {
		w.seen.add("read from the spill")
	}
	if s.refused {
		w.seen.add("spill failed")
	}
}

// pass sends the body to the leader's own writer.
func (rec *fetchRecord) pass() {
	writer, ok := rec.f.TakeOver()
	if !ok {
		rec.f.Cancel(ErrNoClientLeft)
		rec.f.Fail(ErrNoClientLeft)
		return
	}
	rec.lent.Store(true)
	if err := rec.send(writer.(*bytes.Buffer).Write); err != nil {
		rec.f.Fail(err)
		return
	}
	rec.finished.Store(true)
	rec.f.Finish(nil)
}

// send writes the body in pieces of any size, up to the byte at which it is to fail.
func (rec *fetchRecord) send(write func([]byte) (int, error)) error {
	rest := rec.body
	if rec.failAt >= 0 {
		rest = rest[:rec.failAt]
	}
	for len(rest) > 0 {
		n := min(len(rest), 1+rec.rng.IntN([]int{16 << 10, 100_000}[rec.rng.IntN(2)]))
		if _, err := write(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
		time.Sleep(rec.pause)
	}
	if rec.failAt >= 0 {
		return errOrigin
	}
	return nil
}

func (w *world) record(f *Flight) *fetchRecord {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, rec := range w.fetches {
		if rec.f == f {
			return rec
		}
	}
	// Its starter has it from Join or Retry but has not come to start yet; this client's wait was
	// over before it began.
	return &fetchRecord{id: -1, f: f, born: 1 << 60}
}

package fleet

import (
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"github.com/larder-cache/larder/store"
)

// simNode is a process of the simulation: the machine of node.go, driven like run.go does, with one
// cache. What a process does takes steps, between which other things happen, or it stands still.
type simNode struct {
	sim    *sim
	number int
	life   int           // it was started so often
	dead   bool          // between two lives
	offset time.Duration // of its clock
	paused time.Duration // it stands still until then
	cut    time.Duration // no call reaches the server until then

	f       *Fleet
	busy    bool     // it does what a reply leaves to do
	waiting []func() // replies meanwhile

	cache   simCache
	disk    simDisk
	flights [simKeys]*simFlight
}

// simCache is what a node has stored, and what store does: purges mask what is older, whenever it
// is put.
type simCache struct {
	gen     uint64
	purged  [simKeys]uint64
	suspect uint64
	entries [simKeys]simEntry
}

type simEntry struct {
	stored bool
	ticket uint64
	begun  time.Duration // its fetch
}

// simDisk is what outlives a crash. The position is of the cache, or older.
type simDisk struct {
	cache    simCache
	position Place
}

// simFlight is a fetch that others may join.
type simFlight struct {
	ticket uint64
	answer []func(begun time.Duration)
}

func (c *simCache) purge(keys byte) {
	c.gen++
	for k := range simKeys {
		if keys&(1<<k) != 0 {
			c.purged[k] = c.gen
		}
	}
}

func (c *simCache) holds(key int, ticket uint64) bool {
	return ticket >= c.purged[key] && ticket >= c.suspect
}

// after has the process do something, unless it is killed before.
func (n *simNode) after(d time.Duration, do func()) { n.at(n.sim.now+d, n.life, do) }

// at is after for what belongs to a life of the process.
func (n *simNode) at(t time.Duration, life int, do func()) {
	n.sim.schedule(event{at: t, node: n, life: life, do: do})
}

func (n *simNode) step() time.Duration { return time.Duration(n.sim.rng.IntN(3)) * time.Millisecond }

// longStep is one that waits for a disk, or for a core, now and then.
func (n *simNode) longStep() time.Duration {
	if n.sim.rng.IntN(4) == 0 {
		return n.sim.upTo(simFence / 5)
	}
	return n.step()
}

// start begins a life with what is on disk.
func (n *simNode) start() {
	n.life++
	n.dead, n.busy, n.waiting, n.flights = false, false, nil, [simKeys]*simFlight{}
	n.cache = n.disk.cache
	n.offset = time.Duration(n.sim.rng.IntN(1e6)) * time.Millisecond
	n.f = &Fleet{
		id:    strconv.Itoa(n.number) + "/" + strconv.Itoa(n.life),
		clock: func() time.Duration { return n.sim.now + n.offset }, labels: func() store.LabelsTime { return 0 },
		node:  node{fence: simFence, maskBytes: n.sim.maskBytes, position: n.disk.position},
		watch: watch{seen: make(sightings)},
		own:   map[uint64]*ownPurge{},
	}
	n.f.view.Store(&view{masks: new(store.Masks)})
	n.beat()
	n.read()
	n.commit()
}

func (n *simNode) crash() {
	n.dead = true
	n.sim.at(n.sim.now+n.sim.upTo(2*simFence), n.start)
}

// leave ends a life in order.
func (n *simNode) leave() {
	n.f.pass.Store(0)
	n.disk.cache, n.disk.position = n.cache, n.f.node.place()
	id := n.f.id
	n.sim.at(n.sim.now+n.sim.delay(), func() { n.sim.server.leave(id) })
	n.crash()
}

// commit writes the cache to the disk now and then, the position with it or later.
func (n *simNode) commit() {
	n.after(n.sim.upTo(simFence), func() {
		n.disk.cache = n.cache
		if n.sim.rng.IntN(3) > 0 && !n.busy && n.f.node.applied >= n.f.node.kept {
			n.disk.position = n.f.node.place()
		}
		n.commit()
	})
}

// call sends a request. Then do happens at the server, and reply here, or fail.
func (n *simNode) call(do, reply, fail func()) {
	n.callWaiting(func(done func()) { do(); done() }, reply, fail, simFence/4)
}

// callWaiting is call for what the server does not reply to at once. A call whose reply does not
// come in time has failed, though it may be done later.
func (n *simNode) callWaiting(do func(done func()), reply, fail func(), timeout time.Duration) {
	s, life := n.sim, n.life
	end := s.now + timeout
	failed := func() { n.at(end, life, fail) }
	there := s.now + s.delay()
	if s.lost() || s.now < n.cut {
		failed()
		return
	}
	late := there >= end
	if late {
		failed()
	}
	s.at(there, func() {
		do(func() {
			back := s.now + s.delay()
			switch {
			case late:
			case s.lost() || s.now < n.cut || back >= end:
				failed()
			default:
				n.at(back, life, reply)
			}
		})
	})
}

// beat is Fleet.beat.
func (n *simNode) beat() {
	asked, has := n.f.clock(), n.f.placeOfNode()
	n.f.beats++
	self := Node{ID: n.f.id, Epoch: n.f.node.term(), Applied: n.f.node.applied, Number: n.f.beats}
	var state State
	n.after(n.step(), func() {
		n.call(func() { state = n.sim.server.beat(has, self) }, func() {
			came := n.f.clock()
			n.after(n.step(), func() { n.act(func() todo { return n.f.node.beaten(self.Number, asked, came, state) }) })
			n.after(simFence/5, n.beat)
		}, func() { n.after(simFence/20, n.beat) })
	})
}

// beatAtOnce is a beat beside those that are due, after something was applied.
func (n *simNode) beatAtOnce() {
	asked, has := n.f.clock(), n.f.placeOfNode()
	n.f.beats++
	self := Node{ID: n.f.id, Epoch: n.f.node.term(), Applied: n.f.node.applied, Number: n.f.beats}
	var state State
	n.call(func() { state = n.sim.server.beat(has, self) }, func() {
		came := n.f.clock()
		n.act(func() todo { return n.f.node.beaten(self.Number, asked, came, state) })
	}, func() {})
}

// simReading is a reading: what is to be done with the reply is done when both are there.
type simReading struct {
	reading
	over bool
	then func()
}

// read is Fleet.read.
func (n *simNode) read() { n.take(n.ask(n.f.placeOfNode(), n.f.node.applied)) }

// take is Fleet.readOnce, and goes on from there.
func (n *simNode) take(r *simReading) {
	if !r.over {
		r.then = func() { n.take(r) }
		return
	}
	if r.err != nil {
		n.after(simFence/20, n.read)
		return
	}
	next := n.read
	last, more := r.last()
	if has, current := n.f.placeAhead(&r.reading); current && more {
		ahead := n.ask(has, last)
		next = func() { n.take(ahead) }
	}
	n.after(n.step(), func() {
		n.act(func() todo { return n.f.node.read(r.asked, r.came, r.after, r.records, r.state) })
		n.then(next)
	})
}

// ask is Fleet.ask.
func (n *simNode) ask(has Place, after Generation) *simReading {
	r := &simReading{reading: reading{after: after, asked: n.f.clock()}}
	over := func(err error) {
		r.over, r.err, r.came = true, err, n.f.clock()
		if r.then != nil {
			r.then()
		}
	}
	n.callWaiting(func(done func()) {
		server := &n.sim.server
		waited := false
		var try func()
		try = func() {
			if r.records, r.state = server.read(has, after); len(r.records) > 0 || r.state.Tail > after || waited {
				done()
				done = func() {}
			} else {
				server.blocked = append(server.blocked, try)
			}
		}
		n.sim.at(n.sim.now+2*simFence/5, func() { waited = true; try() })
		try()
	}, func() { over(nil) }, func() { over(errReadLost) }, simFence*3/5)
	return r
}

var errReadLost = errors.New("no reply in time")

// act is Fleet.act, in steps.
func (n *simNode) act(told func() todo) {
	n.then(func() {
		term := n.f.node.term()
		do := told()
		if len(do.records) == 0 && !do.fresh && !do.suspect && n.f.node.term() == term {
			n.acted(do)
			return
		}
		n.busy = true
		records := n.decode(do.records)
		n.f.comeBack(records)
		publish := func() { n.f.publish(&change{fresh: do.fresh, records: records}) }
		caches := func() {
			if do.suspect {
				n.cache.gen++
				n.cache.suspect = n.cache.gen
			}
			for i, r := range do.records {
				if !r.Mark && n.f.node.reaches(r.Generation) {
					n.cache.purge(do.records[i].Data[0])
				}
			}
		}
		steps := []func(){publish, caches, func() { n.acted(do) }}
		switch {
		case n.sim.mutant.cachesFirst:
			steps[0], steps[1] = caches, publish
		case n.sim.mutant.ackFirst:
			steps = []func(){func() { n.f.node.done(do); n.f.pass.Store(int64(n.f.node.until)); n.beatAtOnce() }, publish, caches, steps[2]}
		}
		n.steps(steps)
	})
}

func (n *simNode) steps(steps []func()) {
	if len(steps) == 0 {
		n.busy = false
		for len(n.waiting) > 0 && !n.busy {
			next := n.waiting[0]
			n.waiting = n.waiting[1:]
			next()
		}
		return
	}
	steps[0]()
	pause := n.step()
	if n.sim.rng.IntN(8) == 0 {
		pause = n.longStep()
	}
	n.after(pause, func() { n.steps(steps[1:]) })
}

// then does something when nothing is being done.
func (n *simNode) then(do func()) {
	if n.busy {
		n.waiting = append(n.waiting, do)
	} else {
		do()
	}
}

func (n *simNode) acted(do todo) {
	advanced := n.f.node.done(do)
	n.f.publish(nil)
	if n.f.node.until > 0 {
		n.f.pass.Store(int64(n.f.node.until))
	}
	if advanced {
		n.beatAtOnce()
	}
}

func (n *simNode) decode(records []Record) (out []placedRecord) {
	for _, r := range records {
		if !r.Mark {
			out = append(out, placedRecord{logRecord{
				Purge: simPurges[r.Data[0]], token: binary.BigEndian.Uint64(r.Data[1:]), who: n.f.id,
			}, r.Generation})
		}
	}
	return out
}

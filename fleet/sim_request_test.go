package fleet

import (
	"encoding/binary"
	"time"

	"github.com/larder-cache/larder/store"
)

// request is a client's: pass, look-up, flight, shared tier, origin.
func (n *simNode) request(key int) {
	must := n.sim.must[key]
	answer := func(begun time.Duration) { n.sim.answered(n, key, begun, must) }
	n.after(n.step(), func() {
		if n.sim.mutant.passLast {
			n.requestPassLast(key, answer)
			return
		}
		pass := n.f.Pass()
		n.after(n.longStep(), func() {
			e := n.cache.entries[key]
			if pass && e.stored && n.cache.holds(key, e.ticket) {
				n.sim.hits++
				answer(e.begun)
				return
			}
			n.miss(key, pass, answer)
		})
	})
}

func (n *simNode) requestPassLast(key int, answer func(time.Duration)) {
	e := n.cache.entries[key]
	hit := e.stored && n.cache.holds(key, e.ticket)
	n.after(n.longStep(), func() {
		pass := n.f.Pass()
		if hit && pass {
			answer(e.begun)
			return
		}
		n.miss(key, pass, answer)
	})
}

func (n *simNode) miss(key int, pass bool, answer func(time.Duration)) {
	if !pass {
		n.fetch(key, n.cache.gen, answer)
		return
	}
	if fl := n.flights[key]; fl != nil && n.cache.holds(key, fl.ticket) {
		n.sim.joined++
		fl.answer = append(fl.answer, answer)
		return
	}
	fl := &simFlight{ticket: n.cache.gen, answer: []func(time.Duration){answer}}
	n.flights[key] = fl
	land := func(begun time.Duration) {
		for _, answer := range fl.answer {
			answer(begun)
		}
		if n.flights[key] == fl {
			n.flights[key] = nil
		}
	}
	var r simRecord
	var found bool
	n.call(func() { r, found = n.sim.server.get(key) }, func() {
		severity, ours := n.f.Judge(r.stamp, "", simTags[key])
		n.after(n.step(), func() {
			if found && ours && severity == store.NotPurged {
				n.sim.sharedHits++
				n.cache.entries[key] = simEntry{true, fl.ticket, r.begun}
				land(r.begun)
				return
			}
			n.fetch(key, fl.ticket, land)
		})
	}, func() { n.fetch(key, fl.ticket, land) })
}

// fetch asks the origin.
func (n *simNode) fetch(key int, ticket uint64, answer func(time.Duration)) {
	stamp, ok := n.f.Begin()
	n.after(n.step(), func() {
		begun := n.sim.now
		n.after(n.sim.fetchTime(), func() {
			n.cache.entries[key] = simEntry{true, ticket, begun}
			answer(begun)
			if ok && !n.sim.lost() {
				n.sim.at(n.sim.now+n.sim.delay(), func() { n.sim.server.put(key, simRecord{stamp, begun}) })
			}
		})
	})
}

// simPurge is a purge under way.
type simPurge struct {
	n     *simNode
	keys  byte
	own   *ownPurge
	data  []byte // the record
	begun time.Duration
	tries int
	w     *waiting
	p     progress
	polls int
	done  func()
}

// purge is Fleet.Purge.
func (n *simNode) purge(keys byte, done func()) {
	n.sim.tokens++
	p := &simPurge{n: n, keys: keys, own: new(ownPurge), begun: n.sim.now, done: done}
	p.data = binary.BigEndian.AppendUint64([]byte{keys}, n.sim.tokens)
	n.f.own[n.sim.tokens] = p.own
	p.append()
}

func (p *simPurge) append() {
	n := p.n
	if p.tries++; p.tries > 4 {
		return
	}
	asked, has := n.f.clock(), n.f.placeOfNode()
	var out Appended
	n.call(func() { out = n.sim.server.append(has, p.data) }, func() {
		came := n.f.clock()
		p.w = appended(simFence, n.f.id, out, came)
		p.listed(out.Nodes, out.State, asked, came)
	}, p.append)
}

func (p *simPurge) listed(nodes []Node, s State, asked, came time.Duration) {
	n := p.n
	p.p = n.f.watch.listed(p.w, nodes, s, asked, came)
	evict := p.p.evict
	if n.sim.mutant.evictWaitedFor {
		evict = p.p.fenced
	}
	for _, seen := range evict {
		n.sim.evictions++
		n.after(n.longStep(), func() { n.call(func() { n.sim.server.evict(seen) }, func() {}, func() {}) })
	}
	n.then(p.look)
}

// look tells whether the purge may answer.
func (p *simPurge) look() {
	n := p.n
	here := n.f.here(p.w, p.own)
	switch {
	case here == appendAgain || p.p.outcome == appendAgain:
		p.append()
	case here == everywhere && p.p.outcome == everywhere:
		n.sim.purged(p)
	case n.sim.now-p.begun > 5*simFence:
	case p.p.outcome == everywhere:
		n.after(time.Millisecond, func() { n.then(p.look) })
	default:
		n.after(pollAfter(p.polls)*time.Duration(1+p.polls), p.poll)
		p.polls++
	}
}

func (p *simPurge) poll() {
	n := p.n
	asked := n.f.clock()
	var nodes []Node
	var state State
	n.call(func() { nodes, state = n.sim.server.list() }, func() {
		p.listed(nodes, state, asked, n.f.clock())
	}, func() { n.then(p.look) })
}

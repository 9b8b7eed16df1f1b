package fleet

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// simServer is the server of the simulation: an engine's methods without a network.
type simServer struct {
	sim *sim
	simData
	run     int // it was started or promoted so often
	epochs  int
	marks   int
	records int // so many were appended
	history int
	replica simData  // what would be promoted
	backup  simData  // what would be put back
	blocked []func() // reads that wait for a record
	// shared are the records of the shared tier, some of each key: any of them may come back. They
	// outlive the log.
	shared [simKeys][]simRecord
}

// simData is what a server can lose.
type simData struct {
	epoch string
	term  int // the run in which it began
	gen   Generation
	id    string // of the record there
	mark  Generation
	since time.Duration // the newest mark, by the server's clock
	nodes []Node
	log   []Record // shared with copies: appended to, and never written
}

// simRecord is a record of the shared tier.
type simRecord struct {
	stamp Stamp
	begun time.Duration // its fetch
}

func (d *simData) clone() simData {
	c := *d
	c.nodes = slices.Clone(d.nodes)
	c.log = slices.Clip(d.log)
	return c
}

// ensure begins a new epoch or term where it has to.
func (s *simServer) ensure(has Place) {
	lacks := s.epoch != "" && s.term == s.run && s.lacks(has)
	switch {
	case s.epoch == "" || lacks:
		s.epochs++
		s.epoch = fmt.Sprintf("e%06d", s.epochs)
	case s.term == s.run:
		return
	}
	s.marks++
	switch {
	case s.sim.mutant.reusedIDs:
		s.gen++
	case s.gen == 0: // generations of two epochs are alike, which a real server need not do
		s.gen = 100 + Generation(s.sim.rng.IntN(10))
	default:
		s.gen += 1<<20 + Generation(s.marks)<<10
	}
	s.mark, s.term, s.since = s.gen, s.run, s.sim.now
	s.push(Record{Generation: s.gen, Mark: true})
}

// lacks tells whether the log has not got what a node has applied.
func (s *simServer) lacks(has Place) bool {
	switch {
	case s.sim.mutant.believes:
		return false
	case has.Epoch > s.epoch: // it began later
		return true
	case has.Epoch != s.epoch || has.Mark < s.mark:
		return false
	}
	if has.Mark > s.mark {
		return true
	}
	if i := slices.IndexFunc(s.nodes, func(n Node) bool { return n.ID == has.Node }); i >= 0 && s.nodes[i].Number < has.Beaten {
		return true
	}
	if has.Generation < s.mark || has.Generation < s.state().First {
		return false
	}
	for _, r := range s.log {
		if r.Generation == has.Generation {
			return r.ID != has.ID
		}
	}
	return has.Generation != s.gen || has.ID != s.id
}

func (s *simServer) push(r Record) {
	s.records++
	r.ID = strconv.Itoa(s.records)
	s.id = r.ID
	s.log = append(s.log, r)
	if len(s.log) > s.history {
		s.log = s.log[len(s.log)-s.history:]
	}
	blocked := s.blocked
	s.blocked = nil
	for _, again := range blocked {
		again()
	}
}

func (s *simServer) state() State {
	state := State{Epoch: s.epoch, Tail: s.gen, ID: s.id, First: s.gen, Mark: s.mark, Term: s.sim.now - s.since, Now: time.Unix(0, int64(s.sim.now))}
	if len(s.log) > 0 {
		state.First = s.log[0].Generation
	}
	if s.sim.mutant.noRule3 {
		state.Term = time.Hour
	}
	return state
}

func (s *simServer) beat(has Place, n Node) State {
	s.ensure(has)
	n.Seen = s.state().Now
	i := slices.IndexFunc(s.nodes, func(o Node) bool { return o.ID == n.ID })
	if i < 0 {
		n.Beats = 1
		s.nodes = append(s.nodes, n)
	} else {
		n.Beats, n.Number = s.nodes[i].Beats+1, max(s.nodes[i].Number, n.Number)
		s.nodes[i] = n
	}
	return s.state()
}

func (s *simServer) append(has Place, data []byte) Appended {
	s.ensure(has)
	s.gen++
	s.push(Record{Generation: s.gen, Data: data})
	return Appended{Generation: s.gen, Nodes: slices.Clone(s.nodes), State: s.state()}
}

func (s *simServer) list() ([]Node, State) {
	s.ensure(Place{})
	return slices.Clone(s.nodes), s.state()
}

func (s *simServer) read(has Place, after Generation) ([]Record, State) {
	s.ensure(has)
	i, _ := slices.BinarySearchFunc(s.log, after+1, func(r Record, g Generation) int { return int(int64(r.Generation) - int64(g)) })
	records := slices.Clip(s.log[i:min(len(s.log), i+3)])
	if s.sim.mutant.gaps {
		records = s.withoutGaps(after, records)
	}
	return records, s.state()
}

// withoutGaps hides from a node what is missing.
func (s *simServer) withoutGaps(after Generation, records []Record) (out []Record) {
	next := max(after+1, s.state().First, s.mark)
	for _, r := range append(slices.Clone(records), Record{Generation: s.gen + 1}) {
		for ; next < r.Generation && (len(records) == 0 || r.Generation <= s.gen); next++ {
			out = append(out, Record{Generation: next, Mark: true})
		}
		if next = max(next, r.Generation+1); r.Generation <= s.gen {
			out = append(out, r)
		}
	}
	return out
}

func (s *simServer) evict(seen Node) {
	s.nodes = slices.DeleteFunc(s.nodes, func(n Node) bool {
		same := n.Beats == seen.Beats && n.Seen.Equal(seen.Seen)
		return n.ID == seen.ID && (same || s.sim.mutant.evictBlindly)
	})
}

func (s *simServer) leave(id string) {
	s.nodes = slices.DeleteFunc(s.nodes, func(n Node) bool { return n.ID == id })
}

// What is done to the server behind its clients' backs.

func (s *simServer) sync()    { s.replica = s.clone() }
func (s *simServer) restart() { s.run++ }
func (s *simServer) flush()   { s.simData = simData{} }

func (s *simServer) promote() {
	s.simData = s.replica.clone()
	s.restart()
}

func (s *simServer) loseNodes() {
	s.epoch, s.nodes = "", nil
}

func (s *simServer) trim() {
	if len(s.log) > 1 {
		s.log = s.log[s.sim.rng.IntN(len(s.log)):]
	}
}

// keepBackup is as it would be if somebody made one.
func (s *simServer) keepBackup() { s.backup = s.clone() }

// putBack loads the backup without a start, where each node has a reply to a beat that is not in
// it: for the others see "Not solved" in doc.go.
func (s *simServer) putBack() {
	for _, n := range s.sim.nodes {
		i := slices.IndexFunc(s.backup.nodes, func(o Node) bool { return o.ID == n.f.id })
		if i < 0 || n.f.node.epoch == s.backup.epoch && s.backup.nodes[i].Number >= n.f.node.beat {
			return
		}
	}
	if s.backup.epoch != "" && s.backup.term == s.run {
		s.simData = s.backup.clone()
		s.sim.putBacks++
	}
}

// remove removes a record, now and then the newest.
func (s *simServer) remove() {
	if i := len(s.log) - 1 - min(s.sim.rng.IntN(4), len(s.log)-1); len(s.log) > 1 {
		s.log = slices.Delete(slices.Clone(s.log), i, i+1)
	}
}

func (s *simServer) put(key int, r simRecord) {
	if s.shared[key] = append(s.shared[key], r); len(s.shared[key]) > 3 {
		s.shared[key] = s.shared[key][1:]
	}
}

// get returns the newest record, or an older one that came back.
func (s *simServer) get(key int) (simRecord, bool) {
	list := s.shared[key]
	if len(list) == 0 {
		return simRecord{}, false
	}
	if s.sim.rng.IntN(4) == 0 {
		return list[s.sim.rng.IntN(len(list))], true
	}
	return list[len(list)-1], true
}

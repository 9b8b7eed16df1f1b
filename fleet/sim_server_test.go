package fleet

import (
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
	history int
	replica simData  // what would be promoted
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
func (s *simServer) ensure() {
	switch {
	case s.epoch == "":
		s.epochs++
		s.epoch = "e" + strconv.Itoa(s.epochs)
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

func (s *simServer) push(r Record) {
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
	state := State{Epoch: s.epoch, Tail: s.gen, First: s.gen, Mark: s.mark, Term: s.sim.now - s.since}
	if len(s.log) > 0 {
		state.First = s.log[0].Generation
	}
	if s.sim.mutant.noRule3 {
		state.Term = time.Hour
	}
	return state
}

func (s *simServer) beat(n Node) State {
	s.ensure()
	n.Seen = time.Unix(0, int64(s.sim.now))
	i := slices.IndexFunc(s.nodes, func(o Node) bool { return o.ID == n.ID })
	if i < 0 {
		n.Beats = 1
		s.nodes = append(s.nodes, n)
	} else {
		n.Beats = s.nodes[i].Beats + 1
		s.nodes[i] = n
	}
	return s.state()
}

func (s *simServer) append(data []byte) Appended {
	s.ensure()
	s.gen++
	s.push(Record{Generation: s.gen, Data: data})
	return Appended{Generation: s.gen, Nodes: slices.Clone(s.nodes), State: s.state()}
}

func (s *simServer) list() ([]Node, State) {
	s.ensure()
	return slices.Clone(s.nodes), s.state()
}

func (s *simServer) read(after Generation) ([]Record, State) {
	s.ensure()
	i, _ := slices.BinarySearchFunc(s.log, after+1, func(r Record, g Generation) int { return int(int64(r.Generation) - int64(g)) })
	return slices.Clip(s.log[i:min(len(s.log), i+3)]), s.state()
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

package fleet

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

const (
	simFence = time.Second
	simKeys  = 2
)

var (
	simTags   = [simKeys][]string{{"t0"}, {"t1"}}
	simPurges = [1 << simKeys]Purge{
		1: {Selectors: store.Selectors{Tags: []string{"t0"}}, Severity: store.Hard},
		2: {Selectors: store.Selectors{Tags: []string{"t1"}}, Severity: store.Hard},
		3: {Selectors: store.Selectors{All: true}, Severity: store.Hard},
	}
)

// mutant is a fault in the protocol. The simulation must find it.
type mutant struct {
	passLast       bool // the pass is read after the look-up
	ackFirst       bool // a purge is acknowledged before it is applied
	noRule3        bool // a purge answers in a young term
	evictBlindly   bool // a node is evicted that has beaten since it was seen
	evictWaitedFor bool // a node is evicted when one purge has waited for it
	reusedIDs      bool // a term goes on with the generations that the last one may have lost
	cachesFirst    bool // a purge is in the caches before it is among the masks
	believes       bool // the server does not compare its log with what a node has
	gaps           bool // a node does not look for records that are missing

	only func(*sim) []func() // the faults, not those of all

	slow int // under bad conditions: nodes stand still, so many of 100 messages are late or lost
}

// sim is one run. Everything follows from its seed.
type sim struct {
	rng    *rand.Rand
	mutant mutant
	now    time.Duration
	events events
	count  uint64
	server simServer
	nodes  []*simNode

	calm    bool          // no more faults
	slow    int           // of 100 calls so many take long
	lossy   int           // of 100 messages so many are lost
	often   time.Duration // about the time between two purges
	must    [simKeys]time.Duration
	broken  string
	answers int

	hits, sharedHits, joined, purges, evictions, putBacks int

	tokens    uint64 // of purges
	maskBytes int64
}

type event struct {
	at    time.Duration
	count uint64
	do    func()
	node  *simNode // whose process does it, in this life; nil: it happens by itself
	life  int
}

type events []event

func (e events) before(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].count < e[j].count
}

// push and pop keep a heap. container/heap would put each event into an interface.
func (e *events) push(ev event) {
	*e = append(*e, ev)
	h := *e
	for i := len(h) - 1; i > 0 && h.before(i, (i-1)/2); i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
}

func (e *events) pop() event {
	h := *e
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], event{}
	h = h[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if h.before(child, least) {
				least = child
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	*e = h
	return first
}

func (s *sim) at(t time.Duration, do func()) { s.schedule(event{at: t, do: do}) }

func (s *sim) schedule(e event) {
	s.count++
	e.at, e.count = max(e.at, s.now), s.count
	s.events.push(e)
}

// upTo is a time of up to d, rather short.
func (s *sim) upTo(d time.Duration) time.Duration { return time.Duration(s.rng.Int64N(int64(d))) }

func (s *sim) delay() time.Duration {
	if !s.calm && s.rng.IntN(100) < s.slow {
		return s.upTo(2 * simFence)
	}
	return s.upTo(4 * time.Millisecond)
}

func (s *sim) fetchTime() time.Duration {
	if s.rng.IntN(8) == 0 {
		return s.upTo(2 * simFence)
	}
	return s.upTo(20 * time.Millisecond)
}

func (s *sim) lost() bool { return !s.calm && s.rng.IntN(100) < s.lossy }

// answered checks an answer: its fetch must not have begun before must.
func (s *sim) answered(n *simNode, key int, begun, must time.Duration) {
	s.answers++
	if begun < must && s.broken == "" {
		s.broken = fmt.Sprintf("at %v node %d answers a request for key %d by what was fetched at %v: a purge that began at %v had been answered",
			s.now, n.number, key, begun, must)
	}
}

// purged notes that a purge has been answered.
func (s *sim) purged(p *simPurge) {
	s.purges++
	for k := range simKeys {
		if p.keys&(1<<k) != 0 {
			s.must[k] = max(s.must[k], p.begun)
		}
	}
	if p.done != nil {
		p.done()
	}
}

func newSim(seed uint64, m mutant) *sim {
	s := &sim{rng: rand.New(rand.NewPCG(seed, 17)), mutant: m}
	s.server = simServer{sim: s, history: 4 + s.rng.IntN(40)}
	s.slow, s.lossy, s.often = s.rng.IntN(5), s.rng.IntN(6), 600*time.Millisecond
	s.maskBytes = maxMaskBytes
	if s.rng.IntN(4) == 0 {
		s.maskBytes = 120 // one mask
	}
	if seed%16 == 1 {
		s.slow, s.lossy = s.rng.IntN(20), s.rng.IntN(20)
	}
	if m.slow > 0 {
		s.slow, s.lossy, s.often = m.slow, m.slow, 100*time.Millisecond
	}
	for i := range 2 + s.rng.IntN(3) {
		n := &simNode{sim: s, number: i}
		s.nodes = append(s.nodes, n)
		n.start()
	}
	s.repeat(60*time.Millisecond, func() {
		if n := s.anyNode(); !n.dead {
			n.after(0, func() { n.request(s.rng.IntN(simKeys)) })
		}
	})
	s.repeat(600*time.Millisecond, func() {
		if n := s.anyNode(); !n.dead {
			keys := byte(1 + s.rng.IntN(simKeys))
			if s.rng.IntN(12) == 0 {
				keys = 1<<simKeys - 1
			}
			n.after(0, func() { n.purge(keys, nil) })
		}
	})
	s.repeat(300*time.Millisecond, s.server.sync)
	s.repeat(300*time.Millisecond, s.server.keepBackup)
	s.faults()
	return s
}

func (s *sim) anyNode() *simNode { return s.nodes[s.rng.IntN(len(s.nodes))] }

// repeat does something again and again, with about so much time between.
func (s *sim) repeat(d time.Duration, do func()) {
	var again func()
	again = func() {
		do()
		s.at(s.now+s.upTo(2*d), again)
	}
	s.at(s.now+s.upTo(2*d), again)
}

// faults choose two or three kinds for a run, so that none hides the others.
func (s *sim) faults() {
	kinds := []func(){
		func() { s.anyNode().pause(s.upTo(5 * simFence / 2)) },
		func() { s.anyNode().pause(s.upTo(50 * time.Millisecond)) },
		func() { n := s.anyNode(); n.cut = s.now + s.upTo(3*simFence) },
		func() { s.ifAlive((*simNode).crash) },
		func() { s.ifAlive((*simNode).leave) },
		s.server.promote, s.server.promote, s.server.restart, s.server.flush, s.server.loseNodes, s.server.trim,
		s.server.remove,
	}
	switch {
	case s.mutant.only != nil:
		kinds = s.mutant.only(s)
	case s.mutant.slow > 0:
		kinds = kinds[:3]
	case s.rng.IntN(4) == 0: // without new processes: those know nothing of what was lost
		kinds = append(kinds[:3:3], kinds[5:]...)
		s.happens(s.server.putBack)
	}
	for range 1 + s.rng.IntN(3) {
		s.happens(kinds[s.rng.IntN(len(kinds))])
	}
}

// happens repeats a fault.
func (s *sim) happens(fault func()) {
	s.repeat(time.Duration(300+s.rng.IntN(1500))*time.Millisecond, func() {
		if !s.calm {
			fault()
		}
	})
}

func (s *sim) ifAlive(do func(*simNode)) {
	if n := s.anyNode(); !n.dead {
		do(n)
	}
}

func (n *simNode) pause(d time.Duration) { n.paused = max(n.paused, n.sim.now+d) }

// runUntil goes on until a time, or until the promise is broken.
func (s *sim) runUntil(end time.Duration) {
	for len(s.events) > 0 && s.events[0].at <= end && s.broken == "" {
		e := s.events.pop()
		s.now = e.at
		switch n := e.node; {
		case n == nil:
			e.do()
		case n.life != e.life || n.dead:
		case s.now < n.paused:
			e.at = n.paused
			s.schedule(e)
		default:
			e.do()
		}
	}
	s.now = end
}

// runSim runs a seed: a time with faults and, for one in eight, a calm time after which all must be
// well.
func runSim(seed uint64, m mutant) *sim {
	s := newSim(seed, m)
	s.runUntil(5 * simFence / 2)
	if seed%8 == 0 {
		s.runUntil(6 * simFence)
	}
	if s.broken != "" || seed%8 > 0 {
		return s
	}
	s.calm = true
	s.runUntil(s.now + 4*simFence) // pauses, cuts and slow calls end
	done := false
	s.nodes[0].after(0, func() { s.nodes[0].purge(1, func() { done = true }) })
	s.runUntil(s.now + simFence)
	for _, n := range s.nodes {
		if s.broken == "" && (n.dead || !n.f.Pass()) {
			s.broken = fmt.Sprintf("node %d has no pass when all is well: %+v", n.number, n.f.node)
		}
	}
	if s.broken == "" && !done {
		s.broken = "a purge does not answer when all is well"
	}
	return s
}

// simSeeds is how many seeds a test takes.
func simSeeds(t *testing.T, n int) int {
	t.Helper()
	if text := os.Getenv("LARDER_FLEET_SEEDS"); text != "" {
		more, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return more
	}
	if raceEnabled || testing.Short() {
		return n / 500
	}
	return n
}

// TestSimulation runs nodes, purges, requests and faults by many seeds. LARDER_FLEET_SEED begins at
// one of them.
func TestSimulation(t *testing.T) {
	first := rand.Uint64N(1 << 40)
	if text := os.Getenv("LARDER_FLEET_SEED"); text != "" {
		first, _ = strconv.ParseUint(text, 10, 64)
	}
	n := simSeeds(t, 20_000)
	t.Logf("seeds %d to %d", first, first+uint64(n)-1)
	defer debug.SetGCPercent(debug.SetGCPercent(1600)) // nearly all is garbage
	var total sim
	var mu sync.Mutex
	var next atomic.Int64
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && !t.Failed(); i = next.Add(1) - 1 {
				seed := first + uint64(i)
				s := runSim(seed, mutant{})
				if s.broken != "" {
					t.Errorf("LARDER_FLEET_SEED=%d: %s", seed, s.broken)
				}
				mu.Lock()
				total.answers += s.answers
				total.hits += s.hits
				total.sharedHits += s.sharedHits
				total.joined += s.joined
				total.purges += s.purges
				total.evictions += s.evictions
				total.putBacks += s.putBacks
				mu.Unlock()
			}
		})
	}
	group.Wait()
	t.Logf("%d answers, %d of them hits, %d shared hits, %d of joined flights; %d purges answered, %d nodes evicted, put back %d times",
		total.answers, total.hits, total.sharedHits, total.joined, total.purges, total.evictions, total.putBacks)
	for what, count := range map[string]int{
		"hits": total.hits, "shared hits": total.sharedHits, "joined flights": total.joined, "purges": total.purges, "evictions": total.evictions,
		"old states": 4 * total.putBacks,
	} {
		if count < n/50 && !t.Failed() {
			t.Errorf("it has seen only %d %s", count, what)
		}
	}
}

// TestSimulationFindsMutants: each fault breaks the promise within some seeds.
func TestSimulationFindsMutants(t *testing.T) {
	if raceEnabled {
		t.Skip("nothing in it is concurrent, and it takes ten times as long")
	}
	for _, tt := range []struct {
		name   string
		mutant mutant
		seed   uint64 // one that has found it, where that takes some 100,000
	}{
		{"the pass is read after the look-up", mutant{passLast: true}, 0},
		{"a purge is acknowledged before it is applied", mutant{ackFirst: true, slow: 4}, 0},
		{"a purge answers in a young term", mutant{noRule3: true}, 0},
		{"a node is evicted that has beaten since", mutant{evictBlindly: true, slow: 12}, 854756985016},
		{"a node is evicted when one purge has waited for it", mutant{evictWaitedFor: true, slow: 8}, 0},
		// A server that compares what a node has notices as well.
		{"generations are used again", mutant{reusedIDs: true, believes: true, only: func(s *sim) []func() {
			return []func(){s.server.promote, func() { s.anyNode().pause(s.upTo(50 * time.Millisecond)) }}
		}}, 0},
		{"a purge is in the caches before it is among the masks", mutant{cachesFirst: true}, 0},
		{"the server does not notice that it was put back", mutant{believes: true, only: func(s *sim) []func() {
			return []func(){s.server.putBack}
		}}, 0},
		{"a node does not notice that records were removed", mutant{gaps: true, only: func(s *sim) []func() {
			return []func(){s.server.remove}
		}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.seed > 0 {
				if s := runSim(tt.seed, tt.mutant); s.broken != "" {
					t.Logf("at %d, as before: %s", tt.seed, s.broken)
					return
				}
			}
			first := rand.Uint64N(1 << 40)
			const most = 300_000
			for seed := first; seed < first+most; seed++ {
				if s := runSim(seed, tt.mutant); s.broken != "" {
					t.Logf("after %d seeds, at %d: %s", seed-first+1, seed, s.broken)
					return
				}
			}
			t.Errorf("not within %d seeds from %d on", most, first)
		})
	}
}

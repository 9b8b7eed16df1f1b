package fleet

import (
	"testing"
	"time"
)

// at is a state of the first epoch.
func at(mark, first, tail Generation) State {
	return State{Epoch: "e", Mark: mark, First: first, Tail: tail, Term: time.Hour}
}

// records are those from a generation up to another.
func records(from, to Generation) (list []Record) {
	for g := from; g <= to; g++ {
		list = append(list, Record{Generation: g, Data: []byte{1}})
	}
	return list
}

// joined is a node that has applied all up to tail by the time 100 and got a pass then.
func joined(t *testing.T, tail Generation) *node {
	t.Helper()
	n := &node{fence: 1000}
	n.done(n.read(90, 95, 0, records(10, tail), at(10, 10, tail)))
	n.done(n.beaten(7, 100, 105, at(10, 10, tail)))
	if n.applied != tail || n.until != 1100 || n.condition(105, nil) != Held {
		t.Fatalf("it has not joined: %+v", n)
	}
	return n
}

func TestABeatPromisesAPass(t *testing.T) {
	n := &node{fence: 1000}
	if do := n.beaten(7, 10, 20, at(10, 10, 12)); !do.suspect || !do.fresh || n.until != 0 || n.condition(20, nil) != Joining {
		t.Errorf("it has a pass before it has read anything: %+v, %+v", n, do)
	}
	n.done(n.read(20, 30, 0, records(10, 11), at(10, 10, 12)))
	if n.until != 0 {
		t.Errorf("it has a pass before it is as far as the beat's reply: %+v", n)
	}
	do := n.read(30, 40, 11, records(12, 12), at(10, 10, 12))
	if n.until != 0 {
		t.Errorf("it has a pass before the purge is in force: %+v", n)
	}
	if n.done(do); n.until != 1010 || n.condition(1009, nil) != Held || n.condition(1010, nil) != Lost {
		t.Errorf("the pass is not the beat's: %+v", n)
	}
}

func TestAPromiseGoesWithItsTerm(t *testing.T) {
	n := joined(t, 12)
	n.beaten(7, 200, 205, at(10, 10, 14))
	do := n.read(210, 215, 12, []Record{{Generation: 5000, Mark: true}}, at(5000, 10, 5000))
	if n.done(do); n.until != 1100 || do.suspect || n.floor != 5000 || n.applied != 5000 {
		t.Errorf("with a pass in a new term: %+v, %+v", n, do)
	}
	// A reply of before the end of the old term that comes now is none.
	if n.done(n.beaten(7, 212, 220, at(10, 10, 14))); n.until != 1100 || n.mark != 5000 {
		t.Errorf("by a reply of the old term: %+v", n)
	}
	if n.done(n.beaten(7, 220, 225, at(5000, 10, 5000))); n.until != 1220 {
		t.Errorf("in the new term: %+v", n)
	}
}

func TestATermWithoutAPass(t *testing.T) {
	for _, tt := range []struct {
		name    string
		came    time.Duration
		s       State
		suspect bool
		applied Generation
	}{
		{"a mark, with a pass", 1099, at(5000, 10, 5000), false, 12},
		{"a mark, without", 1100, at(5000, 10, 5000), true, 12},
		{"an epoch, with a pass", 1099, State{Epoch: "f", Mark: 3, First: 3, Tail: 4}, false, 0},
		{"an epoch, without", 1100, State{Epoch: "f", Mark: 3, First: 3, Tail: 4}, true, 0},
		{"an epoch that is trimmed, with a pass", 1099, State{Epoch: "f", Mark: 3, First: 4, Tail: 4}, true, 0},
		{"a mark among what is applied", 1099, at(11, 10, 11), false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := joined(t, 12)
			do := n.beaten(7, tt.came-5, tt.came, tt.s)
			if do.suspect != tt.suspect || do.upTo != tt.applied || n.applied != tt.applied || do.fresh != (tt.applied == 0) || n.floor != max(tt.s.Mark, tt.s.First) {
				t.Errorf("it is to do %+v: %+v", do, n)
			}
			if want := map[bool]Condition{true: Suspect, false: Held}[tt.suspect && tt.came >= 1100]; n.condition(tt.came, nil) != want {
				t.Errorf("it is %v, want %v", n.condition(tt.came, nil), want)
			}
		})
	}
}

func TestALogThatIsTrimmed(t *testing.T) {
	for _, tt := range []struct {
		first   Generation
		suspect bool
	}{{10, false}, {12, false}, {13, false}, {14, true}} {
		n := joined(t, 12)
		do := n.read(200, 205, 12, records(tt.first, 15)[max(0, 13-int(tt.first)):], at(10, tt.first, 15))
		if do.suspect != tt.suspect || do.upTo != 15 {
			t.Errorf("trimmed up to %d: %+v", tt.first, do)
		}
		if !n.reaches(15) || n.reaches(tt.first-1) && tt.suspect {
			t.Errorf("trimmed up to %d, it keeps up to %d", tt.first, n.kept)
		}
	}
}

// TestRecordsThatAreMissing may have been purges.
func TestRecordsThatAreMissing(t *testing.T) {
	for _, tt := range []struct {
		name    string
		records []Record
		s       State
		suspect bool
		floor   Generation
	}{
		{"none", records(13, 15), at(10, 10, 15), false, 10},
		{"the first", records(14, 15), at(10, 10, 15), true, 13},
		{"one between", append(records(13, 13), records(15, 15)...), at(10, 10, 15), true, 14},
		{"the newest", nil, at(10, 10, 15), true, 15},
		{"one at the end, where there is more to read", records(13, 14), at(10, 10, 15), false, 10},
		{"those before a mark", records(5000, 5001), at(5000, 10, 5001), false, 5000},
		{"one after a mark", append(records(5000, 5000), records(5002, 5002)...), at(5000, 10, 5002), true, 5001},
		{"those before another record that calls itself a mark", []Record{{Generation: 15, Mark: true}}, at(10, 10, 15), true, 14},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := joined(t, 12)
			do := n.read(200, 205, 12, tt.records, tt.s)
			if n.done(do); do.suspect != tt.suspect || n.floor != tt.floor || n.applied < 14 {
				t.Errorf("it is to do %+v: %+v", do, n)
			}
		})
	}
}

// TestAPassOfALogThatWasPutBack is none: its beat was sent before the node had read what the log
// does not have any more, and replied to when others were in its place.
func TestAPassOfALogThatWasPutBack(t *testing.T) {
	named := func(id string, list []Record) []Record {
		for i := range list {
			list[i].ID = id
		}
		return list
	}
	tail := func(g Generation, id string) State {
		s := at(10, 10, g)
		s.ID = id
		return s
	}
	for _, tt := range []struct {
		name  string
		reply State
		pass  bool
	}{
		{"the tail is the same record", tail(15, "old"), true},
		{"the tail is one before", tail(14, "old"), true},
		{"the tail is another record", tail(15, "new"), false},
		{"the tail is another record before", tail(14, "new"), false},
	} {
		for _, first := range []string{"the beat's reply", "the records"} {
			n := joined(t, 12)
			beat := func() { n.done(n.beaten(7, 200, 230, tt.reply)) }
			if first == "the beat's reply" {
				beat()
			}
			n.done(n.read(190, 220, 12, named("old", records(13, 15)), tail(15, "old")))
			if first == "the records" {
				beat()
			}
			if (n.until == 1200) != tt.pass || n.applied != 15 {
				t.Errorf("%s, %s first: %+v", tt.name, first, n)
			}
		}
	}
}

// TestPlaces are what the server compares.
func TestPlaces(t *testing.T) {
	n := &node{fence: 1000, position: Place{Epoch: "e", Mark: 10, Generation: 12, ID: "twelve"}}
	if n.place() != n.position {
		t.Errorf("before it has read: %+v", n.place())
	}
	n.done(n.read(90, 95, 0, []Record{{Generation: 10, ID: "a"}, {Generation: 11, ID: "b"}}, at(10, 10, 12)))
	if want := (Place{Epoch: "e", Mark: 10, Generation: 11, ID: "b"}); n.place() != want {
		t.Errorf("when it has read: %+v", n.place())
	}
	s := at(10, 10, 12)
	s.ID = "c"
	if n.done(n.read(100, 105, 11, nil, s)); n.place() != (Place{Epoch: "e", Mark: 10, Generation: 12, ID: "c"}) {
		t.Errorf("where the newest record was removed: %+v", n.place())
	}
	s.Now = time.UnixMicro(5)
	if n.beaten(7, 110, 115, s); n.place().Beaten != 7 {
		t.Errorf("when it has beaten: %+v", n.place())
	}
	// Another epoch, and then the old one again: somebody has put it back.
	n.beaten(0, 200, 205, State{Epoch: "f", Mark: 50, First: 50, Tail: 50})
	if n.place() != (Place{Epoch: "f", Mark: 50}) || n.name != termName("f", 50) {
		t.Errorf("in another epoch: %+v", n)
	}
	n.beaten(7, 204, 206, s) // late
	if n.back != "" {
		t.Errorf("by a late reply: %+v", n)
	}
	n.beaten(7, 210, 215, s)
	if want := (Place{Epoch: "e", Mark: lastMark}); n.place() != want || n.name != termName("f", 50) {
		t.Errorf("the first epoch has come back: %+v", n)
	}
	if n.beaten(7, 220, 225, State{Epoch: "g", Mark: 70, First: 70, Tail: 70}); n.back != "" || n.name != termName("g", 70) {
		t.Errorf("in the third epoch: %+v", n)
	}
	for _, p := range []Place{{Epoch: "e", Mark: 10, Generation: 11, ID: "b"}, {Epoch: "an epoch", Mark: 1<<53 - 1, Generation: 1}, {Epoch: "e.f", Mark: 0, Generation: 7, ID: "x"}} {
		if got := placeOf(p.text(), p.Generation); got != p {
			t.Errorf("%+v comes back from disk as %+v", p, got)
		}
	}
	for _, text := range []string{"", ".", "e", "e.x", "e.!.id", "e.zzzzzzzzzzzzzzzzzzz.id"} {
		if got := placeOf(text, 7); got != (Place{}) {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

func TestPositions(t *testing.T) {
	for _, tt := range []struct {
		name     string
		position Place
		suspect  bool
		reaches  Generation // the first purge that goes to the caches
	}{
		{"none", Place{}, true, 10},
		{"of the term", Place{Epoch: "e", Mark: 10, Generation: 12, ID: "x"}, false, 13},
		{"of the term, trimmed past", Place{Epoch: "e", Mark: 10, Generation: 8, ID: "x"}, true, 10},
		{"of the term, just not", Place{Epoch: "e", Mark: 10, Generation: 9, ID: "x"}, false, 10},
		{"of another term", Place{Epoch: "e", Mark: 9, Generation: 12, ID: "x"}, true, 10},
		{"ahead of the log", Place{Epoch: "e", Mark: 10, Generation: 15, ID: "x"}, true, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := &node{fence: 1000, position: tt.position}
			do := n.read(1, 2, 0, records(10, 14), at(10, 10, 14))
			if do.suspect != tt.suspect || n.reaches(tt.reaches-1) || !n.reaches(tt.reaches) || len(do.records) != 5 {
				t.Errorf("it is to do %+v: %+v", do, n)
			}
		})
	}
}

// TestRepliesThatAreNone change nothing.
func TestRepliesThatAreNone(t *testing.T) {
	for name, s := range map[string]State{
		"no epoch": {Mark: 1, Tail: 1, First: 1}, "no mark": {Epoch: "e", Tail: 12, First: 1}, "a tail below the mark": at(20, 10, 12),
	} {
		n := joined(t, 12)
		if do := n.beaten(7, 500, 505, s); do.suspect || do.upTo != 12 || n.done(do) || n.until != 1100 {
			t.Errorf("%s: %+v, %+v", name, do, n)
		}
	}
	n := joined(t, 12)
	for name, list := range map[string][]Record{
		"not ascending": {{Generation: 13}, {Generation: 13}}, "behind the tail": {{Generation: 13}, {Generation: 99}}, "old": {{Generation: 12}},
	} {
		if do := n.read(200, 205, 12, list, at(10, 10, 15)); do.upTo > 14 || do.suspect {
			t.Errorf("%s: %+v", name, do)
		}
	}
	if do := n.read(200, 205, 11, records(12, 15), at(10, 10, 15)); len(do.records) > 0 || do.upTo != 12 {
		t.Errorf("what was asked for before: %+v", do)
	}
}

// listing is a list with one node that is waited for.
func listing(beats uint64, epoch string, applied Generation) []Node {
	return []Node{{ID: "self"}, {ID: "n", Name: "n", Beats: beats, Epoch: epoch, Applied: applied}}
}

// acked has all of a list have applied the purge.
func acked(nodes []Node) []Node {
	nodes[1].Applied = 20
	return nodes
}

func TestAPurgeWaits(t *testing.T) {
	const fence, over = 1000, 1050
	term := termName("e", 10)
	state := at(10, 10, 20)
	young, middling := state, state
	young.Term, middling.Term = over-1, 8*over-1
	slow := func(beats uint64, fence, serves time.Duration) []Node {
		nodes := listing(beats, term, 19)
		nodes[1].Fence, nodes[1].Serves = fence, serves
		return nodes
	}
	for _, tt := range []struct {
		name  string
		asked time.Duration
		nodes []Node
		s     State
		want  progressOutcome
		held  int
		names [3]int // fenced, uncertain, evicted
	}{
		{"for one that has not applied it", 500, listing(1, term, 19), state, stillWaiting, 0, [3]int{}},
		{"not for one that has", 500, listing(2, term, 20), state, everywhere, 1, [3]int{}},
		{"for one that has in another term", 500, listing(2, termName("e", 9), 99), state, stillWaiting, 0, [3]int{}},
		{"for one past which the log was trimmed", 500, listing(2, term, 20), at(10, 21, 25), stillWaiting, 0, [3]int{}},
		{"not for one that has left", 500, listing(1, term, 19)[:1], state, everywhere, 0, [3]int{}},
		{"for a silent one until its pass is over", 100 + over - 1, listing(1, term, 19), state, stillWaiting, 0, [3]int{}},
		{"not for a silent one whose pass is over", 100 + over, listing(1, term, 19), state, everywhere, 0, [3]int{1, 0, 1}},
		{"not for one that beats, and that one stays", 100 + over, listing(2, term, 19), state, everywhere, 0, [3]int{1, 0, 0}},
		{"for as long as its own fence", 100 + 8*over - 1, slow(1, 8*fence, 0), state, stillWaiting, 0, [3]int{}},
		{"not longer than its own fence", 100 + 8*over, slow(1, 8*fence, 0), state, everywhere, 0, [3]int{1, 0, 1}},
		{"less for one whose fence is shorter", 100 + over/2, slow(1, fence/2, 0), state, everywhere, 0, [3]int{1, 0, 1}},
		{"and names one that serves on, by its own fence", 100 + 8*over, slow(1, 8*fence, fence), state, everywhere, 0, [3]int{0, 1, 0}},
		{"and evicts it when it has served", 100 + 9*over, slow(1, 8*fence, fence), state, everywhere, 0, [3]int{1, 0, 1}},
		{"for one that says what cannot be", 100 + 50*over, slow(1, 1<<63-1, 1<<63-1), state, stillWaiting, 0, [3]int{}},
		{"for this node's fence where a word is none", 100 + over - 1, slow(1, -5, -5), state, stillWaiting, 0, [3]int{}},
		{"in a term that is young for the longest fence", 100 + over, acked(slow(2, 8*fence, 0)), middling, stillWaiting, 1, [3]int{}},
		{"in a young term", 100 + over, listing(2, term, 20), young, stillWaiting, 1, [3]int{}},
		{"no more in another term", 500, listing(2, term, 20), at(11, 10, 20), appendAgain, 0, [3]int{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen := sightings{}
			w := appended(fence, "self", Appended{Generation: 20, Nodes: listing(1, term, 19), State: state}, 100)
			seen.saw(listing(1, term, 19), 100)
			seen.saw(tt.nodes, tt.asked+1)
			p := w.listed(tt.nodes, tt.s, tt.asked, seen)
			if got := [3]int{len(p.fenced), len(p.uncertain), len(p.evict)}; p.outcome != tt.want || p.held != tt.held || got != tt.names {
				t.Errorf("it has come to %+v", p)
			}
		})
	}
}

package fleettest

import (
	"fmt"
	"testing"

	"github.com/larder-cache/larder/fleet"
)

// comparing is a call by which a server compares what a node has with its log.
type comparing func(t *testing.T, e fleet.Engine, has fleet.Place) fleet.State

// compares are these calls.
var compares = map[string]comparing{
	"Beat": func(t *testing.T, e fleet.Engine, has fleet.Place) fleet.State {
		state, err := e.Beat(within(t), has, fleet.Node{ID: "one"})
		must(t, err)
		return state
	},
	"Append": func(t *testing.T, e fleet.Engine, has fleet.Place) fleet.State {
		out, err := e.Append(within(t), has, []byte("x"), 0)
		must(t, err)
		return out.State
	},
	"Read": func(t *testing.T, e fleet.Engine, has fleet.Place) fleet.State {
		_, state, err := e.Read(within(t), has, has.Generation, 10, 0)
		must(t, err)
		return state
	},
}

// placeIn is the place of a record in the newest term.
func placeIn(s fleet.State, r fleet.Record) fleet.Place {
	return fleet.Place{Epoch: s.Epoch, Mark: s.Mark, Generation: r.Generation, ID: r.ID}
}

// at is the record that an Append has made.
func at(out fleet.Appended) fleet.Record {
	return fleet.Record{Generation: out.Generation, ID: out.State.ID}
}

// putBack is what an Engine says when its server was put back to an older state: by what the nodes
// have it begins a new epoch.
func putBack(t *testing.T, open func(t *testing.T) ([]fleet.Engine, Losses)) {
	for name, compare := range compares {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			engines, losses := open(t)
			if losses.PutBack == nil {
				t.Skip("this server cannot be put back")
			}
			expectPutBack(t, engines[0], losses.PutBack, compare)
		})
	}
}

// expectPutBack puts the server of e back, and compares what nodes may have with what it has then.
func expectPutBack(t *testing.T, e fleet.Engine, putBack func() (back func()), compare comparing) {
	t.Helper()
	kept := prepare(t, e)
	beaten := kept.nodes[0].Number
	last := kept.log[len(kept.log)-1]
	back := putBack()
	lost := []fleet.Record{at(appendRecord(t, e, "lost")), at(appendRecord(t, e, "lost too"))}
	late := beaten + 1
	beat(t, e, fleet.Node{ID: "one", Number: late})
	later := beaten + 2
	replied := beat(t, e, fleet.Node{ID: "one", Number: later}).Now
	if now, _ := find(t, e, "one"); !now.Seen.Equal(replied) || now.Number != later {
		t.Errorf("the reply to beat %d is of %v, and it is noted as %d at %v", later, replied, now.Number, now.Seen)
	}
	back()
	other := at(appendRecord(t, e, "in its place"))
	if other.Generation != lost[0].Generation || other.ID == lost[0].ID {
		t.Fatalf("it was not put back: %+v after %+v", other, lost[0])
	}
	was := kept.state
	by := func(node string, beaten uint64) fleet.Place {
		p := placeIn(was, last)
		p.Node, p.Beaten = node, beaten
		return p
	}
	behind, ahead, foreign := placeIn(was, lost[1]), placeIn(was, last), placeIn(was, lost[1])
	behind.Mark--
	ahead.Mark += 1 << 32
	foreign.Epoch = "another"
	for what, has := range map[string]fleet.Place{
		"nothing": {}, "a record that it has": placeIn(was, last), "the record in the place of one": placeIn(was, other),
		"what is of an older term": behind, "what is of another epoch": foreign,
		"what one has that is not listed": by("two", later), "a beat that is noted": by("one", beaten),
		"what comes before the term": placeIn(was, fleet.Record{Generation: was.Mark - 1, ID: "x"}),
	} {
		if state := compare(t, e, has); state.Epoch != was.Epoch || state.Mark != was.Mark {
			t.Errorf("a node has %s, and a term begins: %+v", what, state)
		}
	}
	back()
	for what, has := range map[string]fleet.Place{
		"a record that was lost": placeIn(was, lost[1]), "a record with another in its place": placeIn(was, lost[0]),
		"what is of a later term": ahead, "a beat that was lost": by("one", later),
	} {
		lacks(t, e, compare, what, has)
		back()
	}
	beat(t, e, fleet.Node{ID: "one", Number: late}) // it was sent before, and arrives now
	lacks(t, e, compare, "a beat that was lost, though one of before has come since", by("one", later))
}

// maxEpoch is how long the name of an epoch may be, in bytes: caches keep it on disk with a mark, a
// generation and an ID.
const maxEpoch = 32

// putBackEpoch is what an Engine says when its server was put back to an epoch that had ended. A
// node that has been started since knows nothing of that one, so the order of epochs counts.
func putBackEpoch(t *testing.T, open func(t *testing.T) ([]fleet.Engine, Losses)) {
	for name, compare := range compares {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			engines, losses := open(t)
			if losses.PutBack == nil || losses.LoseNodes == nil {
				t.Skip("this server cannot be put back to an epoch that has ended")
			}
			e := engines[0]
			older := prepare(t, e).state
			back := losses.PutBack()
			losses.LoseNodes()
			later := compare(t, e, fleet.Place{})
			back()
			if was := compare(t, e, placeIn(older, fleet.Record{})); was.Epoch != older.Epoch || later.Epoch == older.Epoch {
				t.Fatalf("it was not put back: %+v", was)
			}
			now := compare(t, e, placeIn(later, fleet.Record{}))
			if now.Epoch == older.Epoch || now.Epoch == later.Epoch {
				t.Fatalf("epoch %q after one that has ended was put back, and %q is known", now.Epoch, later.Epoch)
			}
			if len(now.Epoch) > maxEpoch {
				t.Errorf("the name of an epoch has %d bytes, want at most %d", len(now.Epoch), maxEpoch)
			}
			for _, known := range []fleet.State{older, later, now} {
				if again := compare(t, e, placeIn(known, fleet.Record{})); again.Epoch != now.Epoch {
					t.Errorf("epoch %q once more, by what is known of %q", again.Epoch, known.Epoch)
				}
			}
		})
	}
}

// lacks asks for a new epoch by a place, with what was in the log and a mark.
func lacks(t *testing.T, e fleet.Engine, compare comparing, what string, has fleet.Place) {
	t.Helper()
	was := appendRecord(t, e, "in its place").State
	state := compare(t, e, has)
	if state.Epoch == was.Epoch || state.Mark <= was.Tail || state.Term > long {
		t.Errorf("a node has %s, and no epoch begins: %+v", what, state)
	}
	if again := compare(t, e, has); again.Epoch != state.Epoch || again.Mark != state.Mark {
		t.Errorf("a node has %s, and another epoch begins: %+v", what, again)
	}
	log := readAll(t, e, 0)
	if len(log) < 5 || log[3].Generation != was.Tail || log[3].ID != was.ID || !log[4].Mark {
		t.Errorf("the log is %+v", log)
	}
}

// removed is what an Engine says where somebody has removed a record: what is missing is seen.
func removed(t *testing.T, open func(t *testing.T) ([]fleet.Engine, Losses)) {
	t.Parallel()
	engines, losses := open(t)
	if losses.Remove == nil {
		t.Skip("no record of this server can be removed")
	}
	e := engines[0]
	log := make([]fleet.Record, 0, 6)
	for i := range cap(log) {
		log = append(log, at(appendRecord(t, e, fmt.Sprint(i))))
	}
	losses.Remove(log[2].Generation)
	losses.Remove(log[5].Generation)
	records, state, err := e.Read(within(t), fleet.Place{}, log[0].Generation, 10, long)
	must(t, err)
	if len(records) != 3 || records[0].ID != log[1].ID || records[1].ID != log[3].ID || state.Tail != log[5].Generation {
		t.Errorf("read %+v of %+v", records, state)
	}
	begun := state.Now
	records, state, err = e.Read(within(t), placeIn(state, log[4]), log[4].Generation, 10, long)
	must(t, err)
	if len(records) != 0 || state.Tail != log[5].Generation || state.ID != log[5].ID || state.Now.Sub(begun) > long/2 {
		t.Errorf("read %+v at the end, of %+v", records, state)
	}
	if now := compares["Beat"](t, e, placeIn(state, log[5])); now.Epoch != state.Epoch {
		t.Errorf("an epoch begins by the newest record, whose generation and id are kept: %+v", now)
	}
	if out := appendRecord(t, e, "x"); out.Generation != log[5].Generation+1 {
		t.Errorf("the next is %d, after %d", out.Generation, log[5].Generation)
	}
	if now := compares["Beat"](t, e, placeIn(state, log[2])); now.Epoch == state.Epoch {
		t.Errorf("no epoch begins by a record that was removed: %+v", now)
	}
}

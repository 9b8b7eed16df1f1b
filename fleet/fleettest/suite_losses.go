package fleettest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
)

// Losses are what can be done to a server behind its engines' backs. What is nil is not tested.
type Losses struct {
	Flush     func() // all content
	Restart   func() // nothing: a new process, or the promotion of a replica that has it all
	LoseNodes func() // the list of nodes alone
	LoseLog   func() // the log alone
	// PutBack returns a function that puts the list of nodes and the log as they are now in the
	// place of what they are then. The server is not started for it.
	PutBack func() (back func())
	// Remove removes one record.
	Remove func(fleet.Generation)
}

// TestLosses is what an Engine says after a loss. open is TestEngine's.
func TestLosses(t *testing.T, open func(t *testing.T) ([]fleet.Engine, Losses)) {
	t.Helper()
	t.Run("the newest, without a start", func(t *testing.T) { putBack(t, open) })
	t.Run("an epoch, without a start", func(t *testing.T) { putBackEpoch(t, open) })
	t.Run("one record", func(t *testing.T) { removed(t, open) })
	for _, tt := range []struct {
		name string
		lose func(Losses) func()
		then func(t *testing.T, e fleet.Engine, was, is before)
	}{
		{"everything", func(l Losses) func() { return l.Flush }, afterFlush},
		{"nothing", func(l Losses) func() { return l.Restart }, afterRestart},
		{"the list of nodes", func(l Losses) func() { return l.LoseNodes }, afterNodes},
		{"the log", func(l Losses) func() { return l.LoseLog }, afterLog},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			engines, losses := open(t)
			lose := tt.lose(losses)
			if lose == nil {
				t.Skip("this server cannot lose it")
			}
			was := prepare(t, engines[0])
			lose()
			comeBack(t, engines)
			tt.then(t, engines[len(engines)-1], was, inspect(t, engines[0]))
		})
	}
}

// before is a server's content, as an engine says it.
type before struct {
	state  fleet.State
	nodes  []fleet.Node
	log    []fleet.Record
	record string
	lease  fleet.Lease
}

// prepare has one of all.
func prepare(t *testing.T, e fleet.Engine) before {
	t.Helper()
	beat(t, e, fleet.Node{ID: "one", Applied: 1})
	appendRecord(t, e, "x")
	appendRecord(t, e, "y")
	put(t, e, "key", "1", "record", "row")
	take(t, e, "key", "t1", "one", time.Hour)
	return inspect(t, e)
}

func inspect(t *testing.T, e fleet.Engine) before {
	t.Helper()
	var b before
	b.nodes, b.state = nodesOf(t, e)
	b.log = readAll(t, e, 0)
	record, err := e.Record(within(t), "key", "1")
	must(t, err)
	b.record, b.lease = string(record), look(t, e, "key")
	return b
}

// comeBack has all engines meet the loss at once, and again until their connections are back.
func comeBack(t *testing.T, engines []fleet.Engine) {
	t.Helper()
	var group sync.WaitGroup
	for _, e := range engines {
		for range 4 {
			group.Go(func() {
				for end := time.Now().Add(long); ; {
					_, _, err := e.Nodes(within(t))
					if err == nil {
						return
					}
					if time.Now().After(end) {
						t.Errorf("it does not come back: %v", err)
						return
					}
				}
			})
		}
	}
	group.Wait()
}

// marked asks for one mark more, far above what was there.
func marked(t *testing.T, was, is before, records int) {
	t.Helper()
	if is.state.Tail < was.state.Tail+1<<32 || is.state.Tail >= 1<<53 {
		t.Errorf("the tail is %d, after %d", is.state.Tail, was.state.Tail)
	}
	n := len(is.log)
	if n != records+1 || !is.log[n-1].Mark || is.log[n-1].Generation != is.state.Tail {
		t.Errorf("the log is %+v, want %d records and a mark at %d", is.log, records, is.state.Tail)
	}
	for i := range min(n, records) {
		if fmt.Sprint(is.log[i]) != fmt.Sprint(was.log[i]) {
			t.Errorf("record %d is %v, was %v", i, is.log[i], was.log[i])
		}
	}
	if is.state.Mark != is.state.Tail {
		t.Errorf("the newest mark is said to be %d, want %d", is.state.Mark, is.state.Tail)
	}
	if is.state.Term > long {
		t.Errorf("the term has lasted %v", is.state.Term)
	}
}

func afterFlush(t *testing.T, e fleet.Engine, was, is before) {
	if is.state.Epoch == was.state.Epoch || len(is.nodes) != 0 || is.record != "" || is.lease.Held {
		t.Errorf("after the loss %+v", is)
	}
	if len(is.log) != 1 || !is.log[0].Mark || is.state.First != is.state.Tail || is.state.Mark != is.state.Tail {
		t.Errorf("the log is %+v, %+v, want a mark", is.log, is.state)
	}
	beat(t, e, fleet.Node{ID: "one", Applied: 1})
	must(t, e.Evict(within(t), was.nodes[0]))
	if _, found := find(t, e, "one"); !found {
		t.Error("a node is evicted that has registered since, with as many beats")
	}
}

func afterRestart(t *testing.T, e fleet.Engine, was, is before) {
	if is.state.Epoch != was.state.Epoch || !sameNodes(is.nodes, was.nodes) || is.record != "record" || !is.lease.Held {
		t.Errorf("after the start %+v, before %+v", is, was)
	}
	marked(t, was, is, len(was.log))
	if out := appendRecord(t, e, "z"); out.Generation <= is.state.Tail {
		t.Errorf("the next is %d, after %d", out.Generation, is.state.Tail)
	}
}

func afterNodes(t *testing.T, e fleet.Engine, was, is before) {
	if is.state.Epoch == was.state.Epoch || len(is.nodes) != 0 {
		t.Errorf("after the loss %+v, %v", is.state, is.nodes)
	}
	marked(t, was, is, len(was.log))
	beat(t, e, fleet.Node{ID: "one"})
	if n, _ := find(t, e, "one"); n.Beats != 1 {
		t.Errorf("registered anew with %d beats", n.Beats)
	}
}

func afterLog(t *testing.T, _ fleet.Engine, was, is before) {
	if is.state.Epoch == was.state.Epoch || !sameNodes(is.nodes, was.nodes) || is.state.First != is.state.Tail {
		t.Errorf("after the loss %+v, %v", is.state, is.nodes)
	}
	marked(t, was, is, 0)
}

package fleettest

import (
	"context"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
)

// long is how long the suite waits for what has to come, on a machine however busy. short is a time
// within which things expire.
const (
	long  = 2 * time.Minute
	short = 150 * time.Millisecond
)

// test is a part of the suite. a and b may be any two engines of a server, or one and the same.
type test struct {
	name string
	run  func(t *testing.T, a, b fleet.Engine)
}

// TestEngine is the conformance suite. open returns one or more engines of one server, which is
// empty, and sees to their closing. It is called for each part anew.
func TestEngine(t *testing.T, open func(t *testing.T) []fleet.Engine) {
	t.Helper()
	for _, part := range []struct {
		name  string
		tests []test
	}{{"log", logTests}, {"tier", tierTests}, {"leases", leaseTests}, {"calls", callTests}} {
		for _, tt := range part.tests {
			t.Run(part.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				engines := open(t)
				tt.run(t, engines[0], engines[len(engines)-1])
			})
		}
	}
}

// within is a context for calls that have to succeed.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), long)
	t.Cleanup(cancel)
	return ctx
}

// must fails where there is an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually asks again until the answer is yes.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(long); !done(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, long)
		}
		time.Sleep(time.Millisecond) // what is asked for may be in another process, on this processor
	}
}

func beat(t *testing.T, e fleet.Engine, n fleet.Node) fleet.State {
	t.Helper()
	state, err := e.Beat(within(t), fleet.Place{}, n)
	must(t, err)
	return state
}

func appendRecord(t *testing.T, e fleet.Engine, data string) fleet.Appended {
	t.Helper()
	out, err := e.Append(within(t), fleet.Place{}, []byte(data), 0)
	must(t, err)
	return out
}

// readAll returns the records after a generation, without waiting for more.
func readAll(t *testing.T, e fleet.Engine, after fleet.Generation) []fleet.Record {
	t.Helper()
	var all []fleet.Record
	for {
		records, _, err := e.Read(within(t), fleet.Place{}, after, 1000, 0)
		must(t, err)
		if len(records) == 0 {
			return all
		}
		for _, r := range records {
			if r.Generation <= after {
				t.Fatalf("generation %d after %d", r.Generation, after)
			}
			after = r.Generation
		}
		all = append(all, records...)
	}
}

func nodesOf(t *testing.T, e fleet.Engine) ([]fleet.Node, fleet.State) {
	t.Helper()
	nodes, state, err := e.Nodes(within(t))
	must(t, err)
	return nodes, state
}

// find returns the one node with an id.
func find(t *testing.T, e fleet.Engine, id string) (fleet.Node, bool) {
	t.Helper()
	nodes, _ := nodesOf(t, e)
	for _, n := range nodes {
		if n.ID == id {
			return n, true
		}
	}
	return fleet.Node{}, false
}

package fleettest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
)

var logTests = []test{
	{"begins with an epoch and a mark", logBegins},
	{"a beat registers a node", logBeat},
	{"records ascend", logAppend},
	{"records are bytes of any length", logBytes},
	{"reads so many at once", logLimit},
	{"waits for a record", logWait},
	{"ends a wait without one", logNothing},
	{"append names the nodes", logNodes},
	{"evicts who has not beaten since", logEvict},
	{"forgets who leaves", logLeave},
	{"many append at once", logConcurrent},
	{"all begin at once", logBeginsOnce},
	{"does not wait for replicas for ever", logReplicas},
}

func logBegins(t *testing.T, a, b fleet.Engine) {
	nodes, state := nodesOf(t, a)
	if state.Epoch == "" || state.Tail == 0 || state.Tail >= 1<<52 || state.First != state.Tail || state.Mark != state.Tail || len(nodes) != 0 {
		t.Fatalf("begins with %+v, nodes %v", state, nodes)
	}
	if state.Term < 0 || state.Term > long || state.Now.IsZero() {
		t.Errorf("the term has lasted %v at %v", state.Term, state.Now)
	}
	records := readAll(t, b, 0)
	if len(records) != 1 || !records[0].Mark || len(records[0].Data) != 0 || records[0].Generation != state.Tail {
		t.Errorf("the log has %+v, want a mark at %d", records, state.Tail)
	}
	if _, again := nodesOf(t, b); again.Epoch != state.Epoch || again.Tail != state.Tail || again.Now.Before(state.Now) {
		t.Errorf("then %+v, after %+v", again, state)
	}
}

func logBeat(t *testing.T, a, b fleet.Engine) {
	want := fleet.Node{
		ID: "one", Number: 1 << 40, Epoch: "an epoch: \"x\"", Applied: 1<<53 - 1, Fence: time.Second, Serves: time.Minute, State: "ready", Name: "höst, \x00 1",
		Address: "[::1]:80", Version: "v1|2",
	}
	state := beat(t, a, want)
	want.Beats = 1
	got, found := find(t, b, "one")
	if got.Seen.Before(state.Now.Add(-long)) || got.Seen.After(state.Now.Add(long)) {
		t.Errorf("seen at %v, beaten at %v", got.Seen, state.Now)
	}
	first := got.Seen
	if got.Seen = (time.Time{}); !found || got != want {
		t.Errorf("registered as %+v, want %+v", got, want)
	}
	want.Applied, want.State, want.Beats = 7, "lost", 2
	late := want
	late.Number = 3
	beat(t, b, late)
	got, _ = find(t, a, "one")
	if got.Seen.Before(first) {
		t.Errorf("seen at %v, before %v", got.Seen, first)
	}
	if got.Seen = (time.Time{}); got != want {
		t.Errorf("then %+v, want %+v", got, want)
	}
	beat(t, a, fleet.Node{ID: "two"})
	if nodes, _ := nodesOf(t, a); len(nodes) != 2 {
		t.Errorf("nodes %v, want two", nodes)
	}
}

func logAppend(t *testing.T, a, b fleet.Engine) {
	_, state := nodesOf(t, a)
	last := state.Tail
	for i := range 20 {
		e := []fleet.Engine{a, b}[i%2]
		out := appendRecord(t, e, fmt.Sprint(i))
		if out.Generation <= last || out.State.Tail != out.Generation || out.State.Epoch != state.Epoch {
			t.Fatalf("append %d after %d: %+v", i, last, out)
		}
		last = out.Generation
	}
	if now := beat(t, b, fleet.Node{ID: "x"}); now.Tail != last || now.First != state.Tail || now.Mark != state.Mark {
		t.Errorf("a beat says %+v, want first %d, tail %d", now, state.Tail, last)
	}
	for i, r := range readAll(t, b, state.Tail) {
		if string(r.Data) != fmt.Sprint(i) || r.Mark {
			t.Errorf("record %d is %+v", i, r)
		}
	}
}

func logBytes(t *testing.T, a, b fleet.Engine) {
	_, state := nodesOf(t, a)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	want := []string{string(all), "", strings.Repeat("x", 1<<20), "mark", "1"}
	for _, data := range want {
		appendRecord(t, a, data)
	}
	for i, r := range readAll(t, b, state.Tail) {
		if string(r.Data) != want[i] || r.Mark {
			t.Errorf("record %d: %d bytes, mark %v, want %d bytes", i, len(r.Data), r.Mark, len(want[i]))
		}
	}
}

func logLimit(t *testing.T, a, b fleet.Engine) {
	_, state := nodesOf(t, a)
	var want []fleet.Generation
	for range 5 {
		want = append(want, appendRecord(t, a, "x").Generation)
	}
	after, tail := state.Tail, want[4]
	for _, n := range []int{2, 2, 1, 0} {
		records, now, err := b.Read(within(t), fleet.Place{}, after, 2, 0)
		must(t, err)
		if len(records) != n {
			t.Fatalf("read %d after %d, want %d", len(records), after, n)
		}
		if now.Epoch != state.Epoch || now.Tail != tail || now.First != state.First || now.Mark != state.Mark {
			t.Errorf("read at %+v, which began as %+v", now, state)
		}
		for _, r := range records {
			if after = r.Generation; after != want[0] {
				t.Errorf("generation %d, want %d", after, want[0])
			}
			want = want[1:]
		}
	}
}

func logWait(t *testing.T, a, b fleet.Engine) {
	_, state := nodesOf(t, a)
	read := make(chan []fleet.Record)
	go func() {
		records, now, err := b.Read(within(t), fleet.Place{}, state.Tail, 10, long)
		if err != nil || len(records) == 0 || now.Tail < records[0].Generation {
			t.Errorf("read %v at %+v: %v", records, now, err)
		}
		read <- records
	}()
	out := appendRecord(t, a, "x")
	if records := <-read; len(records) != 1 || records[0].Generation != out.Generation {
		t.Errorf("read %+v, want %d", records, out.Generation)
	}
}

func logNothing(t *testing.T, a, _ fleet.Engine) {
	_, state := nodesOf(t, a)
	if records, _, err := a.Read(within(t), fleet.Place{}, state.Tail, 10, short); len(records) > 0 || err != nil {
		t.Errorf("%v, %v", records, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	begun := time.Now()
	if records, _, err := a.Read(ctx, fleet.Place{}, state.Tail, 10, time.Hour); len(records) > 0 || err == nil || time.Since(begun) > long {
		t.Errorf("%v, %v after %v", records, err, time.Since(begun))
	}
}

func logNodes(t *testing.T, a, b fleet.Engine) {
	if out := appendRecord(t, a, "x"); len(out.Nodes) != 0 {
		t.Errorf("nodes %v before any has beaten", out.Nodes)
	}
	beat(t, a, fleet.Node{ID: "one", Applied: 3})
	beat(t, b, fleet.Node{ID: "two", Applied: 4})
	nodes, _ := nodesOf(t, a)
	for _, e := range []fleet.Engine{a, b} {
		if out := appendRecord(t, e, "x"); !sameNodes(out.Nodes, nodes) || len(nodes) != 2 {
			t.Errorf("nodes %v, want %v", out.Nodes, nodes)
		}
	}
}

func sameNodes(a, b []fleet.Node) bool {
	byID := func(a, b fleet.Node) int { return strings.Compare(a.ID, b.ID) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), byID), slices.SortedFunc(slices.Values(b), byID))
}

func logEvict(t *testing.T, a, b fleet.Engine) {
	beat(t, a, fleet.Node{ID: "one"})
	seen, _ := find(t, b, "one")
	beat(t, a, fleet.Node{ID: "one"})
	must(t, b.Evict(within(t), seen))
	seen, found := find(t, b, "one")
	if !found {
		t.Fatal("a node is evicted that has beaten since")
	}
	must(t, b.Evict(within(t), seen))
	if _, found = find(t, a, "one"); found {
		t.Error("a node stays that has not beaten since")
	}
	must(t, b.Evict(within(t), seen))
	beat(t, a, fleet.Node{ID: "one"})
	if again, _ := find(t, a, "one"); again.Beats != 1 {
		t.Errorf("registered anew with %d beats", again.Beats)
	}
}

func logLeave(t *testing.T, a, b fleet.Engine) {
	beat(t, a, fleet.Node{ID: "one"})
	beat(t, a, fleet.Node{ID: "two"})
	must(t, b.Leave(within(t), "one"))
	must(t, b.Leave(within(t), "nobody"))
	if nodes, _ := nodesOf(t, a); len(nodes) != 1 || nodes[0].ID != "two" {
		t.Errorf("nodes %v, want two", nodes)
	}
}

func logConcurrent(t *testing.T, a, b fleet.Engine) {
	_, state := nodesOf(t, a)
	const writers, each = 16, 20
	var group sync.WaitGroup
	var mu sync.Mutex
	want := map[fleet.Generation]string{}
	for w := range writers {
		group.Go(func() {
			for i := range each {
				data := fmt.Sprintf("%d %d", w, i)
				out, err := []fleet.Engine{a, b}[w%2].Append(within(t), fleet.Place{}, []byte(data), 0)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				want[out.Generation] = data
				mu.Unlock()
			}
		})
	}
	group.Wait()
	records := readAll(t, b, state.Tail)
	if len(want) != writers*each || len(records) != len(want) {
		t.Fatalf("%d generations, %d records, want %d", len(want), len(records), writers*each)
	}
	for _, r := range records {
		if want[r.Generation] != string(r.Data) {
			t.Errorf("at %d is %q, want %q", r.Generation, r.Data, want[r.Generation])
		}
	}
}

func logBeginsOnce(t *testing.T, a, b fleet.Engine) {
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			if _, err := []fleet.Engine{a, b}[i%2].Beat(within(t), fleet.Place{}, fleet.Node{ID: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if records := readAll(t, a, 0); len(records) != 1 {
		t.Errorf("the log begins with %+v, want one mark", records)
	}
	if nodes, _ := nodesOf(t, b); len(nodes) != 20 {
		t.Errorf("%d nodes, want 20", len(nodes))
	}
}

func logReplicas(t *testing.T, a, b fleet.Engine) {
	_, state := nodesOf(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	data := []byte("x")
	out, err := a.Append(ctx, fleet.Place{}, data, 90)
	if err != nil || out.Replicas >= 90 {
		t.Fatalf("%+v, %v", out, err)
	}
	records := readAll(t, b, state.Tail)
	if len(records) != 1 || records[0].Generation != out.Generation || !bytes.Equal(records[0].Data, data) {
		t.Errorf("the log has %+v, want %d", records, out.Generation)
	}
}

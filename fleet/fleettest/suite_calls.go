package fleettest

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
)

var callTests = []test{
	{"an ended context ends each", callsEnded},
	{"close ends each", callsClosed},
	{"close ends what is under way", callsUnderWay},
	{"nothing is kept of what was handed over", callsBytes},
}

// calls are all methods, each with arguments that work.
var calls = map[string]func(ctx context.Context, e fleet.Engine) error{
	"Beat": func(ctx context.Context, e fleet.Engine) error {
		return last(e.Beat(ctx, fleet.Place{}, fleet.Node{ID: "n"}))
	},
	"Append": func(ctx context.Context, e fleet.Engine) error {
		return last(e.Append(ctx, fleet.Place{}, []byte("x"), 0))
	},
	"Append to replicas": func(ctx context.Context, e fleet.Engine) error {
		return last(e.Append(ctx, fleet.Place{}, []byte("x"), 1))
	},
	"Read": func(ctx context.Context, e fleet.Engine) error {
		return lastOfThree(e.Read(ctx, fleet.Place{}, 0, 1, 0))
	},
	"Read, waiting": func(ctx context.Context, e fleet.Engine) error {
		return lastOfThree(e.Read(ctx, fleet.Place{}, 1<<53-1, 1, time.Hour))
	},
	"Nodes": func(ctx context.Context, e fleet.Engine) error {
		_, _, err := e.Nodes(ctx)
		return err
	},
	"Evict": func(ctx context.Context, e fleet.Engine) error { return e.Evict(ctx, fleet.Node{ID: "n"}) },
	"Leave": func(ctx context.Context, e fleet.Engine) error { return e.Leave(ctx, "n") },
	"Find": func(ctx context.Context, e fleet.Engine) error {
		_, _, err := e.Find(ctx, "key", "variant")
		return err
	},
	"Record": func(ctx context.Context, e fleet.Engine) error { return last(e.Record(ctx, "key", "variant")) },
	"PutRecord": func(ctx context.Context, e fleet.Engine) error {
		return e.PutRecord(ctx, "key", "variant", []byte("x"), []byte("y"), time.Minute)
	},
	"ReplaceRecord": func(ctx context.Context, e fleet.Engine) error {
		return last(e.ReplaceRecord(ctx, "key", "variant", []byte("w"), []byte("x"), []byte("y"), time.Minute))
	},
	"RemoveRecord": func(ctx context.Context, e fleet.Engine) error {
		return e.RemoveRecord(ctx, "key", "variant", []byte("x"))
	},
	"Chunks": func(ctx context.Context, e fleet.Engine) error { return last(e.Chunks(ctx, "id", []int{1})) },
	"PutChunk": func(ctx context.Context, e fleet.Engine) error {
		return e.PutChunk(ctx, "id", 1, []byte("x"), time.Minute)
	},
	"HasChunks": func(ctx context.Context, e fleet.Engine) error { return last(e.HasChunks(ctx, "id", 1)) },
	"KeepChunks": func(ctx context.Context, e fleet.Engine) error {
		return last(e.KeepChunks(ctx, "id", 1, time.Minute))
	},
	"Take": func(ctx context.Context, e fleet.Engine) error {
		return last(e.Take(ctx, "key", "token", "n", nil, time.Minute))
	},
	"Hold": func(ctx context.Context, e fleet.Engine) error {
		return last(e.Hold(ctx, "key", "token", nil, time.Minute))
	},
	"Release": func(ctx context.Context, e fleet.Engine) error {
		return last(e.Release(ctx, "key", "token", []byte("x"), time.Minute))
	},
	"Look": func(ctx context.Context, e fleet.Engine) error { return last(e.Look(ctx, "key")) },
	"Listen": func(ctx context.Context, e fleet.Engine) error {
		return e.Listen(ctx, "n", func() {}, func(string, []byte) {})
	},
}

func last[T any](_ T, err error) error { return err }

func lastOfThree[T, U any](_ T, _ U, err error) error { return err }

func callsEnded(t *testing.T, a, _ fleet.Engine) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fail(t, ctx, a)
}

func callsClosed(t *testing.T, a, _ fleet.Engine) {
	beat(t, a, fleet.Node{ID: "n"})
	must(t, a.Close())
	fail(t, within(t), a)
	must(t, a.Close())
}

// fail has each call return an error.
func fail(t *testing.T, ctx context.Context, e fleet.Engine) {
	t.Helper()
	for name, call := range calls {
		begun := time.Now()
		if err := call(ctx, e); err == nil {
			t.Errorf("%s: no error", name)
		}
		if took := time.Since(begun); took > long/2 {
			t.Errorf("%s: ended after %v", name, took)
		}
	}
}

func callsUnderWay(t *testing.T, a, _ fleet.Engine) {
	_, state := nodesOf(t, a)
	ended := make(chan error, 2)
	ready := make(chan struct{})
	go func() { ended <- lastOfThree(a.Read(t.Context(), fleet.Place{}, state.Tail, 1, time.Hour)) }()
	go func() { ended <- a.Listen(t.Context(), "n", func() { close(ready) }, func(string, []byte) {}) }()
	<-ready
	must(t, a.Close())
	for range 2 {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("no error")
			}
		case <-time.After(long):
			t.Fatal("a call goes on")
		}
	}
}

// callsBytes overwrites what it has handed over as soon as a call has returned, also where its
// context ends in the middle.
func callsBytes(t *testing.T, a, b fleet.Engine) {
	_, state := nodesOf(t, a)
	const size = 8 << 10
	data := make([]byte, size)
	for i := range 200 {
		for at := range data {
			data[at] = byte(i)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*10*time.Microsecond)
		_, _ = a.Append(ctx, fleet.Place{}, data, 0)
		for at := range data {
			data[at] = 0xff
		}
		cancel()
	}
	records := readAll(t, b, state.Tail)
	for _, r := range records {
		if len(r.Data) != size || r.Data[0] == 0xff || bytes.Count(r.Data, r.Data[:1]) != size {
			t.Errorf("%d: what was handed over has changed on its way", r.Generation)
		}
	}
	t.Logf("%d of 200 were done", len(records))
}

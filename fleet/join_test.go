package fleet_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/store"
)

// forgetful are caches that keep nothing.
type forgetful struct{ purges, selectors atomic.Int64 }

func (f *forgetful) Apply(p fleet.Purge) func(context.Context) (int, error) {
	f.purges.Add(1)
	f.selectors.Add(int64(len(p.Selectors.Tags)))
	return func(context.Context) (int, error) { return 0, nil }
}
func (*forgetful) Complete(s store.Selectors) store.Selectors { return s }
func (*forgetful) Suspect()                                   {}
func (*forgetful) Position() (string, fleet.Generation)       { return "", 0 }
func (*forgetful) SetPosition(string, fleet.Generation)       {}

// TestJoiningIsQuick: 100,000 purges in the log are joined with few, and within 30 MiB.
func TestJoiningIsQuick(t *testing.T) {
	const n = 100_000
	server := fleettest.NewServer()
	engine := server.Clients(2)
	writer := fleet.New(fleet.Options{Engine: engine[0], Caches: &forgetful{}, Logger: slog.New(slog.DiscardHandler)})
	for i := range n {
		if _, err := engine[0].Append(t.Context(), fleet.Place{}, writer.Encode(fleet.Purge{
			Selectors: store.Selectors{Tags: []string{fmt.Sprintf("product-%08d", i)}}, Severity: store.Hard,
		}), 0); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, begun := heap(), time.Now()
	caches := new(forgetful)
	node := fleet.New(fleet.Options{Engine: engine[1], Caches: caches, Logger: slog.New(slog.DiscardHandler)})
	held := make(chan struct{})
	node.WhenHeld(func() { close(held) })
	node.Start()
	<-held
	took, grown := time.Since(begun), heap()-before
	t.Logf("joined in %v with %d purges of %d selectors; it takes %d bytes", took, caches.purges.Load(), caches.selectors.Load(), grown)
	if caches.purges.Load() > n/100 || caches.selectors.Load() != n || grown > 30<<20 {
		t.Errorf("%d purges of %d selectors, %d bytes", caches.purges.Load(), caches.selectors.Load(), grown)
	}
	if err := node.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPassAllocatesNothing, nor do the questions that go with it.
func TestPassAllocatesNothing(t *testing.T) {
	node := fleet.New(fleet.Options{Engine: fleettest.NewEngine(), Caches: &forgetful{}})
	tags := []string{"t"}
	if n := testing.AllocsPerRun(100, func() {
		node.Pass()
		stamp, _ := node.Begin()
		node.Judge(stamp, "http://a/", tags)
	}); n > 0 {
		t.Errorf("they allocate %v times", n)
	}
}

func BenchmarkPass(b *testing.B) {
	node := fleet.New(fleet.Options{Engine: fleettest.NewEngine(), Caches: &forgetful{}})
	b.ReportAllocs()
	for b.Loop() {
		node.Pass()
	}
}

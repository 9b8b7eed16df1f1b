package fleet_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
)

// nowhere is an engine whose reads return at once and bring no node on.
type nowhere struct {
	*fleettest.Engine
	on    atomic.Bool
	reads atomic.Int64
}

func (e *nowhere) Read(ctx context.Context, has fleet.Place, after fleet.Generation, limit int, wait time.Duration) (
	[]fleet.Record, fleet.State, error,
) {
	if !e.on.Load() {
		return e.Engine.Read(ctx, has, after, limit, wait)
	}
	e.reads.Add(1)
	_, state, err := e.Nodes(ctx)
	return []fleet.Record{{Generation: after}}, state, err
}

// TestRepliesThatGetNowhere do not keep a node busy, and are told of once.
func TestRepliesThatGetNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &nowhere{Engine: fleettest.NewEngine()}
		var told strings.Builder
		node := fleet.New(fleet.Options{
			Engine: engine, Caches: &caches{}, Fence: fence, Logger: slog.New(slog.NewTextHandler(&told, nil)),
		})
		node.Start()
		time.Sleep(2 * fence)
		engine.on.Store(true)
		time.Sleep(6 * fence)
		if n := engine.reads.Load(); n > 200 {
			t.Errorf("it has read %d times in a minute", n)
		}
		engine.on.Store(false)
		time.Sleep(fence)
		if !node.Pass() {
			t.Error("it has no pass when all is well")
		}
		if err := node.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := strings.Count(told.String(), "not what Larder writes"); n != 1 {
			t.Errorf("told %d times: %s", n, told.String())
		}
	})
}

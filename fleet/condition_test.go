package fleet_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
)

// TestConditions: each failure has its name.
func TestConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			err  error
			want fleet.Condition
		}{
			{fleet.ErrReadOnly, fleet.ReadOnly}, {fleet.ErrRefused, fleet.Refused}, {fleettest.ErrLost, fleet.Unreachable},
		} {
			server := fleettest.NewServer()
			server.SetFault(func(fleettest.Call) fleettest.Fault { return fleettest.Fault{Err: tt.err} })
			node := start(t, server, 1, nil)[0]
			time.Sleep(time.Second)
			if got := node.Stats(); got.Condition != tt.want || got.State != tt.want.String() || node.Pass() {
				t.Errorf("%v: %+v", tt.err, got)
			}
			server.SetFault(func(fleettest.Call) fleettest.Fault { return fleettest.Fault{} })
			time.Sleep(2 * time.Second)
			if got := node.Stats().Condition; got != fleet.Held {
				t.Errorf("after %v: %v", tt.err, got)
			}
			if err := node.Close(t.Context()); err != nil || node.Stats().Condition != fleet.Left {
				t.Errorf("%v: %v", node.Stats().Condition, err)
			}
		}
	})
}

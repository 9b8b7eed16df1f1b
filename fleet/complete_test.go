package fleet_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/store"
)

// TestAPurgeIsCompleteOnEveryNode: what a node has stored, or finds in the shared tier, by rules
// that the node of the purge has never had, is purged there too. It stayed: the log has what the
// node of the purge has made of the URL.
func TestAPurgeIsCompleteOnEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, fleettest.NewServer(), 2, nil)
		nodes[1].caches.ignored = "?utm=1"
		time.Sleep(2 * fence)
		for _, purge := range []func(p fleet.Purge) error{
			func(p fleet.Purge) error { _, err := nodes[0].Purge(t.Context(), p); return err },
			func(p fleet.Purge) error { nodes[0].Invalidate(fleet.Invalidation{Purge: p}); return nil },
		} {
			stamp, _ := nodes[1].Begin()
			before := len(nodes[1].caches.purges)
			p := fleet.Purge{Selectors: store.Selectors{URLs: []string{"http://a/p?utm=1"}}, Severity: store.Hard}
			if err := purge(p); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			for i, want := range []bool{false, true} {
				severity, _ := nodes[i].Judge(stamp, "http://a/p", nil)
				if severity == store.Hard != want {
					t.Errorf("node %d judges what is shared %v", i, severity)
				}
			}
			nodes[1].caches.mu.Lock()
			applied := nodes[1].caches.purges[before:]
			nodes[1].caches.mu.Unlock()
			if len(applied) != 1 || applied[0].Labels == 0 || !slices.Contains(applied[0].Selectors.URLs, "http://a/p") {
				t.Errorf("applied: %+v", applied)
			}
		}
	})
}

// TestSharedFromBeforeALabel: what other nodes have shared before this one has a label may have
// been purged as this one did not understand then. It judges none of that ours, and what comes
// later.
func TestSharedFromBeforeALabel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := start(t, fleettest.NewServer(), 1, nil)[0]
		time.Sleep(2 * fence)
		judge := func(what string, stamp fleet.Stamp, want bool) {
			t.Helper()
			if _, ours := node.Judge(stamp, "http://a/p", nil); ours != want {
				t.Errorf("%s: ours %v", what, ours)
			}
		}
		old, _ := node.Begin()
		purgeTag(t, node, "t")
		judge("no label is new", old, true)
		store.New(store.Config{}, store.Settings{}).AddLabel("new")
		judge("a label is new", old, false)
		time.Sleep(fence)
		judge("after a while", old, false)
		now, _ := node.Begin()
		judge("what began since", now, true)
	})
}

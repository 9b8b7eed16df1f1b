package fleet_test

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/store"
)

// TestALogThatIsPutBack to an older state in the same process of the server: a purge that is
// answered holds, and what was shared in the meantime is not used.
func TestALogThatIsPutBack(t *testing.T) {
	for lost := range 4 {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := fleettest.NewServer()
				nodes := start(t, server, 2, nil)
				time.Sleep(2 * fence)
				back := server.PutBack()
				for i := range lost {
					purgeTag(t, nodes[0], fmt.Sprint("lost", i))
				}
				stamp, _ := nodes[0].Begin()
				time.Sleep(time.Millisecond)
				back()
				purgeTag(t, nodes[0], "t")
				for i, n := range nodes {
					if n.caches.purged("t") == 0 {
						t.Errorf("node %d has not applied a purge that was answered", i)
					}
					if severity, ours := n.Judge(stamp, "http://a/", []string{"t"}); ours && severity == 0 {
						t.Errorf("node %d uses what was shared before the purge", i)
					}
				}
				time.Sleep(fence / 2)
				for i, n := range nodes {
					if !n.Pass() {
						t.Errorf("node %d has no pass when all is well: %+v", i, n.Stats())
					}
				}
			})
		})
	}
}

// TestALogThatIsPutBackWhileItIsAppendedTo: the record comes into a place that this node has
// applied in the log of before.
func TestALogThatIsPutBackWhileItIsAppendedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		node, stranger := start(t, server, 1, nil)[0], server.Clients(2)[1]
		time.Sleep(2 * fence)
		back := server.PutBack()
		other := make(chan struct{})
		server.SetFault(func(c fleettest.Call) (fault fleettest.Fault) {
			if c.Client == 0 && c.Method == "Append" {
				select {
				case <-other: // once
				default:
					close(other)
					fault.Delay = time.Second
				}
			}
			return fault
		})
		done := make(chan fleet.Purged)
		go func() { done <- purgeTag(t, node, "t") }()
		<-other
		data := node.Encode(fleet.Purge{Selectors: store.Selectors{Tags: []string{"other"}}, Severity: store.Hard})
		if _, err := stranger.Append(t.Context(), fleet.Place{}, data, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second / 2)
		back()
		if <-done; node.caches.purged("other") == 0 || node.caches.purged("t") == 0 {
			t.Errorf("a purge was answered that the node has not applied: %+v", node.caches.purges)
		}
	})
}

// TestALogThatIsPutBackWhileItIsRead: what a node reads ahead, while it applies what came before,
// goes on from that in the same log. Otherwise it would never hear of what stands in its place.
func TestALogThatIsPutBackWhileItIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		engines := server.Clients(2)
		writer := fleet.New(fleet.Options{Engine: engines[1], Caches: &caches{}, Logger: slog.New(slog.DiscardHandler)})
		appendTags := func(name string, n int) {
			for i := range n {
				data := writer.Encode(fleet.Purge{Selectors: store.Selectors{Tags: []string{fmt.Sprint(name, i)}}, Severity: store.Hard})
				if _, err := engines[1].Append(t.Context(), fleet.Place{}, data, 0); err != nil {
					t.Error(err)
				}
			}
		}
		appendTags("kept", 22*fleet.ReadLimit/10)
		back := server.PutBack()
		appendTags("lost", 22*fleet.ReadLimit/10)
		reads := 0
		server.SetFault(func(c fleettest.Call) (none fleettest.Fault) {
			switch {
			case c.Client > 0:
			case c.Method == "Beat": // it says what had been applied before
				return fleettest.Fault{Delay: time.Second}
			case c.Method == "Read":
				if reads++; reads == 4 { // two have been applied, and one is
					back()
					appendTags("new", 17*fleet.ReadLimit/10) // all of which this call brings
				}
			}
			return none
		})
		node := start(t, server, 1, func(_ int, o *fleet.Options) { o.Engine = engines[0] })[0]
		time.Sleep(fence)
		if !node.Pass() || node.caches.purged("lost0") == 0 || node.caches.purged("new0") == 0 {
			t.Errorf("pass %v, after %d reads: %+v", node.Pass(), reads, node.Stats())
		}
	})
}

// TestANodeThatHasJoinedSinceTheBackup is not listed any more, and has a pass. No record was lost.
func TestANodeThatHasJoinedSinceTheBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		node := start(t, server, 1, nil)[0]
		time.Sleep(2 * fence)
		back := server.PutBack()
		other := start(t, server, 1, func(_ int, o *fleet.Options) { o.Engine = server.Clients(2)[1] })[0]
		time.Sleep(2 * fence)
		cut(server, 1)
		back()
		if !other.Pass() {
			t.Fatal("it has no pass before the purge")
		}
		if purgeTag(t, node, "t"); other.Pass() {
			t.Error("a node that is cut off has a pass, and the purge has answered")
		}
	})
}

// TestAPurgeIsRemoved from the log before it is read, or in the middle of what a node has missed:
// what it has is validated.
func TestAPurgeIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		nodes := start(t, server, 2, nil)
		time.Sleep(2 * fence)
		cut(server, 1)
		var at []fleet.Generation
		for i := range 3 {
			purgeTag(t, nodes[0], fmt.Sprint(i))
			at = append(at, nodes[0].Stats().Applied)
		}
		stamp, _ := nodes[0].Begin()
		server.Remove(at[1])
		server.SetFault(func(fleettest.Call) fleettest.Fault { return fleettest.Fault{} })
		time.Sleep(3 * time.Second)
		late := nodes[1]
		if !late.Pass() || late.caches.suspects != 2 || late.caches.purged("0") != 1 || late.caches.purged("2") != 1 {
			t.Errorf("it comes back with %+v, pass %v", late.caches, late.Pass())
		}
		stamp.Generation = at[1] - 1
		if _, ours := late.Judge(stamp, "http://a/", []string{"1"}); ours {
			t.Error("it uses what was shared before the purge that it has not seen")
		}
	})
}

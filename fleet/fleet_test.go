package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/store"
)

const fence = 10 * time.Second

// caches note what they are told.
type caches struct {
	mu       sync.Mutex
	purges   []fleet.Purge
	suspects int
	position fleet.Stamp
	waited   int
	block    chan chan struct{} // Apply sends what it waits for, nil: not
	ignored  string             // a query that what is stored here has not
}

func (c *caches) Complete(s store.Selectors) store.Selectors {
	for _, url := range s.URLs {
		if path, _, some := strings.Cut(url, c.ignored); some && c.ignored != "" {
			s.URLs = append(s.URLs, path)
		}
	}
	return s
}

func (c *caches) Apply(p fleet.Purge) func(context.Context) (int, error) {
	c.mu.Lock()
	block := c.block
	c.mu.Unlock()
	if block != nil {
		end := make(chan struct{})
		block <- end
		<-end
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.purges = append(c.purges, p)
	return func(context.Context) (int, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waited++
		return len(p.Selectors.Tags), nil
	}
}

func (c *caches) Suspect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suspects++
}

func (c *caches) Position() (string, fleet.Generation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.position.Epoch, c.position.Generation
}

func (c *caches) SetPosition(epoch string, applied fleet.Generation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.position = fleet.Stamp{Epoch: epoch, Generation: applied}
}

// purged tells how often a tag was purged.
func (c *caches) purged(tag string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.purges {
		if slices.Contains(p.Selectors.Tags, tag) {
			n++
		}
	}
	return n
}

// machine is a node with its caches.
type machine struct {
	*fleet.Fleet
	caches *caches
	engine *fleettest.Engine
}

// start starts nodes named a, b, … on a server.
func start(t *testing.T, server *fleettest.Server, n int, set func(i int, o *fleet.Options)) []machine {
	t.Helper()
	begun := time.Now()
	machines := make([]machine, n)
	for i, engine := range server.Clients(n) {
		o := fleet.Options{Engine: engine, Caches: &caches{}, Fence: fence, Name: string(rune('a' + i)), Logger: slog.New(slog.DiscardHandler)}
		if set != nil {
			set(i, &o)
		}
		m := machine{fleet.New(o), o.Caches.(*caches), engine}
		m.SetClock(func() time.Duration { return time.Since(begun) + time.Hour })
		m.Start()
		t.Cleanup(func() { _ = m.Close(t.Context()) })
		machines[i] = m
	}
	return machines
}

func purgeTag(t *testing.T, m machine, tag string) fleet.Purged {
	t.Helper()
	purged, err := m.Purge(t.Context(), fleet.Purge{Selectors: store.Selectors{Tags: []string{tag}}})
	if err != nil {
		t.Fatal(err)
	}
	return purged
}

// TestAPurgeHoldsOnEveryNode when it answers, and quickly.
func TestAPurgeHoldsOnEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		server.SetFault(func(fleettest.Call) fleettest.Fault {
			return fleettest.Fault{Delay: time.Millisecond, ReplyDelay: time.Millisecond}
		})
		nodes := start(t, server, 5, nil)
		time.Sleep(2 * fence)
		synctest.Wait()
		for i, m := range nodes {
			if s := m.Stats(); !m.Pass() || s.State != "held" || s.Nodes != 5 || s.PassMS <= 0 || s.Lag != 0 {
				t.Errorf("node %d is %+v, pass %v", i, s, m.Pass())
			}
		}
		begun := time.Now()
		purged := purgeTag(t, nodes[0], "t")
		if took := time.Since(begun); took > 50*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if purged.Nodes != 5 || purged.Matched != 1 || len(purged.Fenced)+len(purged.Uncertain) > 0 {
			t.Errorf("purged %+v", purged)
		}
		for i, m := range nodes {
			if m.caches.purged("t") != 1 {
				t.Errorf("node %d has purged it %d times", i, m.caches.purged("t"))
			}
		}
	})
}

// TestManyPurgesAskTogether: a thousand at once ask the server for the nodes a few times.
func TestManyPurgesAskTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		var asked atomic.Int64
		server.SetFault(func(c fleettest.Call) fleettest.Fault {
			if c.Method == "Nodes" {
				asked.Add(1)
			}
			return fleettest.Fault{Delay: time.Millisecond}
		})
		nodes := start(t, server, 3, nil)
		time.Sleep(2 * fence)
		asked.Store(0)
		var group sync.WaitGroup
		for i := range 1000 {
			group.Go(func() {
				if purged := purgeTag(t, nodes[i%2], fmt.Sprint(i)); purged.Nodes != 3 || purged.Matched != 1 {
					t.Errorf("purge %d: %+v", i, purged)
				}
			})
		}
		group.Wait()
		if asked.Load() > 20 {
			t.Errorf("the nodes were asked for %d times", asked.Load())
		}
	})
}

// TestAGoneNodeIsWaitedForOnce until its pass is over.
func TestAGoneNodeIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		nodes := start(t, server, 3, nil)
		time.Sleep(2 * fence)
		cut(server, 2)
		for i, want := range []struct {
			nodes       int
			fenced      []string
			least, most time.Duration
		}{
			{2, []string{"c"}, fence / 2, fence*21/20 + 100*time.Millisecond},
			{2, nil, 0, 50 * time.Millisecond},
		} {
			begun := time.Now()
			purged := purgeTag(t, nodes[0], fmt.Sprint("t", i))
			took := time.Since(begun)
			if purged.Nodes != want.nodes || !slices.Equal(purged.Fenced, want.fenced) || took < want.least || took > want.most {
				t.Errorf("purge %d: %+v after %v, want %+v", i, purged, took, want)
			}
			if nodes[2].Pass() {
				t.Errorf("purge %d: the node that is gone has a pass", i)
			}
		}
		if s := nodes[2].Stats(); s.Condition != fleet.Unreachable || s.Lag < fence {
			t.Errorf("it is %+v", s)
		}
		server.SetFault(func(fleettest.Call) fleettest.Fault { return fleettest.Fault{} })
		time.Sleep(2 * time.Second)
		if !nodes[2].Pass() || nodes[2].caches.purged("t0") != 1 || nodes[2].caches.purged("t1") != 1 || nodes[2].caches.suspects != 1 {
			t.Errorf("it comes back with %+v", nodes[2].caches)
		}
	})
}

// TestAPurgeWaitsForALongerFence than that of its own node, as while `fence` is changed on one node
// after the other.
func TestAPurgeWaitsForALongerFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		nodes := start(t, server, 2, func(i int, o *fleet.Options) { o.Fence = []time.Duration{fence, 8 * fence}[i] })
		time.Sleep(16 * fence)
		cut(server, 1)
		if !nodes[1].Pass() {
			t.Fatal("it has no pass before it is cut off")
		}
		if purged := purgeTag(t, nodes[0], "t"); !slices.Equal(purged.Fenced, []string{"b"}) {
			t.Errorf("%+v, want b fenced", purged)
		}
		if nodes[1].Pass() {
			t.Error("the node that is cut off has a pass, and the purge has answered")
		}
	})
}

// TestAShortFenceUnderLoad: with the shortest fence there is, calls that take 400 ms are in time.
func TestAShortFenceUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		nodes := start(t, server, 2, func(_ int, o *fleet.Options) { o.Fence = time.Second })
		time.Sleep(2 * time.Second)
		server.SetFault(func(fleettest.Call) fleettest.Fault {
			return fleettest.Fault{Delay: 200 * time.Millisecond, ReplyDelay: 200 * time.Millisecond}
		})
		for i := range 5 {
			if purged := purgeTag(t, nodes[0], fmt.Sprint(i)); purged.Matched != 1 || nodes[0].caches.purged(fmt.Sprint(i)) != 1 {
				t.Errorf("purge %d: %+v", i, purged)
			}
		}
	})
}

// TestThePassIsToldToItsEnd: one of less than a millisecond was told as one that is over.
func TestThePassIsToldToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		n := start(t, server, 1, nil)[0]
		time.Sleep(2 * fence)
		cut(server, 0)
		for n.Pass() {
			if n.Stats().PassMS <= 0 {
				t.Fatal("the pass holds, and none of it is left")
			}
			time.Sleep(300 * time.Microsecond)
		}
		if left := n.Stats().PassMS; left != 0 {
			t.Errorf("%d ms are left of a pass that is over", left)
		}
	})
}

// cut has the server lose all calls of a client.
func cut(server *fleettest.Server, client int) {
	server.SetFault(func(c fleettest.Call) fleettest.Fault {
		if c.Client == client {
			return fleettest.Fault{Err: fleettest.ErrLost}
		}
		return fleettest.Fault{}
	})
}

// TestANodeThatServesIsUncertain, until that is over too.
func TestANodeThatServesIsUncertain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		nodes := start(t, server, 2, func(_ int, o *fleet.Options) { o.Serve = 3 * fence })
		time.Sleep(2 * fence)
		cut(server, 1)
		for i := range 3 {
			if purged := purgeTag(t, nodes[0], fmt.Sprint(i)); !slices.Equal(purged.Uncertain, []string{"b"}) || len(purged.Fenced) > 0 || !nodes[1].Pass() {
				t.Errorf("purged %+v, and it serves: %v", purged, nodes[1].Pass())
			}
		}
		time.Sleep(4 * fence)
		if purged := purgeTag(t, nodes[0], "t"); !slices.Equal(purged.Fenced, []string{"b"}) || nodes[1].Pass() {
			t.Errorf("purged %+v, and it serves: %v", purged, nodes[1].Pass())
		}
	})
}

// TestAPurgeWithoutTheServer holds here and is an error.
func TestAPurgeWithoutTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		nodes := start(t, server, 2, nil)
		time.Sleep(2 * fence)
		stamp, ok := nodes[0].Begin()
		if _, ours := nodes[0].Judge(stamp, "http://a/", nil); !ok || !ours {
			t.Fatalf("%+v is not ours: %v", stamp, ok)
		}
		cut(server, 0)
		purged, err := nodes[0].Purge(t.Context(), fleet.Purge{Selectors: store.Selectors{Tags: []string{"t"}}})
		if !errors.Is(err, fleet.ErrNotEverywhere) || !errors.Is(err, fleettest.ErrLost) || purged.Matched != 1 || nodes[0].caches.purged("t") != 1 {
			t.Errorf("purged %+v, %v", purged, err)
		}
		if severity, ours := nodes[0].Judge(stamp, "http://a/", []string{"t"}); ours && severity != store.Hard {
			t.Errorf("what is shared is %v", severity)
		}
		if _, err = nodes[0].Purge(t.Context(), fleet.Purge{}); !errors.Is(err, store.ErrNoSelector) {
			t.Errorf("without selectors: %v", err)
		}
	})
}

// TestLostReplies: what was appended without a reply is appended again.
func TestLostReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		nodes := start(t, server, 2, nil)
		time.Sleep(2 * fence)
		lost := false
		server.SetFault(func(c fleettest.Call) (fault fleettest.Fault) {
			if c.Method == "Append" && !lost {
				lost, fault.ReplyErr = true, fleettest.ErrLost
			}
			return fault
		})
		if purged := purgeTag(t, nodes[0], "t"); purged.Nodes != 2 || purged.Matched != 2 || nodes[1].caches.purged("t") == 0 {
			t.Errorf("purged %+v", purged)
		}
	})
}

// TestLosses of the server cost no purge and no promise.
func TestLosses(t *testing.T) {
	for _, lose := range []struct {
		name string
		do   func(*fleettest.Server)
	}{
		{"all", (*fleettest.Server).Flush},
		{"nothing", (*fleettest.Server).Restart},
		{"nodes", (*fleettest.Server).LoseNodes},
		{"log", (*fleettest.Server).LoseLog},
	} {
		t.Run(lose.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := fleettest.NewServer()
				nodes := start(t, server, 3, nil)
				time.Sleep(2 * fence)
				purgeTag(t, nodes[0], "before")
				old, _ := nodes[0].Begin()
				lose.do(server)
				begun := time.Now()
				purged := purgeTag(t, nodes[0], "after")
				if took := time.Since(begun); took < fence || took > 2*fence || purged.Nodes < 1 {
					t.Errorf("purged %+v after %v", purged, took)
				}
				for i, m := range nodes {
					if !m.Pass() || m.caches.purged("after") == 0 || m.caches.suspects != 1 {
						t.Errorf("node %d: pass %v, %+v", i, m.Pass(), m.caches)
					}
					if _, ours := m.Judge(old, "http://a/", nil); ours {
						t.Errorf("node %d takes what is shared of before", i)
					}
				}
			})
		})
	}
}

// TestALateNodeIsSuspect where the log has been trimmed past it.
func TestALateNodeIsSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		server.SetHistory(10)
		nodes := start(t, server, 2, nil)
		time.Sleep(2 * fence)
		cut(server, 1)
		for i := range 40 {
			purgeTag(t, nodes[0], fmt.Sprint(i))
		}
		if c := nodes[1].Stats().Condition; c != fleet.Unreachable {
			t.Errorf("it is %v", c)
		}
		server.SetFault(func(fleettest.Call) fleettest.Fault { return fleettest.Fault{} })
		time.Sleep(2 * time.Second)
		if !nodes[1].Pass() || nodes[1].caches.suspects != 2 || nodes[1].caches.purged("39") != 1 {
			t.Errorf("it comes back with %+v", nodes[1].caches)
		}
	})
}

// TestARestartGoesOn where the caches are, and purges before that are not applied again.
func TestARestartGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		nodes := start(t, server, 2, nil)
		time.Sleep(2 * fence)
		purgeTag(t, nodes[0], "before")
		stamp, _ := nodes[0].Begin()
		if err := nodes[1].Close(t.Context()); err != nil || nodes[1].Pass() {
			t.Fatal(err)
		}
		begun := time.Now()
		if purged := purgeTag(t, nodes[0], "meanwhile"); purged.Nodes != 1 || time.Since(begun) > time.Second {
			t.Errorf("with a node that has left: %+v after %v", purged, time.Since(begun))
		}
		restarted := start(t, server, 1, func(_ int, o *fleet.Options) {
			o.Caches = &caches{position: nodes[1].caches.position}
		})[0]
		time.Sleep(time.Second)
		c := restarted.caches
		if !restarted.Pass() || c.suspects != 0 || c.purged("before") != 0 || c.purged("meanwhile") != 1 {
			t.Errorf("restarted with %+v", c)
		}
		for tag, want := range map[string]store.Severity{"before": store.NotPurged, "meanwhile": store.Hard} {
			if severity, ours := restarted.Judge(stamp, "http://a/", []string{tag}); severity != want || !ours {
				t.Errorf("what is shared by %q is %v, %v", tag, severity, ours)
			}
		}
	})
}

// TestAnAckWaitsForTheCaches, until the purge is in force there, and not until it is counted.
func TestAnAckWaitsForTheCaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		nodes := start(t, server, 2, nil)
		time.Sleep(2 * fence)
		block := make(chan chan struct{})
		nodes[1].caches.mu.Lock()
		nodes[1].caches.block = block
		nodes[1].caches.mu.Unlock()
		done := make(chan fleet.Purged)
		go func() { done <- purgeTag(t, nodes[0], "t") }()
		end := <-block
		listed, state, err := nodes[0].engine.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range listed {
			if n.ID == nodes[1].ID() && n.Applied >= state.Tail {
				t.Errorf("%+v says that it has applied what is not in force", n)
			}
		}
		close(end)
		if purged := <-done; purged.Nodes != 2 || nodes[1].caches.waited != 0 {
			t.Errorf("purged %+v, waited for %d", purged, nodes[1].caches.waited)
		}
	})
}

// TestInvalidationsTravel in few records.
func TestInvalidationsTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		nodes := start(t, server, 2, nil)
		time.Sleep(2 * fence)
		tail := nodes[0].Stats().Tail
		for range 100 {
			nodes[0].Invalidate(fleet.Invalidation{Purge: fleet.Purge{Selectors: store.Selectors{URLs: []string{"http://a/"}, Tags: []string{"t"}}}})
		}
		time.Sleep(time.Second)
		if nodes[1].caches.purged("t") != 1 || nodes[1].Stats().Tail != tail+1 || nodes[1].caches.purges[0].Severity != store.Invalid {
			t.Errorf("%d records, %+v", nodes[1].Stats().Tail-tail, nodes[1].caches.purges)
		}
	})
}

// TestForeignRecordsPurgeEverything, and so do those without the secret.
func TestForeignRecordsPurgeEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		nodes := start(t, server, 1, func(_ int, o *fleet.Options) { o.Secret = []byte("secret") })
		time.Sleep(2 * fence)
		stamp, _ := nodes[0].Begin()
		stranger := start(t, server, 1, nil)[0]
		purgeTag(t, stranger, "t")
		c := nodes[0].caches
		if n := len(c.purges); n != 1 || !c.purges[0].Selectors.All || c.purges[0].Severity != store.Hard {
			t.Errorf("purges %+v", c.purges)
		}
		if _, ours := nodes[0].Judge(stamp, "http://a/", nil); ours {
			t.Error("what is shared is used")
		}
	})
}

// TestReplicas: a purge that too few have is an error.
func TestReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		nodes := start(t, server, 1, func(_ int, o *fleet.Options) { o.Replicas = 2 })
		time.Sleep(2 * fence)
		_, err := nodes[0].Purge(t.Context(), fleet.Purge{Selectors: store.Selectors{All: true}})
		if !errors.Is(err, fleet.ErrNotEverywhere) {
			t.Errorf("without replicas: %v", err)
		}
		server.SetReplicas(2)
		purgeTag(t, nodes[0], "t")
	})
}

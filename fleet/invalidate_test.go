package fleet_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/store"
)

func invalidateTags(m machine, tags ...string) {
	m.Invalidate(fleet.Invalidation{Purge: fleet.Purge{Selectors: store.Selectors{Tags: tags}, Severity: store.Hard}})
}

// judged is what a node makes of a response with a tag.
func judged(t *testing.T, m machine, stamp fleet.Stamp, tag string) store.Severity {
	t.Helper()
	severity, ours := m.Judge(stamp, "http://a/", []string{tag})
	if !ours {
		t.Errorf("what began at %+v is not the node's", stamp)
	}
	return severity
}

// failAppends has a server append nothing, of whomever.
func failAppends(server *fleettest.Server, err error) {
	server.SetFault(func(c fleettest.Call) fleettest.Fault {
		if c.Method == "Append" {
			return fleettest.Fault{Err: err}
		}
		return fleettest.Fault{}
	})
}

func noFault(server *fleettest.Server) {
	server.SetFault(func(fleettest.Call) fleettest.Fault { return fleettest.Fault{} })
}

// TestAnInvalidationHoldsHereAtOnce: what is shared is not used any more by the node that was
// asked, and what it fetches later is, when the log has the invalidation.
func TestAnInvalidationHoldsHereAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, fleettest.NewServer(), 2, nil)
		time.Sleep(2 * fence)
		before, _ := nodes[1].Begin()
		invalidateTags(nodes[0], "t")
		if got := judged(t, nodes[0], before, "t"); got != store.Hard {
			t.Errorf("right after it: %v", got)
		}
		if got := judged(t, nodes[0], before, "u"); got != store.NotPurged {
			t.Errorf("another tag: %v", got)
		}
		time.Sleep(time.Second)
		after, _ := nodes[1].Begin()
		for i, m := range nodes {
			if old, fresh := judged(t, m, before, "t"), judged(t, m, after, "t"); old != store.Hard || fresh != store.NotPurged {
				t.Errorf("node %d: of before %v, of after %v", i, old, fresh)
			}
		}
	})
}

// TestInvalidationsAreKept while the server takes none, for however long.
func TestInvalidationsAreKept(t *testing.T) {
	for _, failure := range []error{fleet.ErrReadOnly, fleet.ErrRefused, fleettest.ErrLost} {
		for _, away := range []time.Duration{500 * time.Millisecond, 10 * fence} {
			synctest.Test(t, func(t *testing.T) {
				server := fleettest.NewServer()
				nodes := start(t, server, 2, nil)
				time.Sleep(2 * fence)
				before, _ := nodes[1].Begin()
				failAppends(server, failure)
				invalidateTags(nodes[0], "t", "u")
				time.Sleep(away)
				invalidateTags(nodes[0], "t", "v")
				if s := nodes[0].Stats(); s.InvalidationsWaiting != 3 || s.InvalidationsWidened != 0 {
					t.Errorf("%v: %d wait, %d are widened", failure, s.InvalidationsWaiting, s.InvalidationsWidened)
				}
				noFault(server)
				time.Sleep(2 * time.Second)
				for _, tag := range []string{"t", "u", "v"} {
					if n, got := nodes[1].caches.purged(tag), judged(t, nodes[1], before, tag); n != 1 || got != store.Hard {
						t.Errorf("%v for %v: %s is purged %d times on the other node, %v", failure, away, tag, n, got)
					}
				}
				if s := nodes[0].Stats(); s.InvalidationsWaiting != 0 {
					t.Errorf("%d wait for ever", s.InvalidationsWaiting)
				}
			})
		}
	}
}

// TestInvalidationsOutliveALog: what waits holds on its node over what is fetched in a new epoch,
// and comes to that.
func TestInvalidationsOutliveALog(t *testing.T) {
	for name, lose := range map[string]func(*fleettest.Server){
		"epoch": (*fleettest.Server).Flush, "term": (*fleettest.Server).Restart,
	} {
		synctest.Test(t, func(t *testing.T) {
			server := fleettest.NewServer()
			nodes := start(t, server, 2, nil)
			time.Sleep(2 * fence)
			failAppends(server, fleet.ErrReadOnly)
			invalidateTags(nodes[0], "t")
			lose(server)
			time.Sleep(2 * fence)
			stamp, _ := nodes[1].Begin()
			if got := judged(t, nodes[0], stamp, "t"); got != store.Hard {
				t.Errorf("%s: %v while it waits", name, got)
			}
			noFault(server)
			time.Sleep(2 * time.Second)
			if got := judged(t, nodes[1], stamp, "t"); got != store.Hard {
				t.Errorf("%s: %v on the other node", name, got)
			}
		})
	}
}

// TestTooManyInvalidations become one of everything, and what waits is bounded.
func TestTooManyInvalidations(t *testing.T) {
	for name, text := range map[string]string{"count": "", "bytes": strings.Repeat("x", 1000), "hosts": ""} {
		synctest.Test(t, func(t *testing.T) {
			server := fleettest.NewServer()
			nodes := start(t, server, 2, nil)
			time.Sleep(2 * fence)
			before, _ := nodes[1].Begin()
			failAppends(server, fleettest.ErrLost)
			for i := range 30_000 {
				if name == "hosts" {
					invalidateURL(nodes[0], fmt.Sprintf("http://%d.example/", i))
				}
				invalidateTags(nodes[0], fmt.Sprint(text, i))
				if i%5000 == 0 {
					time.Sleep(time.Second)
				}
			}
			if s := nodes[0].Stats(); s.InvalidationsWidened < 15_000 || s.Masks > 20_000 || s.MaskBytes > 4<<20 || s.InvalidationsWaiting > 20_000 {
				t.Errorf("%s: %+v", name, s)
			}
			if got := judged(t, nodes[0], before, fmt.Sprint(text, 29_999)); got < store.Invalid {
				t.Errorf("%s: the last one is %v here", name, got)
			}
			noFault(server)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			everything := func(p fleet.Purge) bool { return p.Selectors.All && p.Severity == store.Invalid }
			if !slices.ContainsFunc(nodes[1].caches.purges, everything) {
				t.Errorf("%s: the other node has %d purges, none of everything", name, len(nodes[1].caches.purges))
			}
			if got := judged(t, nodes[1], before, "other"); got != store.Invalid {
				t.Errorf("%s: %v", name, got)
			}
		})
	}
}

// invalidateURL is an unsafe request for a URL of a site: at its listener and elsewhere, with the
// tags of its path.
func invalidateURL(m machine, url string) {
	urls := []string{store.URLAt(url, "one:80"), store.URLElsewhere(url, store.ServersOf([]string{"one"}))}
	m.Invalidate(fleet.Invalidation{
		Purge:  fleet.Purge{Selectors: store.Selectors{URLs: urls}, Severity: store.Hard},
		OfURLs: []string{"path of " + urls[0], store.TagElsewhere("path of "+url, store.ServersOf([]string{"one"}))},
	})
}

// TestTooManyInvalidationsOfAHost cost the pages of that host their freshness, and those of no
// other: 64 POSTs to long URLs of one site had every page of every site validated.
func TestTooManyInvalidationsOfAHost(t *testing.T) {
	for name, tt := range map[string]struct{ length, count int }{
		"long URLs": {16 << 10, 200}, "many URLs": {20, 30_000}, "a longer one than there is room for": {1 << 20, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			server := fleettest.NewServer()
			nodes := start(t, server, 2, nil)
			time.Sleep(2 * fence)
			before, _ := nodes[1].Begin()
			failAppends(server, fleet.ErrReadOnly)
			invalidateTags(nodes[0], "t")
			invalidateURL(nodes[0], "http://shop.example/1")
			for i := range tt.count {
				invalidateURL(nodes[0], fmt.Sprint("http://flooded.example/", strings.Repeat("x", tt.length), i))
				time.Sleep(time.Millisecond)
			}
			if s := nodes[0].Stats(); s.InvalidationsWidened < uint64(tt.count) || s.InvalidationsWaiting > 10_000 {
				t.Errorf("%s: %+v", name, s)
			}
			check := func(m machine) {
				t.Helper()
				for url, want := range map[string]store.Severity{
					"http://shop.example/2": store.NotPurged, "http://shop.example/1": store.Hard,
					"http://flooded.example:8080/": store.NotPurged, "https://flooded.example/": store.Invalid,
				} {
					severity, ours := m.Judge(before, store.URLAt(url, "one:80"), []string{"other"})
					if severity != want || !ours {
						t.Errorf("%s: %s is %v, want %v; ours: %v", name, url, severity, want, ours)
					}
				}
				if got := judged(t, m, before, "t"); got != store.Hard {
					t.Errorf("%s: the tag that was named is %v", name, got)
				}
			}
			check(nodes[0])
			noFault(server)
			time.Sleep(10 * time.Second)
			check(nodes[1])
			for _, p := range nodes[1].caches.purges {
				if p.Selectors.All {
					t.Errorf("%s: the other node has purged everything", name)
				}
			}
			// It is over with the flood.
			stamp, _ := nodes[0].Begin()
			invalidateURL(nodes[0], "http://flooded.example/later")
			time.Sleep(time.Second)
			if severity, _ := nodes[1].Judge(stamp, "http://flooded.example/other", nil); severity != store.NotPurged {
				t.Errorf("%s: later on another page of the host is %v", name, severity)
			}
		})
	}
}

// TestTooManyInvalidationsOfTwoHosts in one request: a tag of its URLs may be of either.
func TestTooManyInvalidationsOfTwoHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		node := start(t, server, 1, nil)[0]
		time.Sleep(2 * fence)
		before, _ := node.Begin()
		failAppends(server, fleet.ErrReadOnly)
		for i := range 6000 {
			node.Invalidate(fleet.Invalidation{
				Purge: fleet.Purge{Severity: store.Soft, Selectors: store.Selectors{
					URLs: []string{fmt.Sprintf("http://a/%d", i), fmt.Sprintf("http://b/%d", i)},
				}},
				OfURLs: []string{fmt.Sprint("of either ", i)},
			})
		}
		for url, want := range map[string]store.Severity{"http://a/": store.Invalid, "http://b/": store.Invalid, "http://c/": store.NotPurged} {
			if got, ours := node.Judge(before, url, nil); got != want || !ours {
				t.Errorf("%s is %v, want %v", url, got, want)
			}
		}
	})
}

// TestManyInvalidationsAreNotWidened where the server takes them: 80 POSTs to long URLs within a
// sixth of a second had every node validate all that it had stored.
func TestManyInvalidationsAreNotWidened(t *testing.T) {
	for name, tt := range map[string]struct {
		length, count int
		every         time.Duration
	}{
		"long":  {15 << 10, 1000, time.Millisecond},
		"short": {20, 100_000, 20 * time.Microsecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			nodes := start(t, fleettest.NewServer(), 2, nil)
			time.Sleep(2 * fence)
			before, _ := nodes[1].Begin()
			for i := range tt.count {
				invalidateTags(nodes[0], fmt.Sprintf("%0*d", tt.length, i))
				time.Sleep(tt.every)
			}
			time.Sleep(time.Second)
			if n := nodes[0].Stats().InvalidationsWidened; n != 0 {
				t.Errorf("%s: %d were widened", name, n)
			}
			if got := judged(t, nodes[1], before, "other"); got != store.NotPurged {
				t.Errorf("%s: what was not named is %v at the other node", name, got)
			}
			if got := judged(t, nodes[1], before, fmt.Sprintf("%0*d", tt.length, tt.count-1)); got != store.Hard {
				t.Errorf("%s: the last is %v at the other node", name, got)
			}
		})
	}
}

// TestInvalidationsWithoutAGap leave the log its history.
func TestInvalidationsWithoutAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, fleettest.NewServer(), 2, nil)
		time.Sleep(2 * fence)
		tail := nodes[0].Stats().Tail
		for i := range 10_000 {
			invalidateTags(nodes[0], fmt.Sprint(i%10))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		if n := nodes[1].Stats().Tail - tail; n < 15 || n > 30 {
			t.Errorf("%d records for 10 s", n)
		}
	})
}

// TestTheSeverestInvalidationCounts of those that wait.
func TestTheSeverestInvalidationCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, fleettest.NewServer(), 2, nil)
		time.Sleep(2 * fence)
		before, _ := nodes[1].Begin()
		for _, severity := range []store.Severity{store.Soft, store.Hard, store.Invalid} {
			nodes[0].Invalidate(fleet.Invalidation{Purge: fleet.Purge{Selectors: store.Selectors{Tags: []string{"t"}}, Severity: severity}})
		}
		time.Sleep(time.Second)
		if n, got := nodes[1].caches.purged("t"), judged(t, nodes[1], before, "t"); n != 1 || got != store.Hard {
			t.Errorf("purged %d times, %v", n, got)
		}
	})
}

// TestANodeThatLeavesTellsWhatWaits.
func TestANodeThatLeavesTellsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fleettest.NewServer()
		nodes := start(t, server, 2, nil)
		time.Sleep(2 * fence)
		failAppends(server, fleet.ErrReadOnly)
		invalidateTags(nodes[0], "t")
		time.Sleep(time.Minute)
		noFault(server)
		if err := nodes[0].Close(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if nodes[1].caches.purged("t") != 1 {
			t.Error("the other node has not heard of it")
		}
	})
}

package batch

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func windowRule(t *testing.T, window time.Duration, most int) *Rule {
	t.Helper()
	r, err := New(Config{Path: "/p/{id}", URL: "/p?ids={ids}", Window: window, Max: most})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// gathering collects the groups that come together.
type gathering struct {
	windows Windows[string, string]
	wait    sync.WaitGroup
	mu      sync.Mutex
	groups  [][]string
	ended   []time.Duration // since begun
	begun   time.Time
}

func (g *gathering) join(key string, r *Rule, id string) {
	group, leads := g.windows.Join(key, r, id, id)
	if !leads {
		return
	}
	g.wait.Go(func() {
		members := group.Gather()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.groups, g.ended = append(g.groups, slices.Clone(members)), append(g.ended, time.Since(g.begun))
	})
}

func TestWindowEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r := gathering{begun: time.Now()}, windowRule(t, 5*time.Millisecond, 100)
		g.join("a", r, "1")
		time.Sleep(3 * time.Millisecond)
		g.join("a", r, "2")
		g.join("b", r, "3")
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		g.join("a", r, "4") // the window of the first is over
		g.wait.Wait()
		if len(g.groups) != 3 || !slices.Equal(g.groups[0], []string{"1", "2"}) {
			t.Errorf("groups %q", g.groups)
		}
		if want := []time.Duration{5 * time.Millisecond, 8 * time.Millisecond, 10 * time.Millisecond}; !slices.Equal(g.ended, want) {
			t.Errorf("they ended after %v, want %v", g.ended, want)
		}
		if len(g.windows.open) != 0 {
			t.Error("a group is left open")
		}
	})
}

// TestWindowFull: a group that is full does not wait, and the next has room.
func TestWindowFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r := gathering{begun: time.Now()}, windowRule(t, time.Second, 3)
		for n := range 7 {
			g.join("a", r, strconv.Itoa(n))
			g.join("a", r, strconv.Itoa(n)) // the same id once more takes no room
		}
		g.wait.Wait()
		slices.SortFunc(g.groups, slices.Compare)
		want := [][]string{{"0", "0", "1", "1", "2"}, {"2", "3", "3", "4"}, {"4", "5", "5", "6"}, {"6"}}
		if !slices.EqualFunc(g.groups, want, slices.Equal[[]string]) {
			t.Errorf("groups %q, want %q", g.groups, want)
		}
		slices.Sort(g.ended)
		if want := []time.Duration{0, 0, 0, time.Second}; !slices.Equal(g.ended, want) {
			t.Errorf("they ended after %v, want %v", g.ended, want)
		}
	})
}

// TestWindowKeepsURLsShort: long ids do not make a URL that servers refuse.
func TestWindowKeepsURLsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r := gathering{begun: time.Now()}, windowRule(t, time.Second, 1000)
		for n := range 100 {
			g.join("a", r, strings.Repeat("é", 100)+strconv.Itoa(n)) // 600 bytes in the URL
		}
		g.wait.Wait()
		for _, group := range g.groups {
			if target := r.Target(group); len(target) > MaxTarget || len(group) < 2 {
				t.Errorf("%d ids make a URL of %d bytes", len(group), len(target))
			}
		}
	})
}

// TestWindowTakesTwo: two ids are put together however long they are.
func TestWindowTakesTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := New(Config{Path: "/p/{id}", URL: "/p?" + strings.Repeat("x", MaxTarget) + "={ids}"})
		if err != nil {
			t.Fatal(err)
		}
		g := gathering{begun: time.Now()}
		for _, id := range []string{"1", "2", "3"} {
			g.join("a", r, id)
		}
		g.wait.Wait()
		slices.SortFunc(g.groups, slices.Compare)
		if want := [][]string{{"1", "2"}, {"3"}}; !slices.EqualFunc(g.groups, want, slices.Equal[[]string]) {
			t.Errorf("groups %q, want %q", g.groups, want)
		}
	})
}

package store

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestWalkInSteps: a walk in steps meets what a walk at once does, of what stays meanwhile, and no
// step is longer than it may be.
func TestWalkInSteps(t *testing.T) {
	rng := seeded(t)
	sh, byURL := walkedShard(t, rng, 600)
	for name, sel := range walkedSelectors {
		t.Run(name, func(t *testing.T) {
			for _, most := range []int{2, 3, 7, stepItems, 1 << 20} {
				var want, got []uint64
				for url, id := range byURL {
					if sel.match(url, []string{tagOfWalked(url)}) {
						want = append(want, id)
					}
				}
				steps, w := 0, itemWalk{spans: spansOf(&sel)}
				for more := true; more; steps++ {
					met := 0
					more = sh.step(&w, most, func(sp *span, it *item, _ tagRow) bool {
						if met++; sp.means(sh.m.record(it)) {
							got = append(got, it.id)
						}
						return true
					})
					if met > most {
						t.Fatalf("a step of %d meets %d", most, met)
					}
				}
				slices.Sort(want)
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("in %d steps of %d: met %d, want %d", steps, most, len(got), len(want))
				}
			}
		})
	}
}

// walkedSelectors select what walkedShard has.
var walkedSelectors = map[string]Selectors{
	"all":          {All: true},
	"none":         {Tags: []string{"none"}},
	"a tag":        {Tags: []string{"t1"}},
	"tags":         {Tags: []string{"t0", "t2"}},
	"a tag of one": {Tags: []string{tagOfWalked("http://b.test/7?q=7")}},
	"a tag elsewhere": {
		Tags: []string{TagElsewhere("t1", ServersOf([]string{"other"}))},
	},
	"a URL":         {URLs: []string{"http://a.test/6?q=6"}},
	"any query":     {URLs: []string{AnyQuery("http://a.test/6")}},
	"elsewhere":     {URLs: []string{URLElsewhere("http://a.test/6?q=6", ServersOf([]string{"other"}))}},
	"a prefix":      {Prefixes: []string{"http://a.test/1"}},
	"a host":        {Hosts: []string{"a.test"}},
	"various kinds": {Tags: []string{"t1"}, URLs: []string{"http://b.test/2?q=2"}, Hosts: []string{"none.test"}},
}

func tagOfWalked(url string) string {
	if bare := BareURL(url); bare[len("http://")] == 'b' {
		return "of " + bare
	}
	return fmt.Sprintf("t%d", int(url[len(BareURL(url))-1]-'0')%3)
}

// walkedShard is a shard with items of two hosts, in some order, and their ids.
func walkedShard(t *testing.T, rng *rand.Rand, n int) (*shard, map[string]uint64) {
	t.Helper()
	s := openStore(t, Config{}, Settings{Memory: 64 << 20})
	var one *shard
	byURL := make(map[string]uint64)
	for _, i := range rng.Perm(n) {
		url := fmt.Sprintf("http://%c.test/%d?q=%d", "ab"[i%2], i, i)
		if i%3 == 0 {
			url = URLAt(url, "server:80")
		}
		e := testEntry(s, url, nil, tagOfWalked(url))
		e.Key[0] &^= shardCount - 1 // all in one shard
		s.Put(e, 0)
		one, byURL[url] = s.memory.shard(e.Key), e.ID
	}
	return one, byURL
}

// TestWalkWhileItemsComeAndGo: what stays is met once, whatever is put and removed between the
// steps.
func TestWalkWhileItemsComeAndGo(t *testing.T) {
	rng := seeded(t)
	for name, sel := range map[string]Selectors{"all": {All: true}, "a tag": {Tags: []string{"t"}}} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, Config{}, Settings{Memory: 64 << 20})
			stays, comes := make(map[uint64]int), 0
			var going []*Entry
			put := func(url string) *Entry {
				e := testEntry(s, url, nil, "t")
				e.Key[0] &^= shardCount - 1
				s.Put(e, 0)
				return e
			}
			for i := range 500 {
				e := put(fmt.Sprint("http://example.com/", i))
				if i%2 == 0 {
					stays[e.ID] = 0
				} else {
					going = append(going, e)
				}
			}
			sh := s.memory.shards[0]
			for w, more := (itemWalk{spans: spansOf(&sel)}), true; more; {
				more = sh.step(&w, 5, func(_ *span, it *item, _ tagRow) bool {
					if _, ok := stays[it.id]; ok {
						stays[it.id]++
					}
					return true
				})
				for range 3 {
					if len(going) > 0 {
						at := rng.IntN(len(going))
						s.Remove(going[at])
						going = slices.Delete(going, at, at+1)
					}
				}
				for range 2 * rng.IntN(2) {
					comes++
					put(fmt.Sprintf("http://example.com/%d/%d", rng.IntN(500), comes))
				}
			}
			for id, n := range stays {
				if n != 1 {
					t.Errorf("%d was met %d times", id, n)
				}
			}
		})
	}
}

// TestPutWhileAPurgeCounts: what a purge masks is refused under the lock too, so that it does not
// count beside what it would replace.
func TestPutWhileAPurgeCounts(t *testing.T) {
	s := openStore(t, Config{}, Settings{Memory: 64 << 20})
	const url = "http://example.com/"
	fetch := s.Begin()
	defer fetch.End()
	e := testEntry(s, url, nil)
	e.Generation = fetch.Generation()
	sh := s.memory.shard(e.Key)
	result := make(chan PutResult)
	sh.mu.Lock()
	go func() { result <- s.Put(e, 0) }()
	waitFor(t, func() bool { return s.memory.used.Load() > 0 }) // it has passed all but the lock
	req, err := s.BeginPurge(Selectors{URLs: []string{url}}, PurgeOptions{})
	sh.mu.Unlock()
	if r := <-result; r != RefusedPurged || err != nil {
		t.Errorf("Put = %v, BeginPurge %v", r, err)
	}
	if n, err := req.Wait(); n != 0 || err != nil {
		t.Errorf("Wait = %d, %v", n, err)
	}
}

// BenchmarkHoldOfShards measures for how long a walk through 300,000 items of one tag, and through
// all of them, holds the lock of a shard at once: a hit waits so long.
func BenchmarkHoldOfShards(b *testing.B) {
	s := openStore(b, Config{}, Settings{Memory: 1 << 30})
	for i := range 300_000 {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), nil, "tag"), 0)
	}
	for name, sel := range map[string]Selectors{"a tag": {Tags: []string{"tag"}}, "all": {All: true}} {
		b.Run(name, func(b *testing.B) {
			var holds []time.Duration
			for b.Loop() {
				rec := &purgeRecord{gen: everything, severity: Hard, sel: sel}
				c := &counting{writer: s.diskWriter, rec: rec, now: nanos(s.now()), single: true}
				for _, sh := range s.memory.shards {
					for w, more := (itemWalk{spans: spansOf(&sel)}), true; more; {
						began := time.Now()
						more = sh.step(&w, stepItems, c.countItem)
						holds = append(holds, time.Since(began))
					}
				}
				if c.n != 300_000 {
					b.Fatalf("%d are counted", c.n)
				}
			}
			slices.SortFunc(holds, func(a, b time.Duration) int { return cmp.Compare(a, b) })
			b.ReportMetric(float64(holds[len(holds)/2].Microseconds()), "µs-median")
			b.ReportMetric(float64(holds[len(holds)*999/1000].Microseconds()), "µs-p99.9")
		})
	}
}

package coalesce

import (
	"testing"
	"time"
)

// TestTimeLeft: for how long a body is worth waiting for counts by what has come of it in time. A
// byte now and then made a flight as good as new for those who join.
func TestTimeLeft(t *testing.T) {
	const limit = 10 * time.Second
	steady := func(n, seconds int) (all []int) {
		for range seconds {
			all = append(all, n)
		}
		return all
	}
	for name, tc := range map[string]struct {
		length int64
		comes  []int // bytes, each after a second
		want   time.Duration
	}{
		"no byte":                         {-1, steady(0, 3), 7 * time.Second},
		"a byte each second":              {-1, steady(1, 10), 10 * time.Second / slowestPace},
		"a byte each second for long":     {1000, steady(1, 16), 16*time.Second/slowestPace - 6*time.Second},
		"one at the end":                  {-1, append(steady(0, 9), 1), time.Second / slowestPace},
		"half of the pace":                {-1, steady(slowestPace/2, 12), 4 * time.Second},
		"the pace":                        {-1, steady(slowestPace, 500), limit},
		"more than the pace, all at once": {-1, append(steady(0, 9), 9*slowestPace), 9 * time.Second},
		"much, and then little":           {-1, append([]int{99 * slowestPace}, steady(0, 4)...), 6 * time.Second},
		"a rest that comes in time":       {26, steady(1, 16), 16*time.Second/slowestPace + 4*time.Second},
		"a rest that does not":            {100, steady(1, 16), 16*time.Second/slowestPace - 6*time.Second},
		"a rest that should have come":    {25, append(steady(1, 20), steady(0, 6)...), 20*time.Second/slowestPace - 6*time.Second},
		"more than was announced":         {10, steady(1, 16), 16*time.Second/slowestPace - 6*time.Second},
		"all, and no end":                 {2, append(steady(1, 2), steady(0, 9)...), time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1<<30, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
				f, lead := join(t, g, true)
				f.Keep(true)
				f.Expect(tc.length)
				time.Sleep(9 * time.Second) // it begins at the header
				f.Share(nil, -1)
				for _, n := range tc.comes {
					time.Sleep(time.Second)
					if n > 0 {
						write(t, f, pattern(8, n))
					}
				}
				if got := f.TimeLeft(limit); got.Round(time.Millisecond) != tc.want.Round(time.Millisecond) {
					t.Errorf("%v are left, want %v", got, tc.want)
				}
				f.Finish(nil)
				if got := f.TimeLeft(limit); got != limit { // it is on its way into the store
					t.Errorf("%v are left at the end", got)
				}
				f.Settle()
				lead.Leave()
			})
		})
	}
}

// TestTimeLeftOfWhatReadersPace: a fetch that waits for a reader is not slow itself.
func TestTimeLeftOfWhatReadersPace(t *testing.T) {
	inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
		const limit = 2 * time.Minute
		f, all := windowing(t, g, 0, 0)
		fetch(f, pattern(9, 4*window))
		got := make(chan error, 1)
		go func() {
			_, err := sip(all[0].Reader(), 8*time.Second) // 16 KiB at a time
			got <- err
		}()
		least := limit
		for begun := time.Now(); !f.Ended(); time.Sleep(time.Second) {
			least = min(least, f.TimeLeft(limit))
			if time.Since(begun) > time.Hour {
				t.Fatal("the fetch does not end")
			}
		}
		if err := <-got; err != nil || least <= 0 {
			t.Errorf("%v, and %v are left at the least", err, least)
		}
		all[0].Leave()
		f.Settle()
	})
}

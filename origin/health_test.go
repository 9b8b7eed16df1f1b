package origin

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// fail has a request of the class fail.
func fail(t *testing.T, b *Budget, class Class, retryAfter time.Duration) {
	t.Helper()
	p := take(t, b, class)
	p.Failed(retryAfter)
	p.Done()
}

// The back-off doubles with each probe that fails, up to its maximum. The first success ends it.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{BackoffMin: time.Second, BackoffMax: 5 * time.Second}, nil)
		fail(t, b, ClassWaiting, 0)
		for _, backoff := range []time.Duration{1, 2, 4, 5, 5} {
			if b.Standing(time.Now(), 0) != Failing {
				t.Fatal("not failing")
			}
			expectRefusal(t, b, ClassStale, Failing)
			time.Sleep(backoff*time.Second - 1)
			if b.RefreshDue(time.Now(), 0, 0) {
				t.Fatalf("a probe is due before %v", backoff*time.Second)
			}
			expectRefusal(t, b, ClassRefresh, Refresh)
			time.Sleep(time.Nanosecond)
			if !b.RefreshDue(time.Now(), 0, 0) {
				t.Fatalf("no probe is due after %v", backoff*time.Second)
			}
			fail(t, b, ClassRefresh, 0)
		}
		p := take(t, b, ClassWaiting) // one that has nothing else asks all the same
		p.Succeeded()
		if b.Standing(time.Now(), 0) != Admitted || !b.RefreshDue(time.Now(), 0, 0) {
			t.Error("still failing after a success")
		}
		p.Done()
		fail(t, b, ClassStale, 0)
		time.Sleep(time.Second)
		if !b.RefreshDue(time.Now(), 0, 0) {
			t.Error("a new outage does not begin with the shortest back-off")
		}
	})
}

// Requests that fail together are one failure, and those that ask all the same delay no probe.
func TestFailuresTogetherAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{}, nil)
		var places [30]*Place
		for i := range places {
			places[i] = take(t, b, ClassWaiting)
		}
		for _, p := range places {
			time.Sleep(10 * time.Millisecond)
			p.Failed(0)
			p.Done()
		}
		time.Sleep(690 * time.Millisecond)
		fail(t, b, ClassWaiting, 0)
		time.Sleep(20 * time.Millisecond) // a second after the first failure
		if !b.RefreshDue(time.Now(), 0, 0) {
			t.Error("no probe a second after the first failure")
		}
	})
}

// One probe at a time, and one that ends without a result keeps the pace. One that hangs has its
// turn and no more: it may be the only page that is slow.
func TestOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{}, nil)
		fail(t, b, ClassWaiting, 0)
		time.Sleep(time.Second)
		probe := take(t, b, ClassRefresh)
		time.Sleep(probeTurn - 1)
		if b.RefreshDue(time.Now(), 0, 0) {
			t.Error("a second probe is due while the first has its turn")
		}
		expectRefusal(t, b, ClassRefresh, Refresh)
		time.Sleep(time.Nanosecond)
		hung := probe
		probe = take(t, b, ClassRefresh)
		hung.Failed(0) // it is no probe any more, and doubles nothing
		hung.Done()
		probe.Done()
		expectRefusal(t, b, ClassRefresh, Refresh)
		time.Sleep(time.Second)
		probe = take(t, b, ClassRefresh)
		other := take(t, b, ClassWaiting)
		other.Succeeded() // ends the outage, whatever the probe does
		other.Done()
		take(t, b, ClassRefresh).Done()
		probe.Done()
		if b.Standing(time.Now(), 0) != Admitted {
			t.Error("failing")
		}
	})
}

// A request that has hung since the outage says nothing about an origin that has recovered.
func TestOldFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{}, nil)
		hangs := take(t, b, ClassWaiting)
		fail(t, b, ClassWaiting, 0)
		time.Sleep(time.Minute)
		p := take(t, b, ClassRefresh)
		p.Succeeded()
		p.Failed(0) // the first report counts
		p.Done()
		hangs.Failed(0)
		hangs.Done()
		if b.Standing(time.Now(), 0) != Admitted {
			t.Error("failing")
		}
		time.Sleep(time.Second)
		fail(t, b, ClassStale, 0)
		if b.Standing(time.Now(), 0) != Failing {
			t.Error("not failing after a failure of now")
		}
	})
}

// A page that is broken by itself, asked for all the time, had every other page served stale: each
// of its failures began an outage, and those that came when a probe was due put it off.
func TestBrokenPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{}, nil)
		well := func() {
			p := take(t, b, ClassWaiting)
			p.Succeeded()
			p.Done()
		}
		well()
		for range 100 {
			fail(t, b, ClassWaiting, 0)
			if b.Standing(time.Now(), 0) != Admitted {
				t.Fatal("failing, while other pages are answered")
			}
			time.Sleep(500 * time.Millisecond)
			well()
		}
		time.Sleep(time.Second)
		fail(t, b, ClassWaiting, 0)
		if b.Standing(time.Now(), 0) != Failing {
			t.Error("not failing, and no page has been answered for a second")
		}
		for range 10 { // none of these is the probe
			time.Sleep(99 * time.Millisecond)
			fail(t, b, ClassWaiting, 0)
		}
		time.Sleep(20 * time.Millisecond)
		fail(t, b, ClassWaiting, 0)
		if !b.RefreshDue(time.Now(), 0, 0) {
			t.Error("no probe is due a second after the first failure")
		}
		fail(t, b, ClassRefresh, 0)
		time.Sleep(2 * time.Second)
		if !b.RefreshDue(time.Now(), 0, 0) {
			t.Error("no probe is due two seconds after the first probe")
		}
	})
}

// Retry-After holds for the next probe where it is longer than the back-off. It stops no request
// that has nothing else, unless the limits say so.
func TestRetryAfterWithoutPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{}, nil)
		fail(t, b, ClassWaiting, time.Minute)
		if b.Standing(time.Now(), 0) != Failing {
			t.Error("not failing")
		}
		take(t, b, ClassWaiting).Done()
		time.Sleep(time.Minute - 1)
		if b.RefreshDue(time.Now(), 0, 0) {
			t.Error("a probe is due before Retry-After")
		}
		time.Sleep(time.Nanosecond)
		fail(t, b, ClassRefresh, time.Nanosecond)
		time.Sleep(2*time.Second - 1)
		if b.RefreshDue(time.Now(), 0, 0) {
			t.Error("a shorter Retry-After has shortened the back-off")
		}
	})
}

// With Pauses nothing goes before Retry-After has passed. Who cannot wait so long is refused at
// once, whether it comes later or waits already.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts := new(count)
		b := New("", Limits{MaxConcurrent: 2, Queue: 10, Wait: 10 * time.Second, Pauses: true}, counts)
		first, second := take(t, b, ClassWaiting), take(t, b, ClassWaiting)
		_, early := queued(t.Context(), b)
		time.Sleep(5 * time.Second)
		late, soon := queued(t.Context(), b)
		first.Failed(8 * time.Second)
		first.Done()
		if r, ok := errors.AsType[*RefusedError](<-early); !ok || r.Why != Paused || r.RetryAfter != 8*time.Second {
			t.Errorf("one that waits and cannot wait for the end: %+v", r)
		}
		if b.Standing(time.Now(), 0) != Paused || b.RefreshDue(time.Now(), 0, 0) {
			t.Error("not paused")
		}
		expectRefusal(t, b, ClassStale, Paused)
		expectRefusal(t, b, ClassRefresh, Refresh)
		second.Succeeded() // no end of the pause
		second.Done()
		begin := time.Now()
		take(t, b, ClassWaiting).Done()
		if waited := time.Since(begin); waited != 8*time.Second || still(soon) {
			t.Errorf("waited %v for a pause of 8s", waited)
		}
		late.Failed(time.Hour)
		late.Done()
		time.Sleep(time.Minute)
		if r := expectRefusal(t, b, ClassWaiting, Paused); r.RetryAfter != 59*time.Minute {
			t.Errorf("to be tried again after %v", r.RetryAfter)
		}
		if counts.refused[Paused].Load() != 3 {
			t.Errorf("%d refused by a pause", counts.refused[Paused].Load())
		}
		time.Sleep(59 * time.Minute)
		p := take(t, b, ClassRefresh) // the probe, as the origin is failing since
		expectRefusal(t, b, ClassRefresh, Refresh)
		p.Succeeded()
		p.Done()
	})
}

// A request that fails while others are answered says nothing of the origin but for itself, and
// that only if something is stored for it. An origin that the operator has named pauses as it says.
func TestFailureBesideSuccess(t *testing.T) {
	const odd, page = 1, 2
	for _, class := range []Class{ClassWaiting, ClassStale, ClassRefresh} {
		for _, tc := range []struct {
			pauses     bool
			retryAfter time.Duration
		}{
			{false, 0},
			{false, time.Minute},
			{true, 0},
			{true, time.Minute},
		} {
			synctest.Test(t, func(t *testing.T) {
				b := New("", Limits{Pauses: tc.pauses, BackoffMin: time.Hour}, nil)
				p := take(t, b, ClassWaiting)
				p.Succeeded()
				p.Done()
				time.Sleep(justNow - 1)
				failing := &Place{Page: odd}
				if err := b.Take(t.Context(), failing, class); err != nil {
					t.Fatal(err)
				}
				failing.Failed(tc.retryAfter)
				failing.Done()
				want, wantOdd := Admitted, Failing
				if class == ClassWaiting {
					wantOdd = Admitted
				}
				if tc.pauses && tc.retryAfter > 0 {
					want, wantOdd = Paused, Paused
				}
				got, gotOdd := b.Standing(time.Now(), page), b.Standing(time.Now(), odd)
				if got != want || gotOdd != wantOdd || b.Standing(time.Now(), 0) != want {
					t.Errorf("%v, pauses %v, Retry-After %v: %v and for itself %v, want %v and %v", class, tc.pauses, tc.retryAfter, got, gotOdd, want, wantOdd)
				}
				if due := b.RefreshDue(time.Now(), page, 0); due != (want == Admitted) {
					t.Errorf("a refresh of another page is due: %v", due)
				}
			})
		}
	}
}

// That an origin fails for one page alone ends with any success, and with a failure of another page
// it fails for that, or for all where none has been answered meanwhile.
func TestFailingForOnePageAlone(t *testing.T) {
	const odd, page, third = 1, 2, 3
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{}, nil)
		report := func(which uint64, ok bool) {
			t.Helper()
			p := &Place{Page: which}
			if err := b.Take(t.Context(), p, ClassRefresh); err != nil {
				t.Fatal(err)
			}
			if ok {
				p.Succeeded()
			} else {
				p.Failed(0)
			}
			p.Done()
		}
		expect := func(want ...uint64) {
			t.Helper()
			for _, which := range []uint64{odd, page, third} {
				if got := b.Standing(time.Now(), which) == Failing; got != slices.Contains(want, which) {
					t.Errorf("page %d: failing %v", which, got)
				}
			}
		}
		report(page, true)
		time.Sleep(time.Millisecond)
		report(odd, false)
		expect(odd)
		report(third, false)
		expect(third)
		time.Sleep(time.Millisecond)
		report(page, true)
		expect()
		report(odd, false)
		time.Sleep(justNow)
		report(page, false) // none has been answered for as long
		expect(odd, page, third)
		time.Sleep(2 * time.Second)
		report(third, true)
		expect()
		report(odd, false)
		time.Sleep(DefaultBackoffMin)
		report(odd, false) // as the probe of its own outage
		expect(odd, page, third)
	})
}

// What has failed probes a back-off later than what else is asked for, and in its turn where it is
// asked for alone.
func TestAnotherProbesFirst(t *testing.T) {
	const odd, page = 1, 2
	for _, tc := range []struct{ alone, kinds bool }{{alone: true}, {}, {alone: true, kinds: true}, {kinds: true}} {
		synctest.Test(t, func(t *testing.T) {
			b := New("", Limits{}, nil)
			kind := uint64(0)
			next := func() uint64 {
				if tc.kinds {
					kind++
				}
				return kind
			}
			fail := func(class Class) {
				t.Helper()
				p := &Place{Page: odd, Kind: next()}
				if err := b.Take(t.Context(), p, class); err != nil {
					t.Fatal(err)
				}
				p.Failed(0)
				p.Done()
			}
			probe := func(backoff time.Duration) {
				t.Helper()
				if !tc.alone && b.RefreshDue(time.Now(), page, next()) {
					t.Error("a probe before its time")
				}
				time.Sleep(backoff)
				if got := b.RefreshDue(time.Now(), odd, next()); got != tc.alone {
					t.Errorf("%+v, due: %v after %v", tc, got, backoff)
				}
				if !tc.alone {
					if !b.RefreshDue(time.Now(), page, next()) {
						t.Error("another page is not due")
					}
					time.Sleep(backoff - 1)
					if b.RefreshDue(time.Now(), odd, next()) {
						t.Error("due although others are asked for")
					}
					time.Sleep(time.Nanosecond)
					if !b.RefreshDue(time.Now(), odd, next()) {
						t.Error("not due a back-off later")
					}
				}
				fail(ClassRefresh)
			}
			// Two that were under way, so that several kinds have failed.
			first, second := &Place{Page: odd, Kind: next()}, &Place{Page: odd, Kind: next()}
			for _, p := range []*Place{first, second} {
				if err := b.Take(t.Context(), p, ClassStale); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range []*Place{first, second} {
				p.Failed(0)
				p.Done()
			}
			probe(time.Second)
			probe(2 * time.Second)
			// A success ends that as well.
			other := &Place{Page: page, Kind: next()}
			if err := b.Take(t.Context(), other, ClassWaiting); err != nil {
				t.Fatal(err)
			}
			other.Succeeded()
			other.Done()
			if !b.RefreshDue(time.Now(), odd, next()) {
				t.Error("not due although the origin is well")
			}
		})
	}
}

// A page that fails by itself, whatever its Retry-After and however often it is asked for, has
// other pages wait for the shortest back-off only. So has any number of pages of which nothing is
// stored, as a client chooses them. Where a page of which something is stored fails too, all wait.
func TestPagesThatFailHoldOthersBack(t *testing.T) {
	const page = 1 << 20
	failed := func(t *testing.T, b *Budget, page uint64, class Class, retryAfter time.Duration) {
		t.Helper()
		p := &Place{Page: page}
		if err := b.Take(t.Context(), p, class); err != nil {
			t.Fatal(err)
		}
		p.Failed(retryAfter)
		p.Done()
	}
	for name, tc := range map[string]struct {
		fails func(t *testing.T, b *Budget)
		due   bool // another page, a second later
	}{
		"Retry-After of a page of which nothing is stored": {func(t *testing.T, b *Budget) {
			failed(t, b, 1, ClassWaiting, time.Hour)
		}, true},
		"of many such pages": {func(t *testing.T, b *Budget) {
			for i := range uint64(100) {
				failed(t, b, i, ClassWaiting, time.Hour)
				time.Sleep(time.Millisecond)
			}
		}, true},
		"of a page of which something is stored": {func(t *testing.T, b *Budget) {
			failed(t, b, 1, ClassStale, time.Hour)
		}, true},
		"the probes of one page": {func(t *testing.T, b *Budget) {
			failed(t, b, 1, ClassStale, 0)
			for range 10 {
				time.Sleep(DefaultBackoffMax)
				failed(t, b, 1, ClassRefresh, 0)
			}
		}, true},
		"a probe of another page as well": {func(t *testing.T, b *Budget) {
			failed(t, b, 1, ClassStale, time.Hour)
			time.Sleep(DefaultBackoffMin)
			failed(t, b, 2, ClassRefresh, 0)
		}, false},
		"another page as well, while it was asked": {func(t *testing.T, b *Budget) {
			p := &Place{Page: 2}
			if err := b.Take(t.Context(), p, ClassStale); err != nil {
				t.Fatal(err)
			}
			failed(t, b, 1, ClassStale, time.Hour)
			p.Failed(0)
			p.Done()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New("", Limits{}, nil)
				tc.fails(t, b)
				if b.RefreshDue(time.Now(), page, 0) || b.Standing(time.Now(), page) != Failing {
					t.Error("due at once")
				}
				time.Sleep(DefaultBackoffMin)
				if why, left := b.Outlook(time.Now(), page, 0); why != Failing || (left == 0) != tc.due {
					t.Errorf("%v for %v", why, left)
				}
				if due := b.RefreshDue(time.Now(), page, 0); due != tc.due {
					t.Errorf("due: %v, want %v", due, tc.due)
				}
				p := &Place{Page: page}
				if err := b.Take(t.Context(), p, ClassRefresh); (err == nil) != tc.due {
					t.Errorf("taken: %v", err)
				}
				if !tc.due {
					return
				}
				if b.RefreshDue(time.Now(), page+1, 0) {
					t.Error("a second probe")
				}
				p.Succeeded()
				p.Done()
				if s := b.Standing(time.Now(), page); s != Admitted {
					t.Errorf("after a success: %v", s)
				}
			})
		})
	}
}

// What fails for one kind of request, however often that probes, has other kinds wait for the
// shortest back-off only. Where a second kind fails as well, all kinds wait, but for a page that
// fails alone while others are answered: there they have a part of the back-off to wait.
func TestAnotherKindProbes(t *testing.T) {
	const page, kind, second, third = 1, 11, 12, 13
	for name, tc := range map[string]struct {
		kinds  []uint64 // that fail one after the other
		beside bool     // others are answered
		due    time.Duration
	}{
		"one kind":               {[]uint64{kind, kind, kind, kind, kind, kind, kind, kind}, false, DefaultBackoffMin},
		"one kind, others well":  {[]uint64{kind, kind, kind, kind, kind, kind, kind, kind}, true, DefaultBackoffMin},
		"two kinds":              {[]uint64{kind, second, kind, second, kind, second, kind, second}, false, DefaultBackoffMax},
		"two kinds, others well": {[]uint64{kind, second, kind, second, kind, second, kind, second}, true, DefaultBackoffMax / kindTurn},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New("", Limits{}, nil)
				for _, kind := range tc.kinds {
					time.Sleep(DefaultBackoffMax)
					if tc.beside { // it fails for a page alone, of which something is stored
						other := &Place{Page: page + 1}
						if err := b.Take(t.Context(), other, ClassWaiting); err != nil {
							t.Fatal(err)
						}
						defer other.Done()
						b.answeredAt.Store(b.at(time.Now()))
					}
					p := &Place{Page: page, Kind: kind}
					if err := b.Take(t.Context(), p, ClassRefresh); err != nil {
						t.Fatal(err)
					}
					p.Failed(0)
					p.Done()
				}
				time.Sleep(tc.due - 1)
				if last := tc.kinds[len(tc.kinds)-1]; b.RefreshDue(time.Now(), page, third) || b.RefreshDue(time.Now(), page, last) && tc.due > DefaultBackoffMin {
					t.Error("due too soon")
				}
				time.Sleep(time.Nanosecond)
				if !b.RefreshDue(time.Now(), page, third) {
					t.Errorf("another kind is not due after %v", tc.due)
				}
				for _, kind := range []uint64{tc.kinds[len(tc.kinds)-1], third} {
					if why, left := b.Outlook(time.Now(), page, kind); why != Failing || (left == 0) != b.RefreshDue(time.Now(), page, kind) {
						t.Errorf("kind %d: %v for %v", kind, why, left)
					}
				}
				p := &Place{Page: page, Kind: third}
				if err := b.Take(t.Context(), p, ClassRefresh); err != nil {
					t.Fatal(err)
				}
				p.Succeeded()
				p.Done()
				if s := b.Standing(time.Now(), page); s != Admitted {
					t.Errorf("after a success: %v", s)
				}
			})
		})
	}
}

// A client that asked most often, with a field for which an origin that is well again gives no
// result, took the place of each probe: the outage had no end.
func TestProbesWithoutAResultLetOthersFirst(t *testing.T) {
	const page, odd = 1, 12
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{}, nil)
		probe := func(page, kind uint64, failed bool) {
			t.Helper()
			p := &Place{Page: page, Kind: kind}
			if err := b.Take(t.Context(), p, ClassRefresh); err != nil {
				t.Fatal(err)
			}
			if failed {
				p.Failed(0)
			}
			p.Done()
		}
		for n := range uint64(12) { // an outage, of several pages and for several kinds of requests
			time.Sleep(2 * DefaultBackoffMax)
			probe(page+n%3, 20+n%5, true)
		}
		begun := time.Now()
		for tenth := uint64(1); ; tenth++ {
			time.Sleep(100 * time.Millisecond)
			if b.RefreshDue(time.Now(), page, odd) {
				probe(page, odd, false)
			}
			if tenth%10 == 0 && b.RefreshDue(time.Now(), page+1+tenth%2, 1000+tenth) {
				break
			}
			if time.Since(begun) > time.Hour {
				t.Fatal("in an hour no other may probe")
			}
		}
		if took := time.Since(begun); took > 2*DefaultBackoffMax+time.Second {
			t.Errorf("another may probe after %v", took)
		}
	})
}

// A page that fails, beside another of which probes have no result, is still the only one that is
// known to fail: others may probe after the shortest back-off.
func TestProbesWithoutAResultConfirmNothing(t *testing.T) {
	const page, without, other = 1, 2, 3
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{}, nil)
		for n := range uint64(8) {
			for _, of := range []uint64{page, without} {
				time.Sleep(2 * DefaultBackoffMax)
				p := &Place{Page: of, Kind: of}
				if err := b.Take(t.Context(), p, ClassRefresh); err != nil {
					t.Fatal(err)
				}
				if of == page {
					p.Failed(0)
				}
				p.Done()
				for at, want := range map[time.Duration]bool{DefaultBackoffMin - 1: false, DefaultBackoffMin: true} {
					if due := b.RefreshDue(time.Now().Add(at), other, other); due != want {
						t.Errorf("%d, after page %d: due %t in %v", n, of, due, at)
					}
				}
			}
		}
	})
}

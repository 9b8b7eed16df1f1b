package origin

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// count is a Metrics.
type count struct {
	waiting atomic.Int64
	refused [WhyCount]atomic.Int64
}

func (c *count) Waiting(by int)  { c.waiting.Add(int64(by)) }
func (c *count) Refused(why Why) { c.refused[why].Add(1) }

// take takes a place that the test expects to be there.
func take(t *testing.T, b *Budget, class Class) *Place {
	t.Helper()
	p := new(Place)
	if err := b.Take(t.Context(), p, class); err != nil {
		t.Fatalf("no place: %v", err)
	}
	return p
}

// expectRefusal takes no place, for this reason.
func expectRefusal(t *testing.T, b *Budget, class Class, why Why) *RefusedError {
	t.Helper()
	err := b.Take(t.Context(), new(Place), class)
	r, ok := errors.AsType[*RefusedError](err)
	if !ok || r.Why != why {
		t.Fatalf("%v, want a refusal: %s", err, why)
	}
	return r
}

// queued starts a request that waits, and returns where its result comes.
func queued(ctx context.Context, b *Budget) (p *Place, result <-chan error) {
	p, done := new(Place), make(chan error, 1)
	go func() { done <- b.Take(ctx, p, ClassWaiting) }()
	synctest.Wait()
	return p, done
}

// still reports whether no result has come.
func still(result <-chan error) bool {
	synctest.Wait()
	return len(result) == 0
}

func TestPlacesAreGivenBackOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{MaxConcurrent: 2, Queue: 10, Wait: time.Minute}, nil)
		first, second := take(t, b, ClassWaiting), take(t, b, ClassWaiting)
		third, got := queued(t.Context(), b)
		if !still(got) {
			t.Fatal("a third request of two went")
		}
		first.Done()
		first.Done()
		if still(got) {
			t.Fatal("a place was given back, and the one that waits did not get it")
		}
		expectRefusal(t, b, ClassStale, Busy)
		second.Done()
		third.Done()
		new(Place).Done()
		if b.taken != 0 {
			t.Errorf("%d places are taken", b.taken)
		}
	})
}

// What an answer that has begun needs waits past the limits of the queue, ahead of the others,
// which get every second place.
func TestOngoingGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{MaxConcurrent: 1, Queue: 1, Wait: time.Second}, nil)
		p := take(t, b, ClassWaiting)
		begin := func(order *[]string, name string, class Class) {
			go func() {
				var own Place
				if b.Take(t.Context(), &own, class) == nil {
					*order = append(*order, name) // one at a time has the place
					own.Done()
				}
			}()
			synctest.Wait()
		}
		var late, order []string
		begin(&late, "too late", ClassWaiting)
		begin(&order, "a", ClassOngoing)
		begin(&order, "b", ClassOngoing)
		expectRefusal(t, b, ClassWaiting, QueueFull)
		time.Sleep(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		_, left := queued(ctx, b)
		cancel()
		synctest.Wait()
		<-left
		b.Apply(Limits{MaxConcurrent: 1, Queue: 10, Wait: time.Minute})
		begin(&order, "d", ClassWaiting)
		begin(&order, "c", ClassOngoing)
		begin(&order, "f", ClassWaiting)
		p.Done()
		synctest.Wait()
		if want := []string{"a", "d", "b", "f", "c"}; !slices.Equal(order, want) || len(late) > 0 {
			t.Errorf("went in the order %v, and %v; want %v", order, late, want)
		}
		begin(&order, "e", ClassOngoing) // at once
		if b.taken != 0 || b.queue.Len() != 0 || b.queue.ongoing != nil || b.queue.ahead != 0 || len(order) != 6 {
			t.Errorf("%d places are taken, %d wait, %v went", b.taken, b.queue.Len(), order)
		}
	})
}

// Answers that have begun fill no queue of others, and wait a pause out.
func TestOngoingTakesNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{MaxConcurrent: 1, Queue: 1, Wait: time.Second}, nil)
		p := take(t, b, ClassWaiting)
		var went atomic.Int32
		for range 3 {
			go func() {
				var own Place
				if b.Take(t.Context(), &own, ClassOngoing) == nil {
					went.Add(1)
					own.Done()
				}
			}()
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		_, other := queued(ctx, b)
		if !still(other) {
			t.Error("the queue is full of answers that have begun")
		}
		cancel()
		synctest.Wait()
		p.Failed(time.Minute)
		p.Done()
		time.Sleep(time.Hour)
		synctest.Wait()
		if went.Load() != 3 {
			t.Errorf("%d of 3 went after the pause", went.Load())
		}
	})
}

func TestFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{MaxConcurrent: 1, Queue: 100, Wait: time.Minute}, nil)
		p := take(t, b, ClassWaiting)
		var order []int
		for n := range 50 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				var own Place
				if b.Take(ctx, &own, ClassWaiting) == nil {
					order = append(order, n) // one at a time has the place
					own.Done()
				}
			}()
			synctest.Wait()
			if n%3 == 1 {
				defer cancel()
				continue
			}
			if n%3 == 2 {
				cancel() // gives up at once
				synctest.Wait()
			}
			defer cancel()
		}
		p.Done()
		synctest.Wait()
		want := slices.DeleteFunc(slices.Collect(upTo(50)), func(n int) bool { return n%3 == 2 })
		if !slices.Equal(order, want) {
			t.Errorf("went in the order %v, want %v", order, want)
		}
	})
}

func upTo(n int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

func TestQueueEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts := new(count)
		b := New("api", Limits{MaxConcurrent: 1, Queue: 2, Wait: 3 * time.Second}, counts)
		p := take(t, b, ClassWaiting)
		_, first := queued(t.Context(), b)
		_, second := queued(t.Context(), b)
		if counts.waiting.Load() != 2 {
			t.Errorf("%d wait", counts.waiting.Load())
		}
		r := expectRefusal(t, b, ClassWaiting, QueueFull)
		if r.RetryAfter != time.Second || r.Origin != "api" {
			t.Errorf("%+v", r)
		}
		time.Sleep(3 * time.Second)
		for _, result := range []<-chan error{first, second} {
			if r, ok := errors.AsType[*RefusedError](<-result); !ok || r.Why != QueueWait {
				t.Errorf("after its time: %v", r)
			}
		}
		p.Done()
		take(t, b, ClassWaiting).Done()
		if counts.waiting.Load() != 0 || counts.refused[QueueFull].Load() != 1 || counts.refused[QueueWait].Load() != 2 {
			t.Errorf("%d wait, %d found the queue full, %d waited in vain",
				counts.waiting.Load(), counts.refused[QueueFull].Load(), counts.refused[QueueWait].Load())
		}
	})
}

// Without a queue a request that finds no place is refused at once.
func TestNoQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{MaxConcurrent: 1}, nil)
		defer take(t, b, ClassWaiting).Done()
		expectRefusal(t, b, ClassWaiting, QueueFull)
	})
}

// A refresh, and who has a stale response, never wait, and never go before one that waits.
func TestClientsGoBeforeRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts := new(count)
		b := New("", Limits{Rate: Rate{Count: 1, Per: time.Second}, Queue: 10, Wait: time.Minute}, counts)
		take(t, b, ClassRefresh).Done()
		if b.Standing(time.Now(), 0) != Busy || b.RefreshDue(time.Now(), 0, 0) {
			t.Error("not busy when the rate is used up")
		}
		expectRefusal(t, b, ClassRefresh, Refresh)
		expectRefusal(t, b, ClassStale, Busy)
		client, got := queued(t.Context(), b)
		for range 3 {
			time.Sleep(time.Second / 4)
			expectRefusal(t, b, ClassRefresh, Refresh)
		}
		time.Sleep(time.Second / 4)
		if still(got) {
			t.Fatal("the client did not get the token")
		}
		client.Done()
		time.Sleep(time.Second)
		if b.Standing(time.Now(), 0) != Admitted || !b.RefreshDue(time.Now(), 0, 0) {
			t.Error("busy when there is a token")
		}
		take(t, b, ClassRefresh).Done()
		if counts.refused[Refresh].Load() != 4 || counts.refused[Busy].Load() != 1 {
			t.Errorf("%d refreshes and %d others refused", counts.refused[Refresh].Load(), counts.refused[Busy].Load())
		}
	})
}

// A place that is given to a request at the very moment when it gives up goes to the next.
func TestGivingUpLeavesNoHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{MaxConcurrent: 1, Rate: Rate{Count: 1, Per: time.Hour, Burst: 2}, Queue: 10, Wait: time.Minute}, nil)
		p := take(t, b, ClassWaiting)
		gone := &Place{}
		b.mu.Lock()
		w := b.queue.join(gone, time.Now().Add(time.Minute))
		b.mu.Unlock()
		next, got := queued(t.Context(), b)
		p.Done() // gone gets the place, and with it the last token of the hour
		if <-w.answer != Admitted || !still(got) {
			t.Fatal("the place is not that of the first in the queue")
		}
		gone.hand()
		if still(got) {
			t.Fatal("the place was not handed on")
		}
		gone.Done()
		if b.taken != 1 {
			t.Errorf("%d places are taken", b.taken)
		}
		next.Done()
		if b.taken != 0 {
			t.Errorf("%d places are taken", b.taken)
		}
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{Rate: Rate{Count: 5, Per: time.Second, Burst: 10}, Queue: 1000, Wait: time.Minute}, nil)
		begin := time.Now()
		for n := range 60 {
			take(t, b, ClassWaiting).Done()
			want := max(0, n-9)
			if got := time.Since(begin); got.Round(time.Millisecond) != time.Duration(want)*time.Second/5 {
				t.Fatalf("request %d went after %v", n, got)
			}
		}
	})
}

func TestBurstDefaults(t *testing.T) {
	for _, tc := range []struct {
		rate Rate
		want int
	}{
		{Rate{Count: 5, Per: time.Second}, 5},
		{Rate{Count: 90, Per: time.Minute}, 1},
		{Rate{Count: 5, Per: time.Hour}, 1},
		{Rate{Count: 600, Per: time.Minute}, 10},
		{Rate{Count: 5, Per: time.Second, Burst: 1}, 1},
		{Rate{}, 0},
	} {
		if got := (Limits{Rate: tc.rate}).WithDefaults().Rate.Burst; got != tc.want {
			t.Errorf("%+v: a burst of %d, want %d", tc.rate, got, tc.want)
		}
	}
}

// Other limits hold at once, for those who wait too; what is under way counts on.
func TestApply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := Limits{MaxConcurrent: 3, Queue: 10, Wait: time.Minute}
		b := New("", limits, nil)
		places := []*Place{take(t, b, ClassWaiting), take(t, b, ClassWaiting), take(t, b, ClassWaiting)}
		limits.MaxConcurrent = 1
		b.Apply(limits)
		waiting, got := queued(t.Context(), b)
		for _, p := range places[:2] {
			p.Done()
			if !still(got) {
				t.Fatal("a request went although too many are under way")
			}
		}
		limits.MaxConcurrent = 2
		b.Apply(limits)
		if still(got) {
			t.Fatal("a request waits although the limit was raised")
		}
		places[2].Done()
		limits.MaxConcurrent, limits.Rate = 0, Rate{Count: 1, Per: time.Second, Burst: 2}
		b.Apply(limits)
		take(t, b, ClassRefresh).Done()
		take(t, b, ClassRefresh).Done()
		expectRefusal(t, b, ClassRefresh, Refresh)
		limits.Rate.Burst = 20
		b.Apply(limits) // a larger burst is no present
		expectRefusal(t, b, ClassRefresh, Refresh)
		limits.Rate = Rate{Count: 10, Per: time.Second, Burst: 20}
		b.Apply(limits)
		time.Sleep(time.Second / 10)
		take(t, b, ClassRefresh).Done()
		limits.Rate = Rate{}
		b.Apply(limits)
		for range 100 {
			take(t, b, ClassRefresh).Done()
		}
		waiting.Done()
	})
}

// A client that leaves gets the cause of that, and is counted.
func TestGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts := new(count)
		b := New("", Limits{MaxConcurrent: 1, Queue: 10, Wait: time.Minute}, counts)
		p := take(t, b, ClassWaiting)
		ctx, cancel := context.WithCancelCause(t.Context())
		_, got := queued(ctx, b)
		left := errors.New("left")
		cancel(left)
		if err := <-got; !errors.Is(err, left) {
			t.Errorf("%v", err)
		}
		if counts.refused[GaveUp].Load() != 1 || b.queue.Len() != 0 {
			t.Errorf("%d gave up, %d in the queue", counts.refused[GaveUp].Load(), b.queue.Len())
		}
		p.Done()
	})
}

func TestWords(t *testing.T) {
	seen := map[string]bool{"": true}
	for why := Busy; why < WhyCount; why++ {
		if word := why.String(); seen[word] {
			t.Errorf("%d has the word %q, as another", why, word)
		} else {
			seen[word] = true
		}
	}
}

// A request that is attended goes past every limit and takes none, and what comes of it counts.
func TestAttendedRequestsTakeNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{MaxConcurrent: 1}, nil)
		attended := make([]Place, 3)
		for i := range attended {
			b.Attend(&attended[i])
		}
		held := take(t, b, ClassWaiting)
		attended[0].Failed(0)
		if got := b.Standing(time.Now(), 0); got != Failing {
			t.Errorf("after a failure: %v", got)
		}
		time.Sleep(time.Second)
		var later Place
		b.Attend(&later)
		later.Succeeded()
		for _, p := range []*Place{&attended[0], &attended[1], &attended[2], &later} {
			p.Done()
		}
		if got := b.Standing(time.Now(), 0); got != Busy {
			t.Errorf("with the one place taken: %v", got)
		}
		held.Done()
		take(t, b, ClassWaiting).Done()
		if got := b.Standing(time.Now(), 0); got != Admitted {
			t.Errorf("in the end: %v", got)
		}
	})
}

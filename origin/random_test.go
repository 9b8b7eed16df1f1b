package origin

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// strictOrigin is an origin that knows its limits and counts what goes past them. Its token bucket
// is one of its own.
type strictOrigin struct {
	mu       sync.Mutex
	limits   Limits
	under    int
	most     int
	level    float64 // of what has come and not drained yet
	drained  time.Time
	notedAt  time.Time // when the origin asked to be left alone
	pause    time.Time
	served   int
	violated []string
}

func (o *strictOrigin) arrive() {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.served++
	if o.under++; o.limits.MaxConcurrent > 0 && o.under > o.limits.MaxConcurrent {
		o.violated = append(o.violated, "too many at once")
	}
	o.most = max(o.most, o.under)
	if r := o.limits.Rate; r.Count > 0 {
		o.drain(now)
		// Times are whole nanoseconds: a wait may end within the one that it should end after.
		if o.level++; o.level > float64(r.Burst)+2*float64(r.Count)/float64(r.Per) {
			o.violated = append(o.violated, "too many in a time")
		}
	}
	if now.After(o.notedAt) && now.Before(o.pause) {
		o.violated = append(o.violated, "in a pause")
	}
}

func (o *strictOrigin) drain(now time.Time) {
	r := o.limits.Rate
	o.level = max(0, o.level-now.Sub(o.drained).Seconds()*float64(r.Count)/r.Per.Seconds())
	o.drained = now
}

// leave ends a request, and has the origin ask for a pause if that is more than zero.
func (o *strictOrigin) leave(pause time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.under--
	if pause > 0 && o.limits.Pauses {
		o.notedAt, o.pause = time.Now(), later(o.pause, time.Now().Add(pause))
	}
}

// reload gives the origin other limits. What it has left of its burst is kept, as far as it fits.
func (o *strictOrigin) reload(l Limits) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if o.limits.Rate.Count > 0 && l.Rate.Count > 0 {
		o.drain(now)
		left := min(float64(o.limits.Rate.Burst)-o.level, float64(l.Rate.Burst))
		o.level = float64(l.Rate.Burst) - left
	} else {
		o.level, o.drained = 0, now
	}
	o.limits = l
}

func randomLimits(r *rand.Rand) Limits {
	l := Limits{
		Queue: r.IntN(60), Wait: time.Duration(r.IntN(400)) * time.Millisecond, Pauses: r.IntN(2) == 0,
		BackoffMin: time.Duration(1+r.IntN(50)) * time.Millisecond, BackoffMax: time.Second,
	}
	if r.IntN(5) > 0 {
		l.MaxConcurrent = 1 + r.IntN(20)
	}
	if r.IntN(3) > 0 {
		l.Rate = Rate{Count: 1 + r.IntN(1000), Per: time.Second, Burst: 1 + r.IntN(30)}
	}
	return l
}

// TestNeverPastTheLimits sends random requests at random times that take random times, fail, give
// up, while the limits change, and counts what goes past them.
func TestNeverPastTheLimits(t *testing.T) {
	const arrivals = 100_000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		o, counts := new(strictOrigin), new(count)
		b := New("", Limits{}, counts)
		var all sync.WaitGroup
		for n := range arrivals {
			if n%500 == 0 {
				synctest.Wait() // who has a place has arrived
				l := randomLimits(r)
				o.reload(l)
				b.Apply(l)
			}
			// What it does is drawn here, so that a seed means the same requests.
			v := visitor{
				class: Class(r.IntN(3)), takes: time.Duration(r.ExpFloat64() * float64(10*time.Millisecond)),
				leaves: time.Duration(r.ExpFloat64() * float64(300*time.Millisecond)), fate: r.IntN(100),
			}
			all.Go(func() { v.visit(b, o) })
			time.Sleep(time.Duration(r.ExpFloat64() * float64(time.Millisecond)))
		}
		all.Wait()
		if len(o.violated) > 0 {
			t.Errorf("%d violations, the first: %s", len(o.violated), o.violated[0])
		}
		refused := 0
		for why := range WhyCount {
			refused += int(counts.refused[why].Load())
			t.Logf("%s %d", why, counts.refused[why].Load())
		}
		t.Logf("%d served, %d at once at most", o.served, o.most)
		if o.served+refused != arrivals {
			t.Errorf("%d served and %d refused of %d", o.served, refused, arrivals)
		}
		if b.taken != 0 || b.queue.Len() != 0 || counts.waiting.Load() != 0 || b.health.probing != nil {
			t.Errorf("left: %d places, %d in the queue, %d waiting", b.taken, b.queue.Len(), counts.waiting.Load())
		}
	})
}

// visitor is what a random request does.
type visitor struct {
	class         Class
	takes, leaves time.Duration
	fate          int
}

func (v *visitor) visit(b *Budget, o *strictOrigin) {
	ctx, cancel := context.WithTimeout(context.Background(), v.leaves)
	defer cancel()
	var p Place
	if b.Take(ctx, &p, v.class) != nil {
		return
	}
	o.arrive()
	time.Sleep(v.takes)
	switch pause := time.Duration(v.fate) * 20 * time.Millisecond; {
	case v.fate < 2:
		o.leave(pause)
		p.Failed(pause)
	case v.fate < 10:
		o.leave(0)
		p.Failed(0)
	default:
		o.leave(0)
		if v.fate < 90 {
			p.Succeeded()
		}
	}
	p.Done()
	if v.fate%2 == 0 {
		p.Done()
	}
}

// TestManyGiveUp: of many that wait, those that stay go in the order in which they came, and those
// that leave, whenever that is, take nothing with them.
func TestManyGiveUp(t *testing.T) {
	const waiters = 20_000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		b := New("", Limits{MaxConcurrent: 3, Queue: waiters, Wait: 24 * time.Hour}, nil)
		held := []*Place{take(t, b, ClassWaiting), take(t, b, ClassWaiting), take(t, b, ClassWaiting)}
		var mu sync.Mutex
		var order []int
		gone := 0
		cancels := make([]context.CancelFunc, waiters)
		for n := range waiters {
			var ctx context.Context
			ctx, cancels[n] = context.WithCancel(t.Context())
			go func() {
				var p Place
				err := b.Take(ctx, &p, ClassWaiting)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					gone++
					return
				}
				order = append(order, n)
				go func() {
					time.Sleep(time.Millisecond)
					p.Done()
				}()
			}()
			synctest.Wait() // it is in the queue
		}
		for _, p := range held {
			p.Done()
		}
		for _, n := range r.Perm(waiters)[:waiters/2] {
			cancels[n]()
			if r.IntN(10) == 0 {
				time.Sleep(time.Millisecond / 3)
			}
		}
		time.Sleep(time.Hour)
		for _, cancel := range cancels {
			cancel()
		}
		synctest.Wait()
		if !slices.IsSorted(roughly(order, 3)) || len(order)+gone != waiters || gone < waiters/4 {
			t.Errorf("%d went, %d left; in order: %v", len(order), gone, slices.IsSorted(roughly(order, 3)))
		}
		if b.taken != 0 || b.queue.Len() != 0 {
			t.Errorf("%d places are taken, %d are in the queue", b.taken, b.queue.Len())
		}
	})
}

// roughly puts in order what went together: so many places may be given at one moment, and which of
// their goroutines runs first is not said.
func roughly(order []int, together int) []int {
	out := slices.Clone(order)
	for i := 0; i+together <= len(out); i++ {
		slices.Sort(out[i : i+together])
	}
	return out
}

package origin

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// left is a Budget of two places that are both taken.
type left struct {
	*Budget
	places [2]Place

	mu    sync.Mutex
	asked []int // which places were asked for, in order
}

func newLeft(t *testing.T, l Limits) *left {
	t.Helper()
	l.MaxConcurrent, l.Queue = 2, 10
	if l.Wait == 0 {
		l.Wait = time.Minute
	}
	b := &left{Budget: New("", l, nil)}
	for i := range b.places {
		if err := b.Take(t.Context(), &b.places[i], ClassWaiting); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// unattended says that no client waits for a place. It is given back when it is asked for, if
// yields says so.
func (b *left) unattended(i int, after time.Duration, yields bool) {
	b.Unattended(&b.places[i], time.Now().Add(after), func() bool {
		b.mu.Lock()
		b.asked = append(b.asked, i)
		b.mu.Unlock()
		if yields {
			b.places[i].Done()
		}
		return yields
	})
}

func (b *left) wantAsked(t *testing.T, want ...int) {
	t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.asked, want) {
		t.Errorf("asked for %v, want %v", b.asked, want)
	}
}

// waits begins to wait for a place, and gives it back when it has it.
func (b *left) waits(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	go func() {
		var p Place
		err := b.Take(ctx, &p, ClassWaiting)
		p.Done()
		done <- err
	}()
	synctest.Wait()
	return done
}

func TestUnattendedPlaces(t *testing.T) {
	for name, test := range map[string]func(t *testing.T){
		"none waits": func(t *testing.T) {
			b := newLeft(t, Limits{})
			b.unattended(0, 0, true)
			b.wantAsked(t)
		},
		"one for each that waits, the oldest first": func(t *testing.T) {
			b := newLeft(t, Limits{})
			b.unattended(1, 0, false)
			time.Sleep(time.Second)
			b.unattended(0, 0, true)
			got := b.waits(t.Context())
			b.wantAsked(t, 1, 0) // 1 was none to be had
			if err := <-got; err != nil {
				t.Error(err)
			}
		},
		"no more than wait": func(t *testing.T) {
			b := newLeft(t, Limits{})
			b.unattended(0, 0, true)
			b.unattended(1, 0, true)
			<-b.waits(t.Context())
			b.wantAsked(t, 0)
		},
		"while one waits": func(t *testing.T) {
			b := newLeft(t, Limits{})
			got := b.waits(t.Context())
			b.unattended(0, 0, true)
			b.wantAsked(t, 0)
			<-got
		},
		"a client has come back": func(t *testing.T) {
			b := newLeft(t, Limits{})
			b.unattended(0, 0, true)
			b.Attended(&b.places[0])
			ctx, cancel := context.WithCancel(t.Context())
			got := b.waits(ctx)
			b.wantAsked(t)
			cancel()
			<-got
		},
		"not yet": func(t *testing.T) {
			b := newLeft(t, Limits{})
			b.unattended(0, 2*time.Second, true)
			b.unattended(1, 5*time.Second, true)
			begun := time.Now()
			<-b.waits(t.Context())
			b.wantAsked(t, 0)
			if took := time.Since(begun); took != 2*time.Second {
				t.Errorf("after %v", took)
			}
		},
		"what is at once before what is later": func(t *testing.T) {
			b := newLeft(t, Limits{})
			b.unattended(0, 2*time.Second, true)
			b.unattended(1, 0, true)
			<-b.waits(t.Context())
			b.wantAsked(t, 1)
		},
		"the rate holds back": func(t *testing.T) {
			b := newLeft(t, Limits{Rate: Rate{Count: 1, Per: 10 * time.Second, Burst: 2}})
			b.unattended(0, 0, true)
			got := b.waits(t.Context())
			b.wantAsked(t)
			<-got
			b.wantAsked(t, 0)
		},
		"given back before": func(t *testing.T) {
			b := newLeft(t, Limits{})
			b.unattended(0, 0, true)
			b.places[0].Done()
			<-b.waits(t.Context())
			b.wantAsked(t)
		},
		"limits that were lowered": func(t *testing.T) {
			b := newLeft(t, Limits{})
			b.Apply(Limits{MaxConcurrent: 1, Queue: 10, Wait: time.Minute})
			b.unattended(0, 0, false)
			got := b.waits(t.Context())
			b.unattended(1, 0, true)
			b.wantAsked(t, 0, 1)
			b.places[0].Done()
			if err := <-got; err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
}

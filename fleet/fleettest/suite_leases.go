package fleettest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
)

var leaseTests = []test{
	{"one holds it", leaseOne},
	{"who waits is woken", leaseWakes},
	{"facts", leaseFacts},
	{"a message stays in its place", leaseLeaves},
	{"a lease ends", leaseExpires},
	{"a lease is renewed", leaseRenewed},
	{"a lease ends for those who wait", leaseTooLong},
	{"one of many takes it", leaseConcurrent},
	{"one of many takes what was left", leaseConcurrentSeen},
	{"listening ends", leaseListenEnds},
}

func take(t *testing.T, e fleet.Engine, key, token, node string, ttl time.Duration) fleet.Lease {
	t.Helper()
	return takeSeen(t, e, key, token, node, "", ttl)
}

// takeSeen takes a lease in whose place a message is known to be.
func takeSeen(t *testing.T, e fleet.Engine, key, token, node, seen string, ttl time.Duration) fleet.Lease {
	t.Helper()
	var message []byte
	if seen != "" {
		message = []byte(seen)
	}
	l, err := e.Take(within(t), key, token, node, message, ttl)
	must(t, err)
	return l
}

func hold(t *testing.T, e fleet.Engine, key, token string, facts []byte, ttl time.Duration) bool {
	t.Helper()
	ok, err := e.Hold(within(t), key, token, facts, ttl)
	must(t, err)
	return ok
}

func release(t *testing.T, e fleet.Engine, key, token, message string, keep time.Duration) bool {
	t.Helper()
	ok, err := e.Release(within(t), key, token, []byte(message), keep)
	must(t, err)
	return ok
}

func look(t *testing.T, e fleet.Engine, key string) fleet.Lease {
	t.Helper()
	l, err := e.Look(within(t), key)
	must(t, err)
	return l
}

// heard is a channel of what a node hears, as key=message.
func heard(t *testing.T, e fleet.Engine, node string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended, out := make(chan struct{}), make(chan error, 1), make(chan string, 100)
	go func() {
		defer close(ended)
		ended <- e.Listen(ctx, node, func() { close(ready) }, func(key string, message []byte) {
			out <- key + "=" + string(message)
		})
	}()
	t.Cleanup(func() {
		cancel()
		for range ended {
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("listening: %v", err)
	case <-time.After(long):
		t.Fatal("listening: never ready")
	}
	return out
}

func hears(t *testing.T, in <-chan string, want string) {
	t.Helper()
	select {
	case got := <-in:
		if got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	case <-time.After(long):
		t.Errorf("never heard %q", want)
	}
}

func leaseOne(t *testing.T, a, b fleet.Engine) {
	for _, key := range []string{"key", "", "}{", "\x00\xff"} {
		if l := look(t, a, key); l.Held || l.Taken || l.Left != nil {
			t.Errorf("%q: before: %+v", key, l)
		}
		if l := take(t, a, key, "t1", "one", time.Hour); !l.Taken {
			t.Fatalf("%q: not taken: %+v", key, l)
		}
		if l := take(t, b, key, "t2", "two", time.Hour); l.Taken || !l.Held {
			t.Fatalf("%q: taken twice: %+v", key, l)
		}
		// As after a reply that was lost.
		if l := take(t, a, key, "t1", "one", time.Hour); !l.Taken {
			t.Errorf("%q: its holder does not get it: %+v", key, l)
		}
		if hold(t, b, key, "t2", nil, time.Hour) || release(t, b, key, "t2", "x", time.Hour) {
			t.Errorf("%q: another token holds and releases it", key)
		}
		if l := look(t, b, key); !l.Held {
			t.Errorf("%q: then: %+v", key, l)
		}
		if !release(t, b, key, "t1", "x", 0) || release(t, a, key, "t1", "x", 0) {
			t.Errorf("%q: not released, or twice", key)
		}
		if l := take(t, b, key, "t2", "two", time.Hour); !l.Taken {
			t.Errorf("%q: not free: %+v", key, l)
		}
	}
}

func leaseWakes(t *testing.T, a, b fleet.Engine) {
	one, two := heard(t, a, "one"), heard(t, b, "two")
	take(t, a, "first", "t1", "holder", time.Hour)
	take(t, b, "second", "t2", "holder", time.Hour)
	take(t, b, "first", "t3", "two", time.Hour)
	take(t, b, "first", "t4", "two", time.Hour)
	take(t, a, "second", "t5", "one", time.Hour)
	take(t, b, "second", "t6", "two", time.Hour)
	release(t, a, "first", "t1", "\x00 \xff:", 0)
	hears(t, two, "first=\x00 \xff:")
	release(t, b, "second", "t2", "end", 0)
	// It is the first that node one hears: it did not wait for the other.
	hears(t, one, "second=end")
	hears(t, two, "second=end")
}

func leaseFacts(t *testing.T, a, b fleet.Engine) {
	two := heard(t, b, "two")
	take(t, a, "key", "t1", "one", time.Hour)
	take(t, b, "key", "t2", "two", time.Hour)
	if !hold(t, a, "key", "t1", []byte("facts \x00"), time.Hour) {
		t.Fatal("not held")
	}
	hears(t, two, "key=facts \x00")
	hold(t, a, "key", "t1", nil, time.Hour)
	hold(t, a, "key", "t1", []byte("facts \x00"), time.Hour)
	if l := look(t, b, "key"); string(l.Facts) != "facts \x00" || !l.Held {
		t.Errorf("facts: %+v", l)
	}
	if l := take(t, b, "key", "t3", "two", time.Hour); string(l.Facts) != "facts \x00" {
		t.Errorf("who comes later gets: %+v", l)
	}
	hold(t, a, "key", "t1", []byte("more"), time.Hour)
	hears(t, two, "key=more")
	release(t, a, "key", "t1", "done", 0)
	hears(t, two, "key=done")
	if l := take(t, b, "key", "t4", "two", time.Hour); !l.Taken || l.Facts != nil {
		t.Errorf("the next holder gets %+v", l)
	}
}

func leaseLeaves(t *testing.T, a, b fleet.Engine) {
	two := heard(t, b, "two")
	take(t, a, "key", "t1", "one", time.Hour)
	take(t, b, "key", "t2", "two", time.Hour)
	hold(t, a, "key", "t1", []byte("facts"), time.Hour)
	hears(t, two, "key=facts")
	release(t, a, "key", "t1", "left \x00", long)
	hears(t, two, "key=left \x00")
	for _, l := range []fleet.Lease{
		look(t, b, "key"), take(t, b, "key", "t3", "two", time.Hour),
		takeSeen(t, b, "key", "t3", "two", "another", time.Hour),
	} {
		if l.Held || l.Taken || string(l.Left) != "left \x00" || l.Facts != nil {
			t.Errorf("%+v, want what was left", l)
		}
	}
	if l := takeSeen(t, b, "key", "t3", "two", "left \x00", time.Hour); !l.Taken || l.Left != nil {
		t.Errorf("%+v, want it taken", l)
	}
	if l := look(t, a, "key"); !l.Held || l.Left != nil || l.Facts != nil {
		t.Errorf("then %+v", l)
	}
	take(t, a, "ends", "t1", "one", time.Hour)
	release(t, a, "ends", "t1", "left", short)
	if l := takeSeen(t, b, "free", "t2", "two", "gone", time.Hour); l.Taken || l.Held || l.Left != nil {
		t.Errorf("%+v, where a message is seen that is not there", l)
	}
	eventually(t, "the message ends", func() bool { return take(t, b, "ends", "t2", "two", time.Hour).Taken })
}

func leaseExpires(t *testing.T, a, b fleet.Engine) {
	take(t, a, "key", "t1", "one", short)
	eventually(t, "the lease ends", func() bool { return take(t, b, "key", "t2", "two", time.Hour).Taken })
	if hold(t, a, "key", "t1", []byte("facts"), time.Hour) || release(t, a, "key", "t1", "x", 0) {
		t.Error("a token holds what has ended")
	}
	if l := look(t, a, "key"); !l.Held || l.Facts != nil {
		t.Errorf("the next holder has %+v", l)
	}
}

// leaseTooLong is of a lease for longer than those who want it take one for.
func leaseTooLong(t *testing.T, a, b fleet.Engine) {
	take(t, a, "key", "t1", "one", 1000*time.Hour)
	eventually(t, "the lease ends", func() bool { return take(t, b, "key", "t2", "two", short).Taken })
}

func leaseRenewed(t *testing.T, a, b fleet.Engine) {
	take(t, a, "held", "t1", "one", long)
	hold(t, a, "held", "t1", nil, time.Hour)
	take(t, a, "ends", "t2", "one", time.Hour)
	hold(t, a, "ends", "t2", nil, short)
	eventually(t, "the lease ends", func() bool { return !look(t, b, "ends").Held })
	if !look(t, b, "held").Held {
		t.Error("a lease has ended that was renewed")
	}
}

func leaseConcurrent(t *testing.T, a, b fleet.Engine) {
	takenByOne(t, a, b, nil)
}

// leaseConcurrentSeen: who has seen what was left takes it for all who have.
func leaseConcurrentSeen(t *testing.T, a, b fleet.Engine) {
	take(t, a, "key", "t1", "one", time.Hour)
	release(t, a, "key", "t1", "left", long)
	takenByOne(t, a, b, []byte("left"))
}

func takenByOne(t *testing.T, a, b fleet.Engine, seen []byte) {
	t.Helper()
	var group sync.WaitGroup
	var taken atomic.Int32
	for i := range 40 {
		group.Go(func() {
			l, err := []fleet.Engine{a, b}[i%2].Take(within(t), "key", fmt.Sprint(i), "one", seen, time.Hour)
			if l.Taken {
				taken.Add(1)
			}
			if err != nil || l.Taken == l.Held {
				t.Errorf("%+v, %v", l, err)
			}
		})
	}
	group.Wait()
	if n := taken.Load(); n != 1 {
		t.Errorf("%d took it, want 1", n)
	}
}

func leaseListenEnds(t *testing.T, a, _ fleet.Engine) {
	ctx, cancel := context.WithCancel(t.Context())
	err := a.Listen(ctx, "one", cancel, func(string, []byte) {})
	if err == nil {
		t.Error("it ended without an error")
	}
}

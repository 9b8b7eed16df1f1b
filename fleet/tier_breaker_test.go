package fleet

import (
	"testing"
	"time"
)

// The breaker opens when failures outweigh, closes by a probe alone, and asks for one at a time.
func TestBreaker(t *testing.T) {
	const ok, bad = 'o', 'x'
	for name, tc := range map[string]struct {
		calls string
		opens int // at which call, 0: not at all
	}{
		"dead":             {"xxxxx", 5},
		"slow every third": {"xooxooxooxooxooxooxooxooxoo", 0},
		"slow every other": {"xoxoxoxoxoxoxoxoxox", 17},
		"well again":       {"xxxxooooooooxxxxo", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var b breaker
			opened := 0
			for i, call := range tc.calls {
				if call == ok {
					b.succeeded()
				} else if call == bad && b.failed() > 0 {
					opened = i + 1
					break
				}
			}
			if opened != tc.opens || b.closed() != (tc.opens == 0) {
				t.Errorf("it opens at call %d, want %d", opened, tc.opens)
			}
		})
	}
}

func TestBreakerProbes(t *testing.T) {
	var b breaker
	pause := time.Duration(0)
	for pause == 0 {
		pause = b.failed()
	}
	want := breakerPause
	for range 8 {
		if pause != want {
			t.Fatalf("a probe in %v, want %v", pause, want)
		}
		if b.failed() != 0 {
			t.Fatal("a second probe")
		}
		b.succeeded() // a call that was under way
		b.probing()
		if state, _ := b.current(); state != BreakerHalfOpen || b.closed() {
			t.Fatalf("it is %v during a probe", state)
		}
		pause = b.probed(false)
		want = min(2*want, breakerLongest)
	}
	b.probing()
	if pause = b.probed(true); pause != 0 || !b.closed() {
		t.Error("it stays open after a probe that has succeeded")
	}
	if b.failed() != 0 {
		t.Error("one failure opens it again")
	}
	if _, opened := b.current(); opened != 1 {
		t.Errorf("it has opened %d times", opened)
	}
}

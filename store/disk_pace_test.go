package store

import (
	"testing"
	"time"
)

// TestPaceSweepsInTime plays a sweep of 100,000 entries by the pace alone: however long each step
// takes, up to what the disk of the slowest would make it, all are through within 30 s, and a fast
// disk does not make it faster than hits can bear.
func TestPaceSweepsInTime(t *testing.T) {
	for _, tt := range []struct {
		step            time.Duration // what a step takes, its sync included
		least, most     time.Duration
		smallest, large int // entries in a step
	}{
		{0, 19 * time.Second, 21 * time.Second, paceLeast, paceLeast + 1},
		{5 * time.Millisecond, 19 * time.Second, 21 * time.Second, paceLeast, paceLeast + 1},
		{20 * time.Millisecond, 19 * time.Second, 21 * time.Second, paceLeast, 101},
		{50 * time.Millisecond, 19 * time.Second, 21 * time.Second, paceLeast, 251},
		{70 * time.Millisecond, 25 * time.Second, 30 * time.Second, paceLeast, paceMost},
	} {
		var p pace
		began := time.Unix(1_000_000, 0)
		now := began
		for left := 100_000; left > 0; {
			n := p.step(now)
			if n == 0 {
				now = p.due
				continue
			}
			if n < tt.smallest || n > tt.large {
				t.Fatalf("steps of %v: %d entries, want %d to %d", tt.step, n, tt.smallest, tt.large)
			}
			n = min(n, left)
			left -= n
			now = now.Add(tt.step)
			p.done(n)
		}
		if took := now.Sub(began); took < tt.least || took > tt.most {
			t.Errorf("steps of %v: swept after %v, want %v to %v", tt.step, took, tt.least, tt.most)
		}
	}
}

// TestPaceRests tells when the disk writer is to be woken.
func TestPaceRests(t *testing.T) {
	var p pace
	if _, more := p.rest(); more {
		t.Error("a pace that never began wants to go on")
	}
	now := time.Now()
	p.step(now)
	if p.done(paceLeast); p.step(now) != 0 {
		t.Error("the next step begins before its time")
	}
	if rest, more := p.rest(); !more || rest > time.Second*paceLeast/paceRate {
		t.Errorf("rest = %v, %v", rest, more)
	}
	if p.done(0); p.step(now) == 0 {
		t.Error("a step that found nothing makes the next wait")
	}
	p.idle()
	if _, more := p.rest(); more {
		t.Error("an idle pace wants to go on")
	}
}

package store

import (
	"sync/atomic"
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

// TestPaceGivesWayWhileRequestsWait plays a sweep of 100,000 entries while requests wait for the
// core: its commits are so few that these hardly meet one, and it ends all the same.
func TestPaceGivesWayWhileRequestsWait(t *testing.T) {
	p := pace{rate: busyRate}
	began := time.Unix(1_000_000, 0)
	now, steps := began, 0
	for left := 100_000; left > 0; steps++ {
		n := p.step(now)
		if n != busyStep {
			t.Fatalf("a step of %d entries, want %d", n, busyStep)
		}
		n = min(n, left)
		left -= n
		p.rate = busyRate
		p.done(n)
		now = p.due
	}
	took := now.Sub(began)
	if steps > int(took.Seconds())+1 || took > (busyTime+1)*time.Second {
		t.Errorf("%d commits in %v, want one a second at most, and no more than %d s", steps, took, busyTime)
	}
	if p.step(now); p.perSecond() != paceRate {
		t.Error("what follows keeps the pace of a step before")
	}
}

// TestSweepRate is how fast is swept: at the full pace but where requests wait for the core, and
// then too where there is much to sweep, or many purges wait, or the room on disk is needed.
func TestSweepRate(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name        string
		othersWait  bool
		purges      int
		rows        int // of each
		used        int64
		change      func(dw *diskWriter)
		least, most int
	}{
		{"no request waits", false, 1, 100_000, mib, nil, paceRate, paceRate},
		{"requests wait", true, 1, 100_000, mib, nil, busyRate, busyRate},
		{"much to sweep", true, 2, 200_000, mib, nil, 400_000 / busyTime, paceRate - 1},
		{"very much to sweep", true, 1, 10_000_000, mib, nil, paceRate, paceRate},
		{"a purge of before a restart", true, 1, 0, mib, nil, paceRate, paceRate},
		{"many purges", true, busyPurges + 1, 1, mib, nil, paceRate, paceRate},
		{"the budget is used up", true, 1, 100_000, 63 * mib, nil, paceRate, paceRate},
		{"a full disk", true, 1, 100_000, mib, func(dw *diskWriter) { dw.disk.full.Store(true) }, paceRate, paceRate},
		{"a disk that was full", true, 1, 100_000, mib, func(dw *diskWriter) { dw.roomFirst.purge = 1 }, paceRate, paceRate},
		{"a purge after that", true, 1, 100_000, mib, func(dw *diskWriter) {
			dw.roomFirst.purge, dw.sweeps.disk[0].gen = 1, 2
		}, busyRate, busyRate},
		{"it is awaited", true, 1, 100_000, mib, func(dw *diskWriter) { dw.watcher = &watcher{awaited: "t"} }, paceRate, paceRate},
		{"another is awaited", true, 1, 100_000, mib, func(dw *diskWriter) { dw.watcher = &watcher{awaited: "o"} }, busyRate, busyRate},
	} {
		dw := &diskWriter{
			disk: newDisk(Config{Path: t.TempDir()}), settings: new(atomic.Pointer[Settings]), watcher: &watcher{}, queue: newQueue(nil),
		}
		dw.settings.Store(&Settings{Disk: 64 * mib})
		dw.disk.pages.Store(tt.used)
		for range tt.purges {
			rec := &purgeRecord{rows: tt.rows}
			rec.watched.Store(&watched{tags: []string{"t"}})
			dw.sweeps.disk = append(dw.sweeps.disk, rec)
		}
		if tt.change != nil {
			tt.change(dw)
		}
		if rate := dw.sweepRate(tt.othersWait); rate < tt.least || rate > tt.most {
			t.Errorf("%s: %d entries a second, want %d to %d", tt.name, rate, tt.least, tt.most)
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

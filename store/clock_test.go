package store

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clockWorld is a store under load whose clock jumps, and what must hold of it.
type clockWorld struct {
	t     *testing.T
	clock *testClock
	// jump is held while the clock jumps, for reading by everything else: within one call the time
	// is the same. Stores are closed and opened under it too.
	jump  sync.RWMutex
	s     *Store
	pages []clockPage // each worker has its own
	uses  atomic.Int64
}

// clockPage is what the model knows of one page.
type clockPage struct {
	version   int // stored last; 0 after a purge, or before the first
	purged    int // the latest version that is purged
	keepUntil time.Time
	expired   bool // its time was over at some moment since: it may be swept, and may not be
}

const (
	clockWorkers = 4
	clockPages   = 40 // of each worker
)

func clockURL(n int) string { return fmt.Sprintf("http://example.com/%d", n) }

// TestFaultClockJumps has the clock jump to and fro by up to a day while a store is used, and once
// in a while over a restart. What is not expired is found, what is expired or purged is not,
// whenever that was.
func TestFaultClockJumps(t *testing.T) {
	for _, tt := range []struct {
		name     string
		settings Settings
	}{
		{"disk under a tiny memory", Settings{Memory: 1, Disk: 64 << 20}},
		{"both", Settings{Memory: 16 << 20, Disk: 64 << 20}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rng := seeded(t)
			w := &clockWorld{t: t, clock: newTestClock(), pages: make([]clockPage, clockWorkers*clockPages)}
			cfg := Config{Path: t.TempDir(), Required: true, Now: w.clock.now}
			w.s = openStore(t, cfg, tt.settings)
			stop := make(chan struct{})
			var load sync.WaitGroup
			for worker := range clockWorkers {
				rng := rand.New(rand.NewPCG(rng.Uint64(), uint64(worker)))
				load.Go(func() { w.work(rng, worker, stop) })
			}
			for i := range rounds(20, 3000) {
				w.leap(rng)
				if i%10 == 9 {
					w.restart(cfg, tt.settings)
				}
			}
			close(stop)
			load.Wait()
			checkAgreement(t, w.s)
		})
	}
}

// leap moves the clock and waits until the load has done something at the new time.
func (w *clockWorld) leap(rng *rand.Rand) {
	w.jump.Lock()
	by := time.Duration(rng.Int64N(int64(48*time.Hour))) - 24*time.Hour
	if rng.IntN(3) == 0 {
		by = time.Duration(rng.Int64N(int64(20*time.Minute))) - 10*time.Minute
	}
	w.clock.advance(by)
	for i := range w.pages {
		p := &w.pages[i]
		p.expired = p.expired || !w.clock.now().Before(p.keepUntil)
	}
	w.jump.Unlock()
	for goal := w.uses.Load() + 400; w.uses.Load() < goal && !w.t.Failed(); {
		runtime.Gosched()
	}
}

func (w *clockWorld) restart(cfg Config, settings Settings) {
	w.jump.Lock()
	defer w.jump.Unlock()
	if err := w.s.Close(); err != nil {
		w.t.Errorf("Close: %v", err)
	}
	w.s = openStore(w.t, cfg, settings)
}

// work uses the pages of one worker.
func (w *clockWorld) work(rng *rand.Rand, worker int, stop <-chan struct{}) {
	for version := 1; ; version++ {
		select {
		case <-stop:
			return
		default:
			w.use(rng, worker*clockPages+rng.IntN(clockPages), version)
		}
	}
}

func (w *clockWorld) use(rng *rand.Rand, n, version int) {
	w.jump.RLock()
	defer w.jump.RUnlock()
	defer w.uses.Add(1)
	page, url := &w.pages[n], clockURL(n)
	switch n := rng.IntN(1000); {
	case n < 250:
		e := signedEntry(w.s, url, version, rng.IntN(2_000), "all")
		e.KeepUntil = w.clock.now().Add(time.Duration(1+rng.IntN(60)) * time.Minute)
		ticket := w.s.Begin()
		e.Generation = ticket.Generation()
		if r := w.s.Put(e, 0); r != Stored {
			w.t.Errorf("Put = %v", r)
		}
		ticket.End()
		*page = clockPage{version: version, purged: page.purged, keepUntil: e.KeepUntil}
	case n < 253: // each waits for the disk, so more would be all there is
		if _, err := w.s.Purge(Selectors{URLs: []string{url}}, PurgeOptions{}); err != nil {
			w.t.Errorf("Purge: %v", err)
		}
		*page = clockPage{purged: max(page.version, page.purged)}
	default:
		w.lookup(url, page)
	}
}

func (w *clockWorld) lookup(url string, page *clockPage) {
	version, _ := found(w.t, w.s, url)
	live := page.version > 0 && w.clock.now().Before(page.keepUntil)
	switch {
	case version > 0 && version != page.version:
		w.t.Errorf("%s: version %d; the last one stored was %d, purged up to %d", url, version, page.version, page.purged)
	case version > 0 && !live:
		w.t.Errorf("%s: version %d at %v, kept until %v", url, version, w.clock.now(), page.keepUntil)
	case version == 0 && live && !page.expired:
		w.t.Errorf("%s: version %d is not there at %v, kept until %v", url, page.version, w.clock.now(), page.keepUntil)
	}
}

package store

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

// crowd has n readers of a store wait until on is closed, and returns how many are under way and
// how many were turned away.
func crowd(s *Store, n int, on chan struct{}) (under, crowded *atomic.Int32) {
	under, crowded = new(atomic.Int32), new(atomic.Int32)
	for range n {
		go func() {
			err := s.disk.view(func(*bbolt.Tx) error {
				under.Add(1)
				defer under.Add(-1)
				<-on
				return nil
			})
			if errors.Is(err, errCrowded) || errors.Is(err, errStalled) {
				crowded.Add(1)
			}
		}()
	}
	return under, crowded
}

// TestFaultCrowdAtADiskThatStandsStill: each call that does not come back holds a thread, and a
// process with 10,000 threads ends. However many readers come, a bounded number of calls is under
// way; the others wait without a thread and give up. The disk writer stands in no line. When the
// disk answers all calls come back, and few helpers stay.
func TestFaultCrowdAtADiskThatStandsStill(t *testing.T) {
	const readers = 3000
	cfg := Config{Path: t.TempDir(), Required: true}
	synctest.Test(t, func(t *testing.T) {
		s := New(cfg, diskTier)
		must(t, s.Open())
		s.Put(signedEntry(s, "http://example.com/", 1, 500), 0)
		must(t, s.Sync())
		on := make(chan struct{})
		under, crowded := crowd(s, readers, on)
		synctest.Wait()
		if n := under.Load(); n != maxHelpers {
			t.Errorf("%d calls are under way, want %d", n, maxHelpers)
		}
		within(t, "a purge behind them", 0, func() {
			if _, err := s.Purge(Selectors{URLs: []string{"http://example.com/"}}, PurgeOptions{}); err != nil {
				t.Errorf("Purge: %v", err)
			}
		})
		time.Sleep(stallTime)
		synctest.Wait()
		if n := crowded.Load(); n != readers {
			t.Errorf("%d of %d readers have given up", n, readers)
		}
		if u, n := under.Load(), len(s.disk.places); u != maxHelpers || n != maxHelpers {
			t.Errorf("%d calls and %d places after that", u, n)
		}
		close(on)
		synctest.Wait()
		if u, n := under.Load(), len(s.disk.places); u != 0 || n != 0 {
			t.Errorf("%d calls and %d places when the disk has answered", u, n)
		}
		time.Sleep(retryTime + 2*time.Second)
		if st := s.Stats(); st.Disk.State != "open" {
			t.Errorf("disk tier %+v", st.Disk)
		}
		if n := s.disk.use.idle.Load(); n > maxIdle {
			t.Errorf("%d helpers stay", n)
		}
		must(t, s.Close())
	})
}

// TestFaultCrowdIsNoStall: where calls come back, those in line have their turn, and the file is
// not given up.
func TestFaultCrowdIsNoStall(t *testing.T) {
	cfg := Config{Path: t.TempDir(), Required: true}
	synctest.Test(t, func(t *testing.T) {
		s := New(cfg, diskTier)
		must(t, s.Open())
		on := make(chan struct{})
		_, crowded := crowd(s, 2000, on)
		time.Sleep(stallTime - time.Second)
		close(on)
		synctest.Wait()
		if n, st := crowded.Load(), s.Stats(); n != 0 || st.Disk.State != "open" || st.Errors[DiskTier] != 0 {
			t.Errorf("%d turned away, disk tier %+v, errors %v", n, st.Disk, st.Errors)
		}
		must(t, s.Close())
	})
}

// TestFaultCrowdsOfManyStores: the places of all stores together are bounded too. A reader for
// which there is none gives up, which is counted, and the file is not given up for it.
func TestFaultCrowdsOfManyStores(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a, b := New(Config{Path: first, Required: true}, diskTier), New(Config{Path: second, Required: true}, diskTier)
		all := make(chan struct{}, 10)
		for _, s := range []*Store{a, b} {
			must(t, s.Open())
			s.disk.allPlaces = all
		}
		on := make(chan struct{})
		under, _ := crowd(a, 20, on)
		synctest.Wait()
		within(t, "a look-up", stallTime, func() {
			if r := b.Lookup(keyOf("http://example.com/"), matchAny); r.Entry != nil {
				t.Errorf("found %v", r.Entry)
			}
		})
		if n, st := under.Load(), b.Stats(); n != 10 || st.Disk.State != "open" || st.Errors[DiskTier] != 1 || len(b.disk.places) != 0 {
			t.Errorf("%d under way, disk tier %+v, errors %v, %d places", n, st.Disk, st.Errors, len(b.disk.places))
		}
		close(on)
		synctest.Wait()
		if len(all) != 0 {
			t.Errorf("%d places are left", len(all))
		}
		must(t, errors.Join(a.Close(), b.Close()))
		synctest.Wait()
	})
}

// TestFaultLookupsWaitAMoment: where the disk does not answer a look-up is a miss after a second,
// which is counted, and what was fetched instead is refused after another: something newer may be
// stored. The file is not given up for it.
func TestFaultLookupsWaitAMoment(t *testing.T) {
	cfg := Config{Path: t.TempDir(), Required: true}
	synctest.Test(t, func(t *testing.T) {
		s := New(cfg, bothTiers)
		must(t, s.Open())
		on := make(chan struct{})
		crowd(s, maxHelpers, on)
		synctest.Wait()
		const url = "http://example.com/"
		within(t, "a look-up", lookupTime, func() {
			if version, _ := found(t, s, url); version != 0 {
				t.Errorf("found version %d", version)
			}
		})
		within(t, "Put", lookupTime, func() {
			if result := s.Put(signedEntry(s, url, 1, 500), 0); result == Stored {
				t.Errorf("stored, and what is on disk is not known")
			}
		})
		if st := s.Stats(); st.Disk.State != "open" || st.Errors[DiskTier] != 2 {
			t.Errorf("disk tier %+v, errors %v", st.Disk, st.Errors)
		}
		close(on)
		synctest.Wait()
		if result := s.Put(signedEntry(s, url, 2, 500), 0); result != Stored {
			t.Errorf("Put when the disk answers: %v", result)
		}
		must(t, s.Close())
	})
}

// TestFaultLookupsWaitOnce: on a disk that stands still a request waited for each of its look-ups
// as if it were the first one, three seconds in all. While one is overdue the others wait less.
// When it has come back they have their time again.
func TestFaultLookupsWaitOnce(t *testing.T) {
	cfg := Config{Path: t.TempDir(), Required: true}
	synctest.Test(t, func(t *testing.T) {
		s := New(cfg, bothTiers)
		must(t, s.Open())
		on := make(chan struct{})
		look := func(want time.Duration) {
			t.Helper()
			began := time.Now()
			if err := s.disk.viewSoon(func(*bbolt.Tx) error { <-on; return nil }, nil); !errors.Is(err, errLate) {
				t.Errorf("it ends by %v", err)
			}
			if took := time.Since(began); took != want {
				t.Errorf("it has waited %v, want %v", took, want)
			}
		}
		look(lookupTime)
		look(overdueTime)
		look(overdueTime)
		close(on)
		synctest.Wait()
		on = make(chan struct{})
		look(lookupTime)
		close(on)
		synctest.Wait()
		if st := s.Stats(); st.Disk.State != "open" {
			t.Errorf("disk tier %+v", st.Disk)
		}
		must(t, s.Close())
	})
}

// TestFaultLookupsHaveTheirTimeAgain: a disk that takes longer than overdueTime for each look-up
// answers them, also after one that it did not answer in time, and while they overlap.
func TestFaultLookupsHaveTheirTimeAgain(t *testing.T) {
	cfg := Config{Path: t.TempDir(), Required: true}
	synctest.Test(t, func(t *testing.T) {
		s := New(cfg, bothTiers)
		must(t, s.Open())
		look := func(takes time.Duration) error {
			return s.disk.viewSoon(func(*bbolt.Tx) error { time.Sleep(takes); return nil }, nil)
		}
		if err := look(lookupTime + lookupTime/2); !errors.Is(err, errLate) {
			t.Errorf("it ends by %v", err)
		}
		var late atomic.Int32
		for range 20 { // begun every 150 ms
			go func() {
				if look(2*overdueTime) != nil {
					late.Add(1)
				}
			}()
			time.Sleep(overdueTime * 3 / 2)
		}
		time.Sleep(lookupTime)
		if n := late.Load(); n > 4 { // those of the half second until the first has come back
			t.Errorf("%d of 20 look-ups were given up", n)
		}
		must(t, s.Close())
	})
}

// TestFaultLookupsLeaveTheJudgement: who has not waited for as long as the disk is waited for does
// not give the file up. It is given up when the call has been under way for so long, and stays in
// use where it has come back by then.
func TestFaultLookupsLeaveTheJudgement(t *testing.T) {
	for took, want := range map[time.Duration]string{stallTime - time.Second: "open", stallTime + time.Second: "failed"} {
		cfg := Config{Path: t.TempDir(), Required: true}
		synctest.Test(t, func(t *testing.T) {
			s := New(cfg, bothTiers)
			must(t, s.Open())
			given := 0
			within(t, "a look-up", lookupTime, func() {
				err := s.disk.viewSoon(func(*bbolt.Tx) error { time.Sleep(took); return nil }, func() { given++ })
				if !errors.Is(err, errLate) || !errors.Is(err, errStalled) {
					t.Errorf("it ends by %v", err)
				}
			})
			if st := s.Stats(); st.Disk.State != "open" {
				t.Errorf("disk tier %+v after %v", st.Disk, lookupTime)
			}
			time.Sleep(took)
			synctest.Wait()
			if st := s.Stats(); st.Disk.State != want || given != 1 {
				t.Errorf("disk tier %+v after %v, given back %d times", st.Disk, took, given)
			}
			time.Sleep(retryTime + 2*time.Second)
			if st := s.Stats(); st.Disk.State != "open" {
				t.Errorf("disk tier %+v in the end", st.Disk)
			}
			must(t, s.Close())
			synctest.Wait()
		})
	}
}

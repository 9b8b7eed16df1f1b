package store

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// beginPurge begins a purge that is not to be refused.
func beginPurge(t testing.TB, s *Store, sel Selectors, opts PurgeOptions) *PurgeRequest {
	t.Helper()
	req, err := s.BeginPurge(sel, opts)
	if err != nil {
		t.Fatalf("BeginPurge: %v", err)
	}
	return req
}

// TestPurgeIsInForceBeforeItsCommit: while a write does not return, purges are in force at once,
// and say in the end that they are not durable.
func TestPurgeIsInForceBeforeItsCommit(t *testing.T) {
	dir := t.TempDir()
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Path: dir, Required: true}, bothTiers)
		must(t, s.Open())
		for n := range 4 {
			s.Put(signedEntry(s, url(n), 1, 500), 0)
		}
		must(t, s.Sync())
		before := s.Begin()
		disk := newStill()
		interceptWrites(t, s, disk.wrap(0, everyOffset))
		var reqs []*PurgeRequest
		within(t, "BeginPurge", 0, func() {
			for n := range 3 {
				reqs = append(reqs, beginPurge(t, s, Selectors{URLs: []string{url(n)}}, PurgeOptions{Severity: []Severity{Hard, Hard, Invalid}[n]}))
			}
		})
		<-disk.reached
		within(t, "what follows", 0, func() {
			for n, want := range []int{0, 0, 1, 1} {
				if version, severity := found(t, s, url(n)); version != want || (severity == Invalid) != (n == 2) {
					t.Errorf("%s: version %d, %v", url(n), version, severity)
				}
			}
			if s.Purged(url(0), nil, before.Generation()) != Hard {
				t.Error("a fetch begun before is not purged")
			}
		})
		before.End()
		within(t, "Wait", stallTime, func() {
			for _, req := range reqs {
				if _, err := req.Wait(); !errors.Is(err, ErrNotDurable) {
					t.Errorf("Wait: %v", err)
				}
			}
		})
		synctest.Wait()
		within(t, "Wait once more", 0, func() {
			if _, err := reqs[0].Wait(); !errors.Is(err, ErrNotDurable) {
				t.Errorf("Wait: %v", err)
			}
		})
		must(t, s.Close())
		close(disk.on)
		synctest.Wait()
	})
	s := openStore(t, Config{Path: dir, Required: true}, bothTiers)
	for n := range 3 {
		if version, _ := found(t, s, url(n)); version != 0 {
			t.Errorf("%s is back", url(n))
		}
	}
}

// TestPurgesAreCountedTogether: those that wait share transactions, and count like one after the
// other. Nobody has to wait for it.
func TestPurgesAreCountedTogether(t *testing.T) {
	const pages = 3 * maxGathered
	for name, dir := range map[string]string{"with a file": t.TempDir(), "memory alone": ""} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, Config{Path: dir}, bothTiers)
			url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
			for n := range pages {
				s.Put(testEntry(s, url(n), nil, "all"), 0)
			}
			dry := beginPurge(t, s, Selectors{Tags: []string{"all"}}, PurgeOptions{DryRun: true})
			if n, err := dry.Wait(); n != pages || err != nil {
				t.Errorf("dry run = %d, %v", n, err)
			}
			var reqs []*PurgeRequest
			for n := range pages - 1 {
				reqs = append(reqs, beginPurge(t, s, Selectors{URLs: []string{url(n)}}, PurgeOptions{}))
				if version, _ := found(t, s, url(n)); version != 0 {
					t.Errorf("%s is found", url(n))
				}
			}
			if n, err := s.Purge(Selectors{Tags: []string{"all"}}, PurgeOptions{}); n != 1 || err != nil {
				t.Errorf("the last one = %d, %v", n, err)
			}
			for _, req := range reqs {
				if n, err := req.Wait(); n != 1 || err != nil {
					t.Errorf("Wait = %d, %v", n, err)
				}
			}
			waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
			checkAgreement(t, s)
		})
	}
}

// TestCloseAnswersPurges: what is in force when the store is closed is in the file, and what comes
// later is refused.
func TestCloseAnswersPurges(t *testing.T) {
	dir := t.TempDir()
	const pages = 2*maxGathered + 1
	urls := fill(t, dir, pages, 10)
	s := New(Config{Path: dir, Required: true}, diskTier)
	early := beginPurge(t, s, Selectors{URLs: urls[:1]}, PurgeOptions{})
	if _, err := s.BeginPurge(Selectors{}, PurgeOptions{}); !errors.Is(err, ErrNoSelector) {
		t.Errorf("a purge of nothing: %v", err)
	}
	must(t, s.Open())
	var reqs []*PurgeRequest
	for _, url := range urls[1 : pages-1] {
		reqs = append(reqs, beginPurge(t, s, Selectors{URLs: []string{url}}, PurgeOptions{}))
	}
	must(t, s.Close())
	if n, err := early.Wait(); n != 1 || err != nil {
		t.Errorf("before Open: %d, %v", n, err)
	}
	for i, req := range reqs {
		if n, err := req.Wait(); n != 1 || err != nil {
			t.Errorf("purge %d = %d, %v", i, n, err)
		}
	}
	if _, err := s.BeginPurge(Selectors{All: true}, PurgeOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("a purge of a closed store: %v", err)
	}
	if s.diskWriter.requests.add(new(PurgeRequest)) { // as one that saw the store open
		t.Error("the disk writer that has ended takes a purge")
	}
	s = openStore(t, Config{Path: dir, Required: true}, diskTier)
	if gone, left := hits(t, s, urls[:pages-1]), hits(t, s, urls[pages-1:]); gone != 0 || left != 1 {
		t.Errorf("%d of what was purged, %d of the rest", gone, left)
	}
}

// TestPurgesAreWaitedForBehindOthers: a purge behind many gives up when the disk has answered none
// of them for a while, and not when they take their time.
func TestPurgesAreWaitedForBehindOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := keptByHand(t, bothTiers) // nothing is answered but by hand
		req := beginPurge(t, s, Selectors{All: true}, PurgeOptions{})
		began, took := time.Now(), make(chan time.Duration)
		wait := func(want error) {
			if _, err := req.Wait(); !errors.Is(err, want) {
				t.Errorf("Wait: %v, want %v", err, want)
			}
			took <- time.Since(began)
		}
		go wait(ErrNotDurable)
		for range 2 { // others
			time.Sleep(stallTime - time.Second)
			other := &PurgeRequest{rec: s.purges.issue(Selectors{Tags: []string{"t"}}, Hard, 0), done: make(chan struct{})}
			s.diskWriter.waiting.Add(1)
			s.diskWriter.commitPurges([]*PurgeRequest{other})
		}
		if got := <-took; got != 3*stallTime {
			t.Errorf("it has waited %v, want %v", got, 3*stallTime)
		}
		s.diskWriter.commitWaiting()
		go wait(nil)
		if got := <-took; got != 3*stallTime {
			t.Errorf("an answer that is there takes until %v", got)
		}
	})
}

// TestPurgesWaitUntilALimit: where a slow disk comes forward all the time, and not to a purge, that
// gives up when its patience has ended, and holds in memory. So each request has one deadline,
// whatever it waits behind.
func TestPurgesWaitUntilALimit(t *testing.T) {
	for patience, want := range map[time.Duration]time.Duration{0: purgeTime, 4 * time.Second: 4 * time.Second, stallTime: stallTime} {
		synctest.Test(t, func(t *testing.T) {
			s := keptByHand(t, bothTiers)
			s.Put(testEntry(s, "http://example.com/", nil), 0)
			req := beginPurge(t, s, Selectors{All: true}, PurgeOptions{Patience: patience})
			took := make(chan time.Duration, 1)
			go func() {
				began := time.Now()
				if _, err := req.Wait(); !errors.Is(err, ErrNotDurable) || !errors.Is(err, errSlow) {
					t.Errorf("Wait: %v", err)
				}
				took <- time.Since(began)
			}()
			for range 40 { // seconds in which something is counted
				time.Sleep(time.Second)
				s.diskWriter.walked.Add(1)
			}
			if got := <-took; got != want {
				t.Errorf("it has waited %v, want %v", got, want)
			}
			if version := hits(t, s, []string{"http://example.com/"}); version != 0 {
				t.Error("it does not hold")
			}
			s.diskWriter.commitWaiting()
		})
	}
}

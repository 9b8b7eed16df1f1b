package store

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// orderSettings are tiers in which the answer to a later request may stand.
var orderSettings = []struct {
	name     string
	disk     bool
	settings Settings
}{
	{"memory only", false, Settings{Memory: 16 << 20}},
	{"both", true, Settings{Memory: 16 << 20, Disk: 64 << 20}},
	{"disk under a tiny memory", true, Settings{Memory: 1, Disk: 64 << 20}},
}

// askedAt is an entry whose request was so many seconds after the clock's beginning. Its body tells
// the second.
func askedAt(s *Store, clock *testClock, url string, second int, names ...string) *Entry {
	e := signedEntry(s, url, second+1, 100)
	e.RequestTime = newTestClock().now().Add(time.Duration(second) * time.Second)
	e.ResponseTime, e.KeepUntil = clock.now(), clock.now().Add(time.Hour)
	e.Variant = Variant{Names: names, Values: make([]string, len(names))}
	return e
}

func orderStore(t *testing.T, disk bool, settings Settings) (*Store, *testClock) {
	clock := newTestClock()
	cfg := Config{Required: true, Now: clock.now}
	if disk {
		cfg.Path = t.TempDir()
	}
	clock.advance(time.Hour)
	return openStore(t, cfg, settings), clock
}

// wantSecond checks which of the answers is found.
func wantSecond(t *testing.T, s *Store, url string, second int) {
	t.Helper()
	if version, _ := found(t, s, url); version != second+1 {
		t.Errorf("%s: the answer to the request of second %d is found, not that of %d", url, version-1, second)
	}
}

// TestOrderOfAnswers stores answers of one variant in every order, at the same instant and one
// after the other, in every tier. The answer to the latest request stays.
func TestOrderOfAnswers(t *testing.T) {
	for _, tt := range orderSettings {
		t.Run(tt.name, func(t *testing.T) {
			rng := seeded(t)
			s, clock := orderStore(t, tt.disk, tt.settings)
			for round := range rounds(300, 5000) {
				url := fmt.Sprintf("http://example.com/%d", round)
				seconds := rng.Perm(4)
				var together sync.WaitGroup
				for i, second := range seconds {
					put := func() {
						if r := s.Put(askedAt(s, clock, url, second), 0); r != Stored && r != RefusedOlder {
							t.Errorf("Put = %v", r)
						}
					}
					if together.Go(put); i%2 == round%2 { // two of them at the same instant
						together.Wait()
					}
				}
				together.Wait()
				wantSecond(t, s, url, 3)
			}
			checkAgreement(t, s)
		})
	}
}

// TestOrderAgainstTheFile has the answer to the later request on disk alone, after a restart.
func TestOrderAgainstTheFile(t *testing.T) {
	clock := newTestClock()
	clock.advance(time.Hour)
	cfg := Config{Path: t.TempDir(), Required: true, Now: clock.now}
	settings := Settings{Memory: 16 << 20, Disk: 64 << 20}
	s := openStore(t, cfg, settings)
	const url = "http://example.com/"
	s.Put(askedAt(s, clock, url, 5), 0)
	s.Put(askedAt(s, clock, url, 7, "Accept"), 0)
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	s = openStore(t, cfg, settings)
	if r := s.Put(askedAt(s, clock, url, 4), 0); r != RefusedOlder {
		t.Errorf("Put of an older answer = %v", r)
	}
	if r := s.Put(askedAt(s, clock, url, 6), 0); r != Stored {
		t.Errorf("Put of an answer that is older than another variant's = %v", r)
	}
	wantSecond(t, s, url, 7)
}

// TestOrderUnderPressure refuses an older answer where memory has no room. That must not cost what
// is stored.
func TestOrderUnderPressure(t *testing.T) {
	s, clock := orderStore(t, false, Settings{Memory: 1 << 20, Eviction: None})
	const url = "http://example.com/"
	s.Put(askedAt(s, clock, url, 5), 0)
	for i := 0; ; i++ {
		if s.Put(signedEntry(s, fmt.Sprintf("http://example.com/%d", i), 1, 4000), 0) != Stored {
			break
		}
	}
	older := signedEntry(s, url, 1, 50_000)
	older.RequestTime = newTestClock().now()
	if r := s.Put(older, 0); r == Stored {
		t.Errorf("Put of an older answer = %v", r)
	}
	wantSecond(t, s, url, 5)
}

// TestOrderWhereTheClockWasAhead replaces what was asked for while the clock was ahead.
func TestOrderWhereTheClockWasAhead(t *testing.T) {
	for _, tt := range orderSettings {
		t.Run(tt.name, func(t *testing.T) {
			s, clock := orderStore(t, tt.disk, tt.settings)
			const url, other = "http://example.com/", "http://example.com/other"
			clock.advance(time.Hour)
			s.Put(askedAt(s, clock, url, 7000), 0)
			s.Put(askedAt(s, clock, other, 7000), 0)
			clock.advance(-time.Hour)
			if r := s.Put(askedAt(s, clock, url, 3000), 0); r != Stored {
				t.Errorf("Put = %v", r)
			}
			s.Put(askedAt(s, clock, other, 3000, "Accept"), 0)
			wantSecond(t, s, url, 3000)
			wantSecond(t, s, other, 3000)
		})
	}
}

// TestOrderOfVariants has two variants that the same requests select. The answer to the later
// request is found, whichever came last.
func TestOrderOfVariants(t *testing.T) {
	for _, tt := range orderSettings {
		t.Run(tt.name, func(t *testing.T) {
			s, clock := orderStore(t, tt.disk, tt.settings)
			for i, seconds := range [][2]int{{10, 5}, {5, 10}} {
				url := fmt.Sprintf("http://example.com/%d", i)
				s.Put(askedAt(s, clock, url, seconds[0]), 0)
				clock.advance(time.Second)
				s.Put(askedAt(s, clock, url, seconds[1], "Accept"), 0)
				wantSecond(t, s, url, 10)
				if err := s.Sync(); err != nil {
					t.Fatalf("Sync: %v", err)
				}
				wantSecond(t, s, url, 10)
			}
		})
	}
}

// TestOrderOfRenewals renews only what is still stored. What an answer to a later request, or to an
// earlier one, has replaced, or what was removed, is not renewed.
func TestOrderOfRenewals(t *testing.T) {
	for _, tt := range orderSettings {
		for _, size := range []int{100, 100_000} {
			t.Run(fmt.Sprint(tt.name, size), func(t *testing.T) {
				s, clock := orderStore(t, tt.disk, tt.settings)
				if tt.settings.Memory == 1 && !tt.disk {
					return
				}
				rng := rand.New(rand.NewPCG(1, uint64(size)))
				for i, meanwhile := range []func(e *Entry){
					func(e *Entry) {},
					func(e *Entry) { s.Remove(e) },
					func(e *Entry) { s.Put(askedAt(s, clock, e.URL, 5), 0) },
					func(e *Entry) { s.Put(askedAt(s, clock, e.URL, 9), 0) },
				} {
					url := fmt.Sprintf("http://example.com/%d", i)
					first := askedAt(s, clock, url, 1)
					first.Body = NewBody([][]byte{signedBody(url, 2, size)})
					s.Put(first, 0)
					if rng.IntN(2) == 0 {
						if err := s.Sync(); err != nil {
							t.Fatalf("Sync: %v", err)
						}
					}
					old := s.Lookup(keyOf(url), matchAny)
					meanwhile(old.Entry)
					renewal := old.Entry.Renewal()
					renewal.RequestTime = newTestClock().now().Add(7 * time.Second)
					if r := s.Put(renewal, 0); (r == Stored) != (i == 0) {
						t.Errorf("%d: Put of the renewal = %v", i, r)
					}
					old.Release()
				}
			})
		}
	}
}

// TestAlone knows the first response of a key as the only one without asking the disk, and finds
// the second.
func TestAlone(t *testing.T) {
	for _, tt := range orderSettings {
		t.Run(tt.name, func(t *testing.T) {
			s, clock := orderStore(t, tt.disk, tt.settings)
			for i := range 100 {
				url := fmt.Sprintf("http://example.com/%d", i)
				if r := s.Lookup(keyOf(url), matchAny); r.Entry != nil {
					t.Fatal("something is stored")
				}
				s.Put(askedAt(s, clock, url, 1), 0)
				// What is in no memory is known to the disk alone.
				if alone := s.Alone(keyOf(url)); !alone && tt.settings.Memory > 1 {
					t.Errorf("%s: the first is not alone", url)
				}
				s.Put(askedAt(s, clock, url, 2, "Accept"), 0)
				if s.Alone(keyOf(url)) {
					t.Errorf("%s: two are alone", url)
				}
				wantSecond(t, s, url, 2)
			}
			checkAgreement(t, s)
		})
	}
}

package coalesce

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestOnEmpty: what a flight's members answer from is given back once, after the fetch and the last
// of them.
func TestOnEmpty(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(f *Flight)
	}{
		{"finished", func(f *Flight) { f.Share("response", -1); f.Finish(nil) }},
		{"failed", func(f *Flight) { f.Fail(errors.New("broken")) }},
		{"released", func(f *Flight) { f.Release(); f.Finish(nil) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
				f, leader := join(t, g, true)
				_, follower := join(t, g, false)
				calls := 0
				f.OnEmpty(func() {
					calls++
					f.Waiting() // takes the lock, which must not be held now
				})
				tc.end(f)
				f.Settle()
				leader.Leave()
				if calls != 0 {
					t.Errorf("%d calls while there is a member", calls)
				}
				follower.Leave()
				follower.Leave()
				if calls != 1 {
					t.Errorf("%d calls, want one", calls)
				}
				f.OnEmpty(func() { calls++ })
				if calls != 2 {
					t.Error("no call for a flight that is empty already")
				}
			})
		})
	}
}

type storerFunc func()

func (fn storerFunc) Unstorable() { fn() }

// OnUnstorable tells once, and as soon as it is certain, that the body will not be had whole. It
// does not tell of one that is kept.
func TestOnUnstorable(t *testing.T) {
	for _, tc := range []struct {
		name       string
		do         func(*Flight)
		unstorable bool
	}{
		{"shared", func(f *Flight) { f.Share(nil, -1) }, false},
		{"finished", func(f *Flight) { f.Share(nil, -1); f.Finish(nil); f.Settle() }, false},
		{"released", (*Flight).Release, true},
		{"rejected", (*Flight).Reject, true},
		{"failed before the header", func(f *Flight) { f.Fail(errOrigin) }, true},
		{"failed in mid-body", func(f *Flight) { f.Share(nil, -1); f.Fail(errOrigin) }, true},
		{"abandoned", (*Flight).Settle, true},
		{"past max", func(f *Flight) { f.Share(nil, 1); _, _ = f.Write([]byte("ab")) }, true},
		{"no room", func(f *Flight) { f.Keep(true); f.Share(nil, -1); go f.Write(pattern(1, 2*window)); synctest.Wait() }, true},
		{"too old", func(f *Flight) { f.Share(nil, -1); time.Sleep(time.Minute); synctest.Wait() }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, window, Limits{Window: 4 * window, Life: time.Minute}, func(t *testing.T, g *Group[string], _ *ledger) {
				f, m := join(t, g, true)
				early, late := 0, 0
				f.OnUnstorable(storerFunc(func() {
					early++
					if f.joinable() {
						t.Error("told while the flight can be joined")
					}
				}))
				tc.do(f)
				if unstorable := early > 0; unstorable != tc.unstorable {
					t.Errorf("told %v, want %v", unstorable, tc.unstorable)
				}
				if tc.unstorable {
					f.OnUnstorable(storerFunc(func() { late++ }))
					if late != 1 {
						t.Error("not told at once of what is certain already")
					}
				}
				f.Fail(errOrigin)
				f.Settle()
				m.Leave()
				if early > 1 {
					t.Errorf("told %d times", early)
				}
			})
		})
	}
}

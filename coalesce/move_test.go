package coalesce

import "testing"

// quietly is for Move, where no one has to be told.
func quietly() bool { return true }

// A flight that has moved is joined by its new key only, and leaves the group when it ends.
func TestMove(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, _ := g.Join("whole", nil, nil)
		g.Move(f, "part", quietly)
		f.Share(nil, -1)
		same, follower, started := g.Join("part", nil, nil)
		if same != f || started {
			t.Fatal("the flight is not joined by its new key")
		}
		other, otherLead, started := g.Join("whole", nil, nil)
		if other == f || !started {
			t.Fatal("the flight is joined by its old key")
		}
		g.Move(other, "part", quietly) // which is taken
		last, lastLead, started := g.Join("whole", nil, nil)
		if last == other || !started {
			t.Fatal("a flight that had to move is joined by its old key")
		}
		for _, ended := range []*Flight{f, other, last} {
			ended.Share(nil, -1)
			ended.Finish(nil)
			ended.Settle()
		}
		for _, m := range []*Member{lead, follower, otherLead, lastLead} {
			park(m, 0, nil).expect(t, Shared)
			m.Leave()
		}
		if len(g.flights) > 0 {
			t.Errorf("%d flights that are over are in the group", len(g.flights))
		}
	})
}

// One that is over, or cannot be joined at all, does not come back by another key.
func TestMoveTooLate(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, _ := g.Join("whole", nil, nil)
		solo, alone := g.Solo(nil)
		g.Move(solo, "part", quietly)
		f.Fail(ErrAbandoned)
		f.Settle()
		g.Move(f, "part", quietly)
		if len(g.flights) > 0 {
			t.Errorf("the group has %v", g.flights)
		}
		solo.Settle()
		lead.Leave()
		alone.Leave()
	})
}

// While others are told of the new key, a flight is joined by both.
func TestMoveIsJoinedByBothKeys(t *testing.T) {
	for _, moved := range []bool{true, false} {
		inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
			f, lead, _ := g.Join("whole", nil, nil)
			members := []*Member{lead}
			join := func(key string, want bool) {
				t.Helper()
				same, m, started := g.Join(key, nil, nil)
				members = append(members, m)
				if joined := same == f; joined != want {
					t.Errorf("joined by %q: %t, want %t", key, joined, want)
				}
				if started {
					same.Fail(ErrAbandoned)
					same.Settle()
				}
			}
			if told := g.Move(f, "part", func() bool {
				join("whole", true)
				join("part", true)
				return moved
			}); told != moved {
				t.Errorf("Move returned %t, want what publish has", told)
			}
			join("whole", !moved)
			join("part", moved)
			f.Fail(ErrAbandoned)
			f.Settle()
			for _, m := range members {
				m.Leave()
			}
			if len(g.flights) > 0 {
				t.Errorf("%d flights that are over are in the group", len(g.flights))
			}
		})
	}
}

// A flight that ends while it moves leaves by both keys.
func TestMoveOfWhatEnds(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, _ := g.Join("whole", nil, nil)
		g.Move(f, "part", func() bool {
			f.Fail(ErrAbandoned)
			f.Settle()
			return true
		})
		lead.Leave()
		if len(g.flights) > 0 {
			t.Errorf("the group has %v", g.flights)
		}
	})
}

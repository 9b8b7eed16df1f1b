package coalesce

import "testing"

// A flight that has moved is joined by its new key only, and leaves the group when it ends.
func TestMove(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, _ := g.Join("whole", nil, nil)
		g.Move(f, "part")
		f.Share(nil, -1)
		same, follower, started := g.Join("part", nil, nil)
		if same != f || started {
			t.Fatal("the flight is not joined by its new key")
		}
		other, otherLead, started := g.Join("whole", nil, nil)
		if other == f || !started {
			t.Fatal("the flight is joined by its old key")
		}
		g.Move(other, "part") // which is taken
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
		g.Move(solo, "part")
		f.Fail(ErrAbandoned)
		f.Settle()
		g.Move(f, "part")
		if len(g.flights) > 0 {
			t.Errorf("the group has %v", g.flights)
		}
		solo.Settle()
		lead.Leave()
		alone.Leave()
	})
}

package fleettest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/larder-cache/larder/fleet"
)

// Beat implements fleet.Log.
func (e *Engine) Beat(ctx context.Context, has fleet.Place, node fleet.Node) (state fleet.State, err error) {
	err = e.write(ctx, "Beat", func(s *Server) {
		s.ensure(has)
		was := s.data.nodes[node.ID]
		node.Beats, node.Number = was.Beats+1, max(was.Number, node.Number)
		state = s.state()
		node.Seen = state.Now
		s.data.nodes[node.ID] = node
	})
	return state, err
}

// Append implements fleet.Log.
func (e *Engine) Append(ctx context.Context, has fleet.Place, data []byte, replicas int) (
	out fleet.Appended, err error,
) {
	err = e.write(ctx, "Append", func(s *Server) {
		s.ensure(has)
		s.append(fleet.Record{Generation: s.data.gen + 1, Data: bytes.Clone(data)})
		out = fleet.Appended{Generation: s.data.gen, Nodes: s.nodes(), State: s.state()}
		if replicas > 0 {
			out.Replicas = s.replicas
		}
	})
	return out, err
}

// Nodes implements fleet.Log.
func (e *Engine) Nodes(ctx context.Context) (nodes []fleet.Node, state fleet.State, err error) {
	err = e.write(ctx, "Nodes", func(s *Server) {
		s.ensure(fleet.Place{})
		nodes, state = s.nodes(), s.state()
	})
	return nodes, state, err
}

// Evict implements fleet.Log.
func (e *Engine) Evict(ctx context.Context, seen fleet.Node) error {
	return e.write(ctx, "Evict", func(s *Server) {
		if now := s.data.nodes[seen.ID]; now.Beats == seen.Beats && now.Seen.Equal(seen.Seen) {
			delete(s.data.nodes, seen.ID)
		}
	})
}

// Leave implements fleet.Log.
func (e *Engine) Leave(ctx context.Context, id string) error {
	return e.write(ctx, "Leave", func(s *Server) { delete(s.data.nodes, id) })
}

// Read implements fleet.Log.
func (e *Engine) Read(ctx context.Context, has fleet.Place, after fleet.Generation, limit int, wait time.Duration) (
	records []fleet.Record, state fleet.State, err error,
) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for over := wait <= 0; ; {
		var grown <-chan struct{}
		err := e.write(ctx, "Read", func(s *Server) {
			s.ensure(has)
			records, state, grown = s.after(after, limit), s.state(), s.grown
		})
		if err != nil || len(records) > 0 || state.Tail > after || over {
			return records, state, err
		}
		select {
		case <-grown:
		case <-timer.C:
			over = true
		case <-ctx.Done():
		case <-e.closed:
		}
	}
}

// ensure begins a new epoch or a new term where it has to.
func (s *Server) ensure(has fleet.Place) {
	whole := s.data.epoch != "" && s.data.hasLog
	// A term that has not begun yet, by a clock that was set back, would be young for as long.
	goesOn := whole && s.data.run == s.run && !s.now().Before(s.data.since)
	switch lacks := goesOn && s.lacks(has); {
	case goesOn && !lacks:
		return
	case !whole || lacks:
		s.epochs++
		s.data.epoch = fmt.Sprintf("epoch %06d", s.epochs)
	}
	s.data.run = s.run
	s.data.since = s.now()
	s.data.mark = s.nextTerm()
	s.append(fleet.Record{Generation: s.data.mark, Mark: true})
}

// lacks tells whether the log has not got what a node has applied: it was put back to an older
// state.
func (s *Server) lacks(has fleet.Place) bool {
	switch {
	case has.Epoch > s.data.epoch: // it began later
		return true
	case has.Epoch != s.data.epoch || has.Mark < s.data.mark:
		return false
	case has.Mark > s.data.mark:
		return true
	case s.data.nodes[has.Node].Beats > 0 && s.data.nodes[has.Node].Number < has.Beaten:
		return true
	case has.Generation < s.data.mark, has.Generation < s.state().First:
		return false
	}
	if records := s.after(has.Generation-1, 1); len(records) > 0 && records[0].Generation == has.Generation {
		return records[0].ID != has.ID
	}
	return has.Generation != s.data.gen || has.ID != s.data.id
}

// nextTerm is above all that was lost: what is there, what the clock says, and then a stretch that
// two terms do not share, though they begin at the same place.
func (s *Server) nextTerm() fleet.Generation {
	last := s.data.gen
	if n := len(s.data.log); n > 0 {
		last = max(last, s.data.log[n-1].Generation)
	}
	if last == 0 {
		return fleet.Generation(s.now().UnixMicro())
	}
	return last + 1<<32 + fleet.Generation(s.run+s.epochs)<<20
}

func (s *Server) append(r fleet.Record) {
	s.records++
	r.ID = strconv.Itoa(s.records)
	s.data.gen, s.data.id, s.data.hasLog = r.Generation, r.ID, true
	s.data.log = append(s.data.log, r)
	s.data.bytes += size(r)
	if len(s.data.log) > s.history+s.history/10 {
		s.data.trim(s.history)
	}
	if most := fleet.HistoryBytes(s.history); s.data.bytes > most {
		stay, left := len(s.data.log), s.data.bytes
		for ; stay > 1 && left > most-most/16; stay-- {
			left -= size(s.data.log[len(s.data.log)-stay])
		}
		s.data.trim(stay)
	}
	close(s.grown)
	s.grown = make(chan struct{})
}

func (s *Server) after(g fleet.Generation, limit int) []fleet.Record {
	first, _ := slices.BinarySearchFunc(s.data.log, g+1, func(r fleet.Record, g fleet.Generation) int {
		return cmp.Compare(r.Generation, g)
	})
	records := slices.Clone(s.data.log[first:min(len(s.data.log), first+limit)])
	for i := range records {
		records[i].Data = bytes.Clone(records[i].Data)
	}
	return records
}

func (s *Server) state() fleet.State {
	state := fleet.State{Epoch: s.data.epoch, Tail: s.data.gen, ID: s.data.id, First: s.data.gen, Mark: s.data.mark, Bytes: s.data.bytes, Now: s.now()}
	state.Term = state.Now.Sub(s.data.since)
	if len(s.data.log) > 0 {
		state.First = s.data.log[0].Generation
	}
	return state
}

func (s *Server) nodes() []fleet.Node {
	return slices.SortedFunc(maps.Values(s.data.nodes), func(a, b fleet.Node) int { return cmp.Compare(a.ID, b.ID) })
}

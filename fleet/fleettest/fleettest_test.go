package fleettest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/fleet"
)

func TestEngineInMemory(t *testing.T) {
	t.Parallel()
	TestEngine(t, func(*testing.T) []fleet.Engine { return engines(NewServer(), 2) })
}

func TestLossesInMemory(t *testing.T) {
	t.Parallel()
	TestLosses(t, func(*testing.T) ([]fleet.Engine, Losses) {
		s := NewServer()
		return engines(s, 3), Losses{
			Flush: s.Flush, Restart: s.Restart, LoseNodes: s.LoseNodes, LoseLog: s.LoseLog, PutBack: s.PutBack, Remove: s.Remove,
		}
	})
}

func TestHistoryInMemory(t *testing.T) {
	t.Parallel()
	TestHistory(t, func(_ *testing.T, records int) []fleet.Engine {
		s := NewServer()
		s.SetHistory(records)
		return engines(s, 2)
	})
}

func engines(s *Server, n int) []fleet.Engine {
	var out []fleet.Engine
	for _, c := range s.Clients(n) {
		out = append(out, c)
	}
	return out
}

// A reply that is lost was done; a call that met an error was not.
func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer()
		a := s.Clients(2)[1]
		_, state := nodesOf(t, a)
		s.SetFault(func(c Call) Fault {
			if c.Client == 1 && c.Method == "Append" {
				return Fault{ReplyDelay: time.Second, ReplyErr: ErrLost}
			}
			return Fault{}
		})
		begun := time.Now()
		if _, err := a.Append(t.Context(), fleet.Place{}, []byte("x"), 0); !errors.Is(err, ErrLost) || time.Since(begun) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		s.SetFault(func(Call) Fault { return Fault{Delay: time.Minute} })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Append(ctx, fleet.Place{}, []byte("y"), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		s.SetFault(func(Call) Fault { return Fault{} })
		if records := readAll(t, a, state.Tail); len(records) != 1 || string(records[0].Data) != "x" {
			t.Errorf("the log has %+v", records)
		}
	})
}

func TestReadOnly(t *testing.T) {
	s := NewServer()
	a := s.Clients(1)[0]
	s.SetReadOnly(true)
	reads := []string{"Find", "Record", "Chunks", "HasChunks", "Look"}
	for name, call := range calls {
		if slices.Contains([]string{"Read, waiting", "Listen"}, name) {
			continue
		}
		if err := call(t.Context(), a); errors.Is(err, fleet.ErrReadOnly) == slices.Contains(reads, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a promotion loses comes back under no generation that it had.
func TestPromotionsThatLose(t *testing.T) {
	s := NewServer()
	a := s.Clients(1)[0]
	appendRecord(t, a, "kept")
	promote := s.Snapshot()
	seen := map[fleet.Generation]string{}
	for _, name := range []string{"first", "second", "third"} {
		for range 100 {
			out := appendRecord(t, a, name)
			if other, twice := seen[out.Generation]; twice {
				t.Fatalf("%d is of the %s and the %s term", out.Generation, other, name)
			}
			seen[out.Generation] = name
		}
		promote()
	}
	_, state := nodesOf(t, a)
	if records := readAll(t, a, 0); len(records) != 3 || string(records[1].Data) != "kept" || state.Tail <= records[1].Generation {
		t.Errorf("the log has %+v", records)
	}
}

func TestTrim(t *testing.T) {
	s := NewServer()
	a := s.Clients(1)[0]
	s.SetHistory(10)
	for range 12 {
		appendRecord(t, a, "x")
	}
	if records := readAll(t, a, 0); len(records) < 10 || len(records) > 11 {
		t.Errorf("%d records, want 10 or 11", len(records))
	}
	s.Trim(3)
	_, state := nodesOf(t, a)
	if records := readAll(t, a, 0); len(records) != 3 || state.First != records[0].Generation {
		t.Errorf("first %d, records %+v", state.First, records)
	}
}

func TestDisconnectEndsListening(t *testing.T) {
	a := NewEngine()
	err := a.Listen(t.Context(), "one", a.Server().Disconnect, func(string, []byte) {})
	if !errors.Is(err, ErrLost) {
		t.Error(err)
	}
}

//go:build unix

package redis

import (
	"fmt"
	"testing"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	fleettest.TestEngine(t, func(t *testing.T) []fleet.Engine {
		config := Config{Addresses: []string{s.url()}, Name: newName()}
		return []fleet.Engine{open(t, config), open(t, config)}
	})
}

func TestLosses(t *testing.T) {
	t.Parallel()
	fleettest.TestLosses(t, func(t *testing.T) ([]fleet.Engine, fleettest.Losses) {
		s := newServer(t, "--appendonly", "yes", "--appendfsync", "always")
		return []fleet.Engine{s.open(t), s.open(t), s.open(t)}, fleettest.Losses{
			Flush:     func() { s.do("FLUSHALL") },
			Restart:   func() { s.kill(); s.start() },
			LoseNodes: func() { s.do("DEL", "{larder:1:larder}:fleet") },
			LoseLog:   func() { s.do("DEL", "{larder:1:larder}:log") },
			PutBack:   func() (back func()) { return s.copied("{larder:1:larder}:fleet", "{larder:1:larder}:log") },
			Remove: func(g fleet.Generation) {
				s.do("XDEL", "{larder:1:larder}:log", fmt.Sprintf("%d-0", g))
			},
		}
	})
}

func TestHistory(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	fleettest.TestHistory(t, func(t *testing.T, records int) []fleet.Engine {
		config := Config{Addresses: []string{s.url()}, Name: newName(), History: records}
		return []fleet.Engine{open(t, config), open(t, config)}
	})
}

// TestReadsAreBounded: of long records fewer are read at once.
func TestReadsAreBounded(t *testing.T) {
	t.Parallel()
	e := open(t, Config{Addresses: []string{sharedServer(t).url()}, Name: newName()})
	data := make([]byte, 32<<10)
	after, n := stateOfLog(t, e).Tail, 100
	for range n {
		_, err := e.Append(within(t), fleet.Place{}, data, 0)
		must(t, err)
	}
	for n > 0 {
		records, _, err := e.Read(within(t), fleet.Place{}, after, 512, 0)
		must(t, err)
		if len(records) == 0 || len(records) > 64 {
			t.Fatalf("%d records are read at once, %d are left", len(records), n)
		}
		n -= len(records)
		after = records[len(records)-1].Generation
	}
}

// TestManyRecordsAreReadAtOnce: a log is read with few calls, also by a user who may not MULTI, and
// from a server that is full.
func TestManyRecordsAreReadAtOnce(t *testing.T) {
	t.Parallel()
	const n, limit = 3000, 1000
	for name, tt := range map[string]struct {
		hinder func(s *server)
		most   int // calls
	}{
		"as a rule": {func(*server) {}, n/limit + 1},
		"MULTI is not allowed": {func(s *server) {
			s.do("ACL", "SETUSER", "default", "-multi")
		}, n/someRecords + 2},
		"full": {func(s *server) {
			s.do("CONFIG", "SET", "maxmemory", "1mb")
		}, n/someRecords + 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			e := s.open(t)
			after := stateOfLog(t, e).Tail
			for i := range n {
				_, err := e.Append(within(t), fleet.Place{}, fmt.Append(nil, i), 0)
				must(t, err)
			}
			tt.hinder(s)
			read, calls := 0, 0
			for ; read < n; calls++ {
				records, state, err := e.Read(within(t), fleet.Place{}, after, limit, 0)
				must(t, err)
				if len(records) == 0 || len(records) > limit || state.Tail < after+fleet.Generation(len(records)) {
					t.Fatalf("%d records at %+v", len(records), state)
				}
				for _, r := range records {
					if after++; r.Generation != after || string(r.Data) != fmt.Sprint(read) || len(r.ID) != 8 {
						t.Fatalf("record %d is %+v", read, r)
					}
					read++
				}
			}
			if calls > tt.most {
				t.Errorf("%d calls, want %d at most", calls, tt.most)
			}
		})
	}
}

// copied copies keys, and returns a function that puts the copies in their place.
func (s *server) copied(keys ...string) (back func()) {
	for _, key := range keys {
		s.do("COPY", key, key+" as it was", "REPLACE")
	}
	return func() {
		for _, key := range keys {
			s.do("COPY", key+" as it was", key, "REPLACE")
		}
	}
}

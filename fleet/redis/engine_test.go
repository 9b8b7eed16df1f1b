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

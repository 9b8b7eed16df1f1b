//go:build unix

package redis

import (
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
)

// fill puts chunks until one is refused, or far more than fit.
func fill(t *testing.T, e *Engine) (refused bool) {
	t.Helper()
	for i := range 64 {
		err := e.PutChunk(within(t), "fill", i, make([]byte, 256<<10), time.Hour)
		if errors.Is(err, fleet.ErrReadOnly) {
			return true
		}
		must(t, err)
	}
	return false
}

// full is a server with room for 4 MiB more than it needs.
func full(t *testing.T, policy string) (*server, *Engine) {
	t.Helper()
	s := newServer(t, "--maxmemory-policy", policy)
	e := s.open(t)
	stateOfLog(t, e)
	s.do("CONFIG", "SET", "maxmemory", "6mb")
	return s, e
}

// Whatever a server does when it is full, purges, beats and leases go on, and the log says what it
// has lost.
func TestFull(t *testing.T) {
	t.Parallel()
	for policy, keeps := range map[string]bool{
		"noeviction": true, "volatile-lru": true, "volatile-lfu": true, "volatile-random": true, "volatile-ttl": true,
		"allkeys-lru": false, "allkeys-lfu": false, "allkeys-random": false,
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			_, e := full(t, policy)
			must(t, e.PutRecord(within(t), "key", "v", []byte("record"), []byte("row"), time.Hour))
			was := stateOfLog(t, e)
			for round := range 3 {
				if refused := fill(t, e); refused != (policy == "noeviction") {
					t.Errorf("refused: %v", refused)
				}
				if policy == "noeviction" {
					eventually(t, "records are refused too", func() bool {
						err := e.PutRecord(within(t), rand.Text(), "v", make([]byte, 1<<10), nil, time.Hour)
						return errors.Is(err, fleet.ErrReadOnly)
					})
				}
				goesOn(t, e, fmt.Sprint(round))
			}
			if is := stateOfLog(t, e); keeps && (is.Epoch != was.Epoch || is.First != was.First) {
				t.Errorf("%+v, was %+v", is, was)
			}
			if record, err := e.Record(within(t), "key", "v"); err != nil || policy == "noeviction" && string(record) != "record" {
				t.Errorf("%q, %v", record, err)
			}
		})
	}
}

// goesOn is what a full server must not refuse.
func goesOn(t *testing.T, e *Engine, token string) {
	t.Helper()
	out, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0)
	must(t, err)
	must(t, toReplica(t, e))
	if _, err := e.Beat(within(t), fleet.Place{}, fleet.Node{ID: "n", Applied: out.Generation}); err != nil {
		t.Error(err)
	}
	if _, _, err := e.Read(within(t), fleet.Place{}, 0, 10, 0); err != nil {
		t.Error(err)
	}
	l, err := e.Take(within(t), "key"+token, token, "n", nil, time.Minute)
	if err != nil || !l.Taken {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := e.Hold(within(t), "key"+token, token, []byte("facts"), time.Minute); err != nil {
		t.Error(err)
	}
	if _, err := e.Release(within(t), "key"+token, token, []byte("done"), time.Second); err != nil {
		t.Error(err)
	}
	must(t, e.RemoveRecord(within(t), "nothing", "v", nil))
	must(t, e.Evict(within(t), fleet.Node{ID: "m"}))
	must(t, e.Leave(within(t), "m"))
}

// TestFullOfOthers: volatile-* has nothing to evict where all else that is there stays for ever.
func TestFullOfOthers(t *testing.T) {
	t.Parallel()
	s, e := full(t, "volatile-lru")
	for i := 0; s.try("SET", fmt.Sprint("other", i), string(make([]byte, 256<<10))) == nil; i++ {
	}
	if !fill(t, e) {
		t.Error("chunks are put while it is full")
	}
	goesOn(t, e, "t")
}

// TestTooFewReplicas: min-replicas-to-write has a primary that is alone refuse all writes.
func TestTooFewReplicas(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--min-replicas-to-write", "1")
	e := s.open(t)
	if _, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0); !errors.Is(err, fleet.ErrReadOnly) {
		t.Error(err)
	}
	if _, _, err := e.Find(within(t), "key", "v"); err != nil {
		t.Error(err)
	}
	s.do("CONFIG", "SET", "min-replicas-to-write", "0")
	worksAgain(t, e)
}

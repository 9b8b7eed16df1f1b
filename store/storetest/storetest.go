// Package storetest is the acceptance suite of the response store: what holds for every arrangement
// of its tiers. Run it with a store of each arrangement.
//
// # Caveats
//
// The suite stores up to 2 MiB at a time; a tier that takes part must have at least 8 MiB, unless
// it is meant to be too small to hold anything (memory of a few KiB over a disk). It uses the wall
// clock, so what depends on the passing of time is tested beside the store itself.
package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

// Run runs the suite. open returns an open, empty store and sees to its closing.
func Run(t *testing.T, open func(t *testing.T) *store.Store) {
	t.Helper()
	tests := []struct {
		name string
		run  func(t *testing.T, s *store.Store)
	}{
		{"round trip keeps every field", roundTrip},
		{"bodies of all sizes", bodies},
		{"miss and vary-miss", misses},
		{"highest score, then latest response", selection},
		{"same variant replaces", replacement},
		{"variants are limited", variantLimit},
		{"remove", removal},
		{"refusals", refusals},
		{"purge selectors", purgeSelectors},
		{"purge counts each entry once", purgeCounts},
		{"purges that leave entries", marking},
		{"purge beats an older fetch", purgeOlderFetch},
		{"purge without selector", purgeNothing},
		{"listing", listing},
		{"reservations", reservations},
		{"closed store", closed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open(t)) })
	}
}

// KeyOf is the key the suite gives a URL.
func KeyOf(url string) store.Key { return sha256.Sum256([]byte(url)) }

// NewEntry makes an entry that is kept for an hour.
func NewEntry(s *store.Store, url string, body []byte, tags ...string) *store.Entry {
	ticket := s.Begin()
	defer ticket.End()
	now := time.Now()
	return &store.Entry{
		Key: KeyOf(url), URL: url, Method: http.MethodGet, Status: http.StatusOK,
		Header: http.Header{"Content-Type": {"text/plain"}}, Tags: tags,
		RequestTime: now, ResponseTime: now, FreshUntil: now.Add(time.Minute), KeepUntil: now.Add(time.Hour),
		Generation: ticket.Generation(), Body: store.NewBody([][]byte{body}),
	}
}

// Any matches every variant alike.
func Any(*store.Variant) int { return 1 }

// ReadBody reads a body whole.
func ReadBody(b store.Body) ([]byte, error) {
	var out []byte
	for off := int64(0); off < b.Len(); {
		c, err := b.Chunk(off)
		if err != nil {
			return nil, err
		}
		if len(c) == 0 {
			return nil, fmt.Errorf("empty chunk at %d of %d", off, b.Len())
		}
		out = append(out, c...)
		off += int64(len(c))
	}
	return out, nil
}

func put(t *testing.T, s *store.Store, e *store.Entry) {
	t.Helper()
	if r := s.Put(e, 0); r != store.Stored {
		t.Fatalf("Put(%s) = %v", e.URL, r)
	}
}

func sync(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Sync(); err != nil {
		t.Fatalf("Sync: %v", err)
	}
}

// found tells whether a look-up of url hits.
func found(s *store.Store, url string) bool {
	r := s.Lookup(KeyOf(url), Any)
	defer r.Release()
	return r.Entry != nil
}

func reservations(t *testing.T, s *store.Store) {
	budget := s.Stats().Memory.Budget
	if s.Reserve(budget+1, 0) {
		t.Error("reserved more than the budget")
	}
	if !s.Reserve(budget, budget) {
		t.Fatal("an empty store cannot reserve its budget")
	}
	if s.Reserve(1, 0) { // small bodies of known length have some room beside it, if there is a disk
		t.Error("reserved over the budget")
	}
	s.Unreserve(budget)
	if n := s.Stats().Memory.Bytes; n != 0 {
		t.Errorf("%d bytes in use in the end", n)
	}
}

func closed(t *testing.T, s *store.Store) {
	e := NewEntry(s, "http://example.com/", []byte("x"))
	put(t, s, e)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	if found(s, e.URL) {
		t.Error("found in a closed store")
	}
	if r := s.Put(e.Clone(), 0); r != store.RefusedClosed {
		t.Errorf("Put = %v", r)
	}
	s.Remove(e)
	s.Apply(store.Settings{})
	if _, err := s.Purge(store.Selectors{All: true}, store.PurgeOptions{}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Purge: %v", err)
	}
	if items, _, err := s.List(store.Filter{}, 10, ""); len(items) != 0 || err != nil {
		t.Errorf("List = %d items, %v", len(items), err)
	}
	if err := s.Sync(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Sync: %v", err)
	}
	if err := s.Open(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Open: %v", err)
	}
	s.Begin().End()
}

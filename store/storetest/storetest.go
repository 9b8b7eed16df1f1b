// Package storetest is the acceptance suite of the response store: what holds for every arrangement
// of its tiers. Run it with a store of each arrangement.
//
// # Caveats
//
// The suite stores up to 2 MiB at a time; a tier that takes part must have at least 8 MiB, unless it
// is meant to be too small to hold anything (memory of a few KiB over a disk). It uses the wall
// clock, so what depends on the passing of time is tested beside the store itself.
package storetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
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

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func roundTrip(t *testing.T, s *store.Store) {
	e := NewEntry(s, "http://example.com/a?b=c", []byte("hello"), "one", "\x00internal")
	e.Header = http.Header{"X-Latin": {"caf\xe9"}, "Link": {"a", "b"}}
	e.Trailer = http.Header{"Checksum": {"x"}}
	e.Flags, e.Status, e.Method = 5, 404, http.MethodHead
	e.Variant = store.Variant{Names: []string{"Accept"}, Values: []string{"text/html"}, Coding: "br"}
	put(t, s, e)
	for _, when := range []string{"queued or in memory", "synced"} {
		r := s.Lookup(e.Key, Any)
		if r.Entry == nil {
			t.Fatalf("%s: miss", when)
		}
		compare(t, when, r.Entry, e)
		r.Release()
		sync(t, s)
	}
}

func compare(t *testing.T, when string, got, want *store.Entry) {
	t.Helper()
	for _, f := range []struct {
		name      string
		got, want any
	}{
		{"ID", got.ID, want.ID},
		{"Key", got.Key, want.Key},
		{"URL", got.URL, want.URL},
		{"Variant", got.Variant, want.Variant},
		{"Method", got.Method, want.Method},
		{"Flags", got.Flags, want.Flags},
		{"Status", got.Status, want.Status},
		{"Header", got.Header, want.Header},
		{"Trailer", got.Trailer, want.Trailer},
		{"RequestTime", got.RequestTime.UnixNano(), want.RequestTime.UnixNano()},
		{"ResponseTime", got.ResponseTime.UnixNano(), want.ResponseTime.UnixNano()},
		{"FreshUntil", got.FreshUntil.UnixNano(), want.FreshUntil.UnixNano()},
		{"KeepUntil", got.KeepUntil.UnixNano(), want.KeepUntil.UnixNano()},
		{"Tags", got.Tags, want.Tags},
		{"Generation", got.Generation, want.Generation},
	} {
		if !reflect.DeepEqual(f.got, f.want) {
			t.Errorf("%s: %s = %v, want %v", when, f.name, f.got, f.want)
		}
	}
	gotBody, err := ReadBody(got.Body)
	if err != nil {
		t.Errorf("%s: body: %v", when, err)
	}
	if wantBody, _ := ReadBody(want.Body); !bytes.Equal(gotBody, wantBody) {
		t.Errorf("%s: body of %d bytes differs from the %d stored", when, len(gotBody), len(wantBody))
	}
}

func bodies(t *testing.T, s *store.Store) {
	for _, n := range []int{0, 1, 2047, 2048, 2049, 100_000, 256 << 10, 1_000_000, 2 << 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			url := fmt.Sprintf("http://example.com/%d", n)
			e := NewEntry(s, url, nil)
			data := pattern(n)
			e.Body = store.NewBody([][]byte{data[:n/3], data[n/3 : n/2], nil, data[n/2:]})
			put(t, s, e)
			sync(t, s)
			r := s.Lookup(e.Key, Any)
			defer r.Release()
			if r.Entry == nil {
				t.Fatal("miss")
			}
			got, err := ReadBody(r.Entry.Body)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("read %d bytes, %v; want %d", len(got), err, n)
			}
			for _, off := range []int64{int64(n) / 2, int64(n) - 1} {
				if off < 0 || n == 0 {
					continue
				}
				c, err := r.Entry.Body.Chunk(off)
				if err != nil || len(c) == 0 || !bytes.HasPrefix(data[off:], c) {
					t.Errorf("Chunk(%d) = %d bytes, %v", off, len(c), err)
				}
			}
			if c, err := r.Entry.Body.Chunk(int64(n)); len(c) != 0 || err != nil {
				t.Errorf("Chunk at the end = %d bytes, %v", len(c), err)
			}
			if _, err := r.Entry.Body.Chunk(int64(n) + 1); err == nil {
				t.Error("Chunk behind the end: no error")
			}
		})
	}
}

func misses(t *testing.T, s *store.Store) {
	if r := s.Lookup(KeyOf("x"), Any); r.Entry != nil || r.Known != nil {
		t.Errorf("empty store: %+v", r)
	}
	e := NewEntry(s, "http://example.com/", []byte("x"))
	e.Variant = store.Variant{Names: []string{"Accept"}, Values: []string{"a"}}
	put(t, s, e)
	for range 2 {
		r := s.Lookup(e.Key, func(*store.Variant) int { return 0 })
		if r.Entry != nil || r.Known == nil || !r.Known.Equal(&e.Variant) {
			t.Errorf("no match: entry %v, known %v", r.Entry, r.Known)
		}
		sync(t, s)
	}
}

func selection(t *testing.T, s *store.Store) {
	const url = "http://example.com/v"
	base := time.Now()
	for i, v := range []string{"plain", "good", "best", "alike"} {
		e := NewEntry(s, url, []byte(v))
		e.Variant = store.Variant{Names: []string{"Accept"}, Values: []string{v}}
		e.ResponseTime = base.Add(time.Duration(-i) * time.Second) // the older, the later put
		put(t, s, e)
		sync(t, s)
	}
	for _, tt := range []struct {
		name   string
		scores map[string]int
		want   string
	}{
		{"highest score", map[string]int{"plain": 1, "good": 2, "best": 3}, "best"},
		{"latest among equals", map[string]int{"good": 2, "best": 2, "alike": 2}, "good"},
		{"only one", map[string]int{"alike": 1}, "alike"},
		{"none", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 3 { // the first look-up may change what is in memory
				r := s.Lookup(KeyOf(url), func(v *store.Variant) int { return tt.scores[v.Values[0]] })
				got := ""
				if r.Entry != nil {
					got = r.Entry.Variant.Values[0]
				}
				r.Release()
				if got != tt.want {
					t.Errorf("selected %q, want %q", got, tt.want)
				}
			}
		})
	}
}

func replacement(t *testing.T, s *store.Store) {
	const url = "http://example.com/r"
	for i := range 4 {
		put(t, s, NewEntry(s, url, fmt.Append(nil, i)))
		if i%2 == 0 {
			sync(t, s)
		}
		r := s.Lookup(KeyOf(url), Any)
		if r.Entry == nil {
			t.Fatalf("put %d: miss", i)
		}
		if got, _ := ReadBody(r.Entry.Body); string(got) != fmt.Sprint(i) {
			t.Errorf("put %d: got body %s", i, got)
		}
		r.Release()
	}
	sync(t, s)
	if n, err := s.Purge(store.Selectors{All: true}, store.PurgeOptions{DryRun: true}); n != 1 || err != nil {
		t.Errorf("%d entries, %v; want 1", n, err)
	}
}

func variantLimit(t *testing.T, s *store.Store) {
	const url = "http://example.com/v"
	for i := range 10 {
		e := NewEntry(s, url, []byte("x"))
		e.Variant = store.Variant{Names: []string{"Accept"}, Values: []string{fmt.Sprint(i)}}
		if r := s.Put(e, 3); r != store.Stored {
			t.Fatalf("Put = %v", r)
		}
		sync(t, s)
	}
	if n, err := s.Purge(store.Selectors{URLs: []string{url}}, store.PurgeOptions{DryRun: true}); n != 3 || err != nil {
		t.Errorf("%d variants, %v; want 3", n, err)
	}
	r := s.Lookup(KeyOf(url), func(v *store.Variant) int {
		if v.Values[0] == "9" {
			return 1
		}
		return 0
	})
	defer r.Release()
	if r.Entry == nil {
		t.Error("the latest variant is gone")
	}
}

func removal(t *testing.T, s *store.Store) {
	for _, synced := range []bool{false, true} {
		e := NewEntry(s, "http://example.com/gone", []byte("x"))
		put(t, s, e)
		if synced {
			sync(t, s)
		}
		r := s.Lookup(e.Key, Any)
		if r.Entry == nil {
			t.Fatal("miss")
		}
		s.Remove(r.Entry)
		r.Release()
		for range 2 {
			if found(s, e.URL) {
				t.Errorf("synced %v: found after Remove", synced)
			}
			sync(t, s)
		}
	}
}

func refusals(t *testing.T, s *store.Store) {
	s.Apply(store.Settings{Memory: 16 << 20, Disk: 16 << 20, MaxBody: 1000})
	if r := s.Put(NewEntry(s, "http://example.com/", pattern(1001)), 0); r != store.RefusedTooLarge {
		t.Errorf("large body: %v", r)
	}
	e := NewEntry(s, "http://example.com/", nil)
	e.KeepUntil = time.Now().Add(-time.Second)
	if r := s.Put(e, 0); r != store.RefusedExpired {
		t.Errorf("expired: %v", r)
	}
	e = NewEntry(s, "http://example.com/", nil)
	if _, err := s.Purge(store.Selectors{All: true}, store.PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	ticket := s.Begin()
	defer ticket.End()
	if r := s.Put(e, 0); r != store.Stored && r != store.RefusedPurged {
		t.Errorf("purged: %v", r)
	}
}

// siteURLs are stored by the purge and listing tests, with these tags.
var siteURLs = map[string][]string{
	"http://a.example/":       {"home", "all"},
	"http://a.example/p/1":    {"p1", "all"},
	"http://a.example/p/2":    {"p2", "all", "\x00secret"},
	"https://a.example/p/1":   {"p1"},
	"http://a.example:81/p/1": {"p1"},
	"http://a.example.org/":   nil,
}

func fillSite(t *testing.T, s *store.Store) {
	t.Helper()
	for url, tags := range siteURLs {
		put(t, s, NewEntry(s, url, []byte(url), tags...))
	}
}

func purgeSelectors(t *testing.T, s *store.Store) {
	for _, tt := range []struct {
		name string
		sel  store.Selectors
		gone []string
	}{
		{"tag", store.Selectors{Tags: []string{"all"}}, []string{"http://a.example/", "http://a.example/p/1", "http://a.example/p/2"}},
		{"internal tag", store.Selectors{Tags: []string{"\x00secret"}}, []string{"http://a.example/p/2"}},
		{"unknown tag", store.Selectors{Tags: []string{"ALL"}}, nil},
		{"URL", store.Selectors{URLs: []string{"http://a.example/p/1"}}, []string{"http://a.example/p/1"}},
		{"prefix", store.Selectors{Prefixes: []string{"http://a.example/p"}}, []string{"http://a.example/p/1", "http://a.example/p/2"}},
		{"host", store.Selectors{Hosts: []string{"a.example"}}, []string{"http://a.example/", "http://a.example/p/1", "http://a.example/p/2", "https://a.example/p/1"}},
		{"host and port", store.Selectors{Hosts: []string{"a.example:81"}}, []string{"http://a.example:81/p/1"}},
		{
			"any of several",
			store.Selectors{Tags: []string{"p1", "home"}, URLs: []string{"http://a.example/"}, Prefixes: []string{"http://a.example/"}},
			[]string{"http://a.example/", "http://a.example/p/1", "http://a.example/p/2", "https://a.example/p/1", "http://a.example:81/p/1"},
		},
		{"all", store.Selectors{All: true}, []string{
			"http://a.example/", "http://a.example/p/1", "http://a.example/p/2", "https://a.example/p/1", "http://a.example:81/p/1", "http://a.example.org/",
		}},
	} {
		for _, synced := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, synced %v", tt.name, synced), func(t *testing.T) {
				fillSite(t, s)
				if synced {
					sync(t, s)
				}
				for _, opts := range []store.PurgeOptions{{DryRun: true}, {}} {
					if n, err := s.Purge(tt.sel, opts); n != len(tt.gone) || err != nil {
						t.Errorf("Purge(%+v) = %d, %v; want %d", opts, n, err, len(tt.gone))
					}
				}
				for url := range siteURLs {
					if got, want := found(s, url), !slices.Contains(tt.gone, url); got != want {
						t.Errorf("%s found: %v, want %v", url, got, want)
					}
				}
			})
		}
	}
}

func purgeCounts(t *testing.T, s *store.Store) {
	for i := range 50 {
		put(t, s, NewEntry(s, fmt.Sprintf("http://example.com/%d", i), []byte("x"), "t", fmt.Sprintf("odd%d", i%2)))
	}
	sync(t, s)
	for _, step := range []struct {
		name string
		sel  store.Selectors
		want int
	}{
		{"half", store.Selectors{Tags: []string{"odd1"}}, 25},
		{"the same half again", store.Selectors{Tags: []string{"odd1"}}, 0},
		{"the rest", store.Selectors{Tags: []string{"t"}}, 25},
		{"nothing left", store.Selectors{All: true}, 0},
	} {
		if n, err := s.Purge(step.sel, store.PurgeOptions{}); n != step.want || err != nil {
			t.Errorf("%s: %d, %v; want %d", step.name, n, err, step.want)
		}
	}
}

// marking is a purge that leaves entries where they are. A severer one hits them again, a milder one
// changes nothing.
func marking(t *testing.T, s *store.Store) {
	sel := store.Selectors{Tags: []string{"p1"}}
	for _, settled := range []bool{true, false} { // on disk, or on its way
		fillSite(t, s)
		if settled {
			sync(t, s)
		}
		for _, step := range []struct {
			severity, left store.Severity
			want           int
		}{
			{store.Soft, store.Soft, 3},
			{store.Soft, store.Soft, 0},
			{store.Invalid, store.Invalid, 3},
			{store.Soft, store.Invalid, 0},
			{store.Invalid, store.Invalid, 0},
		} {
			if n, err := s.Purge(sel, store.PurgeOptions{Severity: step.severity}); n != step.want || err != nil {
				t.Errorf("%v: %d, %v; want %d", step.severity, n, err, step.want)
			}
			for url, tags := range siteURLs {
				want := store.NotPurged
				if slices.Contains(tags, "p1") {
					want = step.left
				}
				r := s.Lookup(KeyOf(url), Any)
				if r.Entry == nil || r.Severity != want {
					t.Errorf("%s after %v: found %v, %v; want %v", url, step.severity, r.Entry != nil, r.Severity, want)
				}
				r.Release()
			}
		}
		put(t, s, NewEntry(s, "http://a.example/p/1", []byte("renewed"), "p1"))
		if r := s.Lookup(KeyOf("http://a.example/p/1"), Any); r.Entry == nil || r.Severity != store.NotPurged {
			t.Errorf("renewed: found %v, %v", r.Entry != nil, r.Severity)
		} else {
			r.Release()
		}
		if n, err := s.Purge(sel, store.PurgeOptions{}); n != 3 || err != nil {
			t.Errorf("hard after that: %d, %v; want 3", n, err)
		}
	}
}

func purgeOlderFetch(t *testing.T, s *store.Store) {
	const url = "http://example.com/race"
	older := s.Begin()
	if _, err := s.Purge(store.Selectors{URLs: []string{url}}, store.PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	newer := s.Begin()
	if severity := s.Purged(url, nil, older.Generation()); severity != store.Hard {
		t.Errorf("older flight: %v", severity)
	}
	if severity := s.Purged(url, nil, newer.Generation()); severity != store.NotPurged {
		t.Errorf("newer flight: %v", severity)
	}
	e := NewEntry(s, url, []byte("old"))
	e.Generation = older.Generation()
	if r := s.Put(e, 0); r != store.RefusedPurged {
		t.Errorf("Put of an older fetch = %v", r)
	}
	older.End()
	older.End()
	if found(s, url) {
		t.Error("an older fetch is served")
	}
	e = NewEntry(s, url, []byte("new"))
	e.Generation = newer.Generation()
	put(t, s, e)
	newer.End()
	if !found(s, url) {
		t.Error("a newer fetch is not served")
	}
}

func purgeNothing(t *testing.T, s *store.Store) {
	put(t, s, NewEntry(s, "http://example.com/", nil))
	for _, sel := range []store.Selectors{{}, {Tags: []string{}}, {Prefixes: []string{""}}, {Tags: []string{"a", ""}}} {
		if _, err := s.Purge(sel, store.PurgeOptions{}); !errors.Is(err, store.ErrNoSelector) {
			t.Errorf("Purge(%+v): %v", sel, err)
		}
	}
	if !found(s, "http://example.com/") {
		t.Error("purged by nothing")
	}
}

func listing(t *testing.T, s *store.Store) {
	fillSite(t, s)
	sync(t, s)
	put(t, s, NewEntry(s, "http://b.example/queued", []byte("xyz"), "all"))
	for _, tt := range []struct {
		name   string
		filter store.Filter
		want   []string
	}{
		{"everything", store.Filter{}, []string{
			"http://a.example.org/", "http://a.example/", "http://a.example/p/1", "http://a.example/p/2",
			"http://a.example:81/p/1", "http://b.example/queued", "https://a.example/p/1",
		}},
		{"tag", store.Filter{Tag: "all"}, []string{"http://a.example/", "http://a.example/p/1", "http://a.example/p/2", "http://b.example/queued"}},
		{"prefix", store.Filter{Prefix: "http://a.example/p"}, []string{"http://a.example/p/1", "http://a.example/p/2"}},
		{"host", store.Filter{Host: "a.example"}, []string{"http://a.example/", "http://a.example/p/1", "http://a.example/p/2", "https://a.example/p/1"}},
		{"tag and host", store.Filter{Tag: "p1", Host: "a.example"}, []string{"http://a.example/p/1", "https://a.example/p/1"}},
		{"nothing", store.Filter{Tag: "none"}, nil},
	} {
		for _, limit := range []int{1, 2, 100} {
			t.Run(fmt.Sprintf("%s by %d", tt.name, limit), func(t *testing.T) {
				var got []string
				var ids []uint64
				cursor := ""
				for range 100 {
					items, next, err := s.List(tt.filter, limit, cursor)
					if err != nil || len(items) > limit {
						t.Fatalf("%d items, %v", len(items), err)
					}
					for _, it := range items {
						got, ids = append(got, it.URL), append(ids, it.ID)
						if slices.ContainsFunc(it.Tags, func(tag string) bool { return tag[0] == 0 }) {
							t.Errorf("%s lists internal tags %q", it.URL, it.Tags)
						}
					}
					if cursor = next; cursor == "" {
						break
					}
				}
				if tt.filter.Tag != "" { // by age
					if !slices.IsSorted(ids) {
						t.Errorf("not in the order of age: %d", ids)
					}
					slices.Sort(got)
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("got  %q\nwant %q", got, tt.want)
				}
			})
		}
	}
	if _, _, err := s.List(store.Filter{}, 1, "?"); !errors.Is(err, store.ErrCursor) {
		t.Errorf("bad cursor: %v", err)
	}
}

func reservations(t *testing.T, s *store.Store) {
	budget := s.Stats().Memory.Budget
	if s.Reserve(budget + 1) {
		t.Error("reserved more than the budget")
	}
	if !s.Reserve(budget) {
		t.Fatal("an empty store cannot reserve its budget")
	}
	if s.Reserve(1) {
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

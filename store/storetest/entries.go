package storetest

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

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
	e.Notes = []string{"a", "note"}
	e.FetchTime = 212_400_001 * time.Nanosecond
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
		{"Notes", fmt.Sprint(got.Notes), fmt.Sprint(want.Notes)},
		{"Status", got.Status, want.Status},
		{"Header", got.Header, want.Header},
		{"Trailer", got.Trailer, want.Trailer},
		{"RequestTime", got.RequestTime.UnixNano(), want.RequestTime.UnixNano()},
		{"ResponseTime", got.ResponseTime.UnixNano(), want.ResponseTime.UnixNano()},
		{"FreshUntil", got.FreshUntil.UnixNano(), want.FreshUntil.UnixNano()},
		{"FetchTime", got.FetchTime, want.FetchTime},
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
		e.RequestTime = base.Add(time.Duration(-i) * time.Second) // the older, the later put
		put(t, s, e)
		sync(t, s)
	}
	for _, tt := range []struct {
		name   string
		scores map[string]int
		want   string
	}{
		{"highest score", map[string]int{"plain": 1, "good": 2, "best": 3}, "best"},
		{"latest request among equals", map[string]int{"good": 2, "best": 2, "alike": 2}, "good"},
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

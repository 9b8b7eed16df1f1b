package store

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// purgeRows counts the records of purges in the file.
func purgeRows(t *testing.T, s *Store) int {
	t.Helper()
	n := 0
	if err := s.disk.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(purgesBucket).ForEach(func(_, _ []byte) error { n++; return nil })
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPurgeOfNothingOnDisk: such a purge writes nothing, and holds all the same, across a restart
// too.
func TestPurgeOfNothingOnDisk(t *testing.T) {
	const a, b, c = "http://example.com/a", "http://example.com/b", "http://example.com/c"
	dir := t.TempDir()
	clock := newTestClock()
	clock.nanos.Store(time.Now().UnixNano())
	s := openStore(t, Config{Path: dir, Required: true, Now: clock.now}, diskTier)
	s.Put(testEntry(s, a, []byte(a), "a"), 0)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	fetch := s.Begin() // under way while the purges come; it keeps their records in force
	begun := func(url, tag string) *Entry {
		e := testEntry(s, url, []byte(url), tag)
		e.Generation = fetch.Generation()
		return e
	}
	if n, err := s.Purge(Selectors{Tags: []string{"b"}, URLs: []string{b}}, PurgeOptions{}); n != 0 || err != nil {
		t.Fatalf("Purge = %d, %v", n, err)
	}
	if n, err := s.Purge(Selectors{Tags: []string{"c"}}, PurgeOptions{Severity: Soft}); n != 0 || err != nil {
		t.Fatalf("soft Purge = %d, %v", n, err)
	}
	if n := purgeRows(t, s); n != 0 {
		t.Errorf("%d records of purges that have nothing to hit on disk", n)
	}
	if r := s.Put(begun(b, "b"), 0); r != RefusedPurged {
		t.Errorf("Put of what was purged while it was fetched = %v", r)
	}
	if r := s.Put(begun(c, "c"), 0); r != Stored {
		t.Errorf("Put of what was softly purged while it was fetched = %v", r)
	}
	if n, err := s.Purge(Selectors{Tags: []string{"c"}}, PurgeOptions{Severity: Soft}); n != 0 || err != nil {
		t.Errorf("purging softly again = %d, %v", n, err)
	}
	if err := s.Sync(); err != nil { // the file's generation is later than the purges now
		t.Fatal(err)
	}

	s.readFailed(&wedgedError{errors.New("injected")}) // the file is given up, and taken up again
	waitFor(t, func() bool { return s.Stats().Disk.State == "failed" })
	waitFor(t, func() bool { clock.advance(time.Second); return s.Stats().Disk.State == "open" })
	if aside := asideFiles(t, dir); len(aside) > 0 {
		t.Errorf("set aside: %q", aside)
	}
	if n, err := s.Purge(Selectors{Tags: []string{"a"}}, PurgeOptions{}); n != 1 || err != nil {
		t.Errorf("Purge of what is on disk = %d, %v", n, err)
	}
	if n := purgeRows(t, s); n == 0 {
		t.Error("no record of a purge that has something to hit on disk")
	}
	fetch.End()
	waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
	checkAgreement(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = openStore(t, Config{Path: dir, Required: true}, diskTier)
	if n := hits(t, s, []string{a, b}); n != 0 {
		t.Errorf("%d purged entries are back after a restart", n)
	}
	r := s.Lookup(keyOf(c), matchAny)
	if r.Entry == nil || r.Severity != Soft {
		t.Errorf("after a restart: entry %v, %v", r.Entry != nil, r.Severity)
	}
	r.Release()
}

// TestPurgesThatOverlapCountOnce: what an earlier purge has hit is not counted again, also while
// its sweep is still to come.
func TestPurgesThatOverlapCountOnce(t *testing.T) {
	for _, disk := range []bool{false, true} {
		t.Run(fmt.Sprintf("disk %v", disk), func(t *testing.T) {
			cfg, settings := Config{}, Settings{Memory: 64 << 20}
			if disk {
				cfg, settings = Config{Path: t.TempDir(), Required: true}, diskTier
			}
			s := openStore(t, cfg, settings)
			for i := range 30 {
				url := fmt.Sprintf("http://h%d.example/%d", i%2, i)
				s.Put(testEntry(s, url, []byte(url), fmt.Sprintf("two-%d", i%2), fmt.Sprintf("three-%d", i%3), "all"), 0)
			}
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			ticket := s.Begin() // no record goes before it ends
			defer ticket.End()
			for _, step := range []struct {
				sel      Selectors
				severity Severity
				want     int
			}{
				{Selectors{Tags: []string{"three-0"}}, Soft, 10},
				{Selectors{Tags: []string{"three-0", "three-1"}}, Soft, 10},
				{Selectors{Tags: []string{"three-1"}}, Invalid, 10}, // the soft ones too
				{Selectors{Tags: []string{"three-0", "three-1"}}, Soft, 0},
				{Selectors{Tags: []string{"three-1"}}, Invalid, 0},
				{Selectors{Hosts: []string{"h0.example"}}, Hard, 15}, // those too
				{Selectors{Tags: []string{"two-0"}}, Hard, 0},
				{Selectors{Prefixes: []string{"http://h1.example/"}, Tags: []string{"three-2"}}, Soft, 5},
				{Selectors{All: true}, Invalid, 10},
				{Selectors{All: true}, Soft, 0},
				{Selectors{Tags: []string{"all"}}, Hard, 15},
				{Selectors{All: true}, Invalid, 0},
				{Selectors{All: true}, Hard, 0},
			} {
				if n, err := s.Purge(step.sel, PurgeOptions{Severity: step.severity}); n != step.want || err != nil {
					t.Errorf("Purge(%+v, %v) = %d, %v, want %d", step.sel, step.severity, n, err, step.want)
				}
			}
		})
	}
}

// TestSharedPin: chunks stay until the last holder of a look-up's result has released it.
func TestSharedPin(t *testing.T) {
	fillsByLength(t)
	const url = "http://example.com/large"
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, diskTier)
	body := bytes.Repeat([]byte("0123456789"), 60_000)
	s.Put(testEntry(s, url, body, "t"), 0)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	first := s.Lookup(keyOf(url), matchAny)
	if _, onDisk := first.Entry.Body.(*diskBody); !onDisk {
		t.Fatal("the body is not read from disk")
	}
	second := first.Share()
	first.Release()
	first.Release()
	if n, err := s.Purge(Selectors{Tags: []string{"t"}}, PurgeOptions{}); n != 1 || err != nil {
		t.Fatalf("Purge = %d, %v", n, err)
	}
	waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
	if !bytes.Equal(bodyOf(t, second.Entry), body) {
		t.Error("the body has changed under a reader")
	}
	if s.Stats().Disk.Bytes < int64(len(body)) {
		t.Error("the chunks are gone under a reader")
	}
	second.Release()
	waitFor(t, func() bool { return s.Stats().Disk.Bytes < int64(len(body)) })
}

// BenchmarkTagReference measures what one tag of one entry costs the memory tier's index. Every
// entry has ten tags, of thousands in use or that no other has.
func BenchmarkTagReference(b *testing.B) {
	for _, tags := range []int{2_000, 50_000, 250_000, 500_000} {
		b.Run(fmt.Sprint("tags ", tags), func(b *testing.B) { benchmarkTagReference(b, tags) })
	}
}

func benchmarkTagReference(b *testing.B, tags int) {
	var bytes float64
	for b.Loop() {
		bytes = tagReference(50_000, 10, tags)
	}
	b.ReportMetric(bytes, "B/reference")
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestPurgeTellsTagsApart: tags whose rows stand side by side in the file, one a part of another.
func TestPurgeTellsTagsApart(t *testing.T) {
	long := strings.Repeat("x", maxTagInRow)
	tags := []string{
		"a", "a\x00", "a\x00\x00\x00\x00\x00\x00\x00\x00\x00", "a\x00b", "ab", long, long + "y", long + "z",
		long[:longTag], string(tagStart(long + "y")[:maxTagInRow]),
	}
	for _, tag := range tags {
		t.Run(fmt.Sprintf("%q", tag), func(t *testing.T) {
			s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 1, Disk: 64 << 20})
			urls := make([]string, len(tags))
			for i, other := range tags {
				urls[i] = fmt.Sprintf("http://example.com/%d", i)
				s.Put(testEntry(s, urls[i], []byte(urls[i]), other), 0)
			}
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			if n, err := s.Purge(Selectors{Tags: []string{tag}}, PurgeOptions{}); n != 1 || err != nil {
				t.Errorf("Purge = %d, %v", n, err)
			}
			if n := hits(t, s, urls); n != len(urls)-1 {
				t.Errorf("%d hits of %d", n, len(urls))
			}
		})
	}
}

// C34a: what a purge costs grows with what it says, not with how often: the same selector many
// times is noted and counted as one.
func TestSelectorsThatStandThereManyTimesAreOne(t *testing.T) {
	s := openStore(t, Config{}, Settings{Memory: 1 << 20})
	ticket := s.Begin() // so that the purge stays in force
	defer ticket.End()
	many := func(text string) []string { return slices.Repeat([]string{text + "1", text + "2"}, 1000) }
	if _, err := s.Purge(Selectors{
		Tags: many("t"), URLs: many("http://a/"), Prefixes: many("http://b/"), Hosts: many("c"),
	}, PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	s.purges.mu.Lock()
	defer s.purges.mu.Unlock()
	by := &s.purges.bySelector
	for name, of := range map[string]map[string]*generations{"tags": by.tags, "urls": by.urls, "hosts": by.hosts, "prefixes": by.prefixes} {
		for text, g := range of {
			if len(of) != 2 || len(*g.of(Hard)) != 1 {
				t.Errorf("%s: %q is noted %d times, of %d", name, text, len(*g.of(Hard)), len(of))
			}
		}
	}
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// childStep names the step of a compaction at which a child stands still, and how many times before
// it goes on.
const childStep = "LARDER_TEST_STEP"

// compactUntilKilled compacts the file again and again, and stands still at a step.
func compactUntilKilled(s *Store) {
	want, number, _ := strings.Cut(os.Getenv(childStep), " ")
	left, _ := strconv.Atoi(number)
	s.diskWriter.onCompactStep = func(step string) {
		if step != want {
			return
		}
		if left--; left < 0 {
			select {} // until it is killed
		}
	}
	go func() {
		<-s.Ready()
		for {
			if _, err := s.Compact(context.Background()); err != nil {
				fmt.Println("error", err)
			}
		}
	}()
}

// TestFaultKillCompaction kills a process that compacts its file while it stores and purges, in
// each step of it. Nothing that was durable is lost, nothing purged is back, and no second file
// stays.
func TestFaultKillCompaction(t *testing.T) {
	rng := seeded(t)
	dir, kept := t.TempDir(), map[string]int{}
	for round := range rounds(1, 10) {
		for _, step := range []string{"begin", "copy", "again", "rename", "renamed"} {
			t.Setenv(childStep, fmt.Sprint(step, " ", rng.IntN(3)))
			report := killedWriter(t, "compact", dir, time.Duration(300+rng.IntN(300))*time.Millisecond)
			s := openStore(t, Config{Path: dir, Required: true}, crashTier)
			if aside := asideFiles(t, dir); len(aside) > 0 {
				t.Fatalf("%s: set aside %q", step, aside)
			}
			if _, err := os.Stat(filepath.Join(dir, FileName+compactSuffix)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: the file that was being written is left: %v", step, err)
			}
			for url, version := range kept {
				if got, _ := found(t, s, url); got != version {
					t.Errorf("%s: %s: version %d, which was %d after an earlier kill", step, url, got, version)
				}
			}
			promised, there := report.check(t, s, kept)
			t.Logf("round %d, %s: %d puts, %d pages promised, %d there", round, step, report.puts, promised, there)
			checkAgreement(t, s)
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

var compactSettings = Settings{Memory: 1 << 20, Disk: 64 << 20}

// storePages stores n pages with bodies of many sizes and returns these by URL.
func storePages(t *testing.T, s *Store, rng *rand.Rand, name string, n int) map[string][]byte {
	t.Helper()
	pages := make(map[string][]byte, n)
	for i := range n {
		body := make([]byte, []int{100, 3000, 40_000, 400_000}[rng.IntN(4)])
		for at := range body {
			body[at] = byte(rng.Uint32())
		}
		url := fmt.Sprintf("http://example.com/%s/%d", name, i)
		if r := s.Put(testEntry(s, url, body, name), 0); r != Stored {
			t.Fatalf("put %s: %v", url, r)
		}
		pages[url] = body
		if i%10 == 9 {
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	return pages
}

// wantPages has all of pages, or none, found as they were stored.
func wantPages(t *testing.T, s *Store, pages map[string][]byte, want bool) {
	t.Helper()
	for url, body := range pages {
		r := s.Lookup(keyOf(url), matchAny)
		switch {
		case (r.Entry != nil) != want:
			t.Errorf("%s is found: %v, want %v", url, r.Entry != nil, want)
		case want && !bytes.Equal(bodyOf(t, r.Entry), body):
			t.Errorf("%s has another body", url)
		}
		r.Release()
	}
}

// TestCompact: while others store, purge and look up, the file becomes smaller, and has after it
// what it had, without what was purged, as it does after a restart.
func TestCompact(t *testing.T) {
	rng := seeded(t)
	dir := t.TempDir()
	s := openStore(t, Config{Path: dir, Required: true}, compactSettings)
	stay, go1, go2 := storePages(t, s, rng, "stay", 100), storePages(t, s, rng, "go1", 150), storePages(t, s, rng, "go2", 50)
	purge := func(tag string) {
		t.Helper()
		if _, err := s.Purge(Selectors{Tags: []string{tag}}, PurgeOptions{}); err != nil {
			t.Error(err)
		}
	}
	purge("go1")
	var late map[string][]byte
	var once sync.Once
	copied, written := make(chan struct{}), make(chan struct{})
	s.diskWriter.onCompactStep = func(step string) {
		if step == "copy" {
			once.Do(func() { close(copied) })
		}
	}
	go func() {
		defer close(written)
		<-copied // the purge, and what is stored, comes behind rows that have been copied
		purge("go2")
		late = storePages(t, s, rng, "late", 50)
	}()
	waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
	for range 3 {
		c, err := s.Compact(t.Context())
		if err != nil || c.Before < c.After && c.Before > 64<<20 {
			t.Fatalf("%+v, %v", c, err)
		}
		t.Logf("from %d to %d bytes", c.Before, c.After)
	}
	<-written
	for range 2 {
		wantPages(t, s, stay, true)
		wantPages(t, s, late, true)
		wantPages(t, s, go1, false)
		wantPages(t, s, go2, false)
		checkAgreement(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, Config{Path: dir, Required: true}, compactSettings)
	}
}

// TestCompactWhileABodyIsRead: a body that is read piece by piece goes on from the new file.
func TestCompactWhileABodyIsRead(t *testing.T) {
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 1 << 20, Disk: 64 << 20})
	body := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)
	if r := putWritten(t, s, seeded(t), "http://example.com/large", body); r != Stored {
		t.Fatal(r)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	r := s.Lookup(keyOf("http://example.com/large"), matchAny)
	if r.Entry == nil {
		t.Fatal("it is not found")
	}
	defer r.Release()
	var got []byte
	for off := int64(0); off < r.Entry.Body.Len(); off = int64(len(got)) {
		c, err := r.Entry.Body.Chunk(off)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, c...)
		if off == 0 {
			if _, err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !bytes.Equal(got, body) {
		t.Error("the body is another one")
	}
}

// TestShrunkFileIsCompacted: that of a budget that is lowered, by itself, and once.
func TestShrunkFileIsCompacted(t *testing.T) {
	rng := seeded(t)
	s := New(Config{Path: t.TempDir(), Required: true}, compactSettings)
	s.diskWriter.tick = 5 * time.Millisecond
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	storePages(t, s, rng, "page", 200)
	before := s.Stats().FileBytes
	small := compactSettings
	small.Disk = 4 << 20
	s.Apply(small)
	waitFor(t, func() bool { return s.Stats().FileBytes <= 6<<20 })
	st := s.Stats()
	t.Logf("from %d to %d bytes, %d entries", before, st.FileBytes, st.Disk.Entries)
	if st.Disk.Entries == 0 {
		t.Error("nothing is left")
	}
	checkAgreement(t, s)
}

// TestCompactThatFails leaves the file as it was, and nothing beside it.
func TestCompactThatFails(t *testing.T) {
	broken := errors.New("no such luck")
	for name, fault := range map[string]func(s *Store, file *os.File) error{
		"it cannot be begun":     func(*Store, *os.File) error { return broken },
		"it cannot be written":   func(_ *Store, file *os.File) error { return file.Close() },
		"the store is closed":    func(s *Store, _ *os.File) error { go func() { _ = s.Close() }(); return nil },
		"the name is a folder's": nil,
	} {
		t.Run(name, func(t *testing.T) {
			var s *Store
			var target *os.File
			dir := t.TempDir()
			beside := filepath.Join(dir, FileName+compactSuffix)
			s = openStore(t, Config{Path: dir, Required: true, OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
				if name == beside && fault != nil && strings.Contains(t.Name(), "begun") {
					return nil, broken
				}
				f, err := os.OpenFile(name, flag, perm)
				if name == beside {
					target = f
				}
				return f, err
			}}, compactSettings)
			pages := storePages(t, s, seeded(t), "page", 20)
			if fault == nil {
				if err := os.MkdirAll(filepath.Join(beside, "x"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			steps := 0
			s.diskWriter.onCompactStep = func(step string) {
				if steps++; step == "copy" && steps == 4 && fault != nil {
					_ = fault(s, target)
				}
			}
			if strings.Contains(name, "closed") {
				s.diskWriter.onCompactStep = func(step string) {
					if steps++; step == "copy" && steps == 4 {
						_ = fault(s, target)
						<-s.diskWriter.stop
					}
				}
			}
			if c, err := s.Compact(t.Context()); err == nil {
				t.Errorf("it succeeded: %+v", c)
			}
			if _, err := os.Stat(beside); fault != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the new file is left: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			again := openStore(t, Config{Path: dir, Required: true}, compactSettings)
			wantPages(t, again, pages, true)
		})
	}
	memory := openStore(t, Config{}, compactSettings)
	if _, err := memory.Compact(t.Context()); !errors.Is(err, ErrNoFile) {
		t.Errorf("without a disk: %v", err)
	}
}

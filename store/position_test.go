package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

func setPositionNow(t testing.TB, s *Store, value string) {
	t.Helper()
	if err := s.SetPosition([]byte(value)); err != nil {
		t.Fatalf("SetPosition(%q): %v", value, err)
	}
}

// TestPositionIsKept over an orderly stop, and given up with its file.
func TestPositionIsKept(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Path: dir, Required: true}
	s := openStore(t, cfg, diskTier)
	if p := s.Position(); p != nil {
		t.Errorf("a new file has the position %q", p)
	}
	value := []byte("first")
	must(t, s.SetPosition(value))
	copy(value, "xxxxx")
	s.Position()[0] = 'y'
	if err := s.SetPosition(make([]byte, MaxPosition+1)); !errors.Is(err, ErrPosition) {
		t.Errorf("a long position: %v", err)
	}
	must(t, s.Close())

	s = openStore(t, cfg, diskTier)
	if p := string(s.Position()); p != "first" {
		t.Errorf("position %q after a restart", p)
	}
	setPositionNow(t, s, strings.Repeat("p", MaxPosition))
	must(t, s.Close())

	s = New(cfg, diskTier)
	setPositionNow(t, s, "early") // it holds for what Open finds
	must(t, s.Open())
	if p := string(s.Position()); p != "early" {
		t.Errorf("position %q, which was set before Open", p)
	}
	must(t, s.Close())

	edit(t, filepath.Join(dir, FileName), func(tx *bbolt.Tx) error {
		v := append([]byte(nil), tx.Bucket(metaBucket).Get(metaPosition)...)
		v[len(v)-1]++
		return tx.Bucket(metaBucket).Put(metaPosition, v)
	})
	s = openStore(t, cfg, diskTier)
	if p := s.Position(); p != nil {
		t.Errorf("position %q, which is damaged", p)
	}
	setPositionNow(t, s, "second")
	must(t, s.Close())

	s = New(cfg, diskTier)
	s.Discard()
	must(t, s.Open())
	if p := s.Position(); p != nil {
		t.Errorf("position %q of a file that was discarded", p)
	}
	must(t, s.Close())
}

// TestPositionFollowsTheFile: a file that is begun while the store lives has its position.
func TestPositionFollowsTheFile(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Path: dir, Required: true}
	s := openStore(t, cfg, diskTier)
	setPositionNow(t, s, "here")
	must(t, os.Remove(filepath.Join(dir, FileName)))
	s.Put(testEntry(s, "http://example.com/", nil), 0)
	if err := s.Sync(); !errors.Is(err, errRemoved) {
		t.Fatalf("Sync: %v", err)
	}
	if p := string(s.Position()); p != "here" {
		t.Errorf("position %q", p)
	}
	must(t, s.Close())
	s = openStore(t, cfg, diskTier)
	if p := string(s.Position()); p != "here" {
		t.Errorf("position %q after a restart", p)
	}
}

// TestPositionWithoutFile: memory alone remembers it for as long as it remembers anything.
func TestPositionWithoutFile(t *testing.T) {
	s := openStore(t, Config{}, bothTiers)
	setPositionNow(t, s, "p")
	if p := string(s.Position()); p != "p" {
		t.Errorf("position %q", p)
	}
}

// positionInFile is what a crash would leave now.
func positionInFile(t *testing.T, s *Store) (p string) {
	t.Helper()
	err := s.disk.view(func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err == nil {
			p = string(b.position())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPositionIsNeverAhead of a purge that was in force when it was set. It comes with the next
// transaction, or with the clock.
func TestPositionIsNeverAhead(t *testing.T) {
	s := keptByHand(t, bothTiers)
	s.Put(testEntry(s, "http://example.com/", nil, "a", "b"), 0)
	must(t, s.diskWriter.flush())
	begin := func(tag string) *PurgeRequest {
		s.diskWriter.waiting.Add(1)
		return &PurgeRequest{rec: s.purges.issue(Selectors{Tags: []string{tag}}, Hard, 0), done: make(chan struct{})}
	}
	expect := func(when, want string) {
		t.Helper()
		if got := positionInFile(t, s); got != want {
			t.Errorf("%s: the file has the position %q, want %q", when, got, want)
		}
	}
	first := begin("a")
	setPositionNow(t, s, "after a")
	s.diskWriter.onTick()
	expect("a is not committed", "")
	s.Put(testEntry(s, "http://example.com/2", nil, "b"), 0)
	must(t, s.diskWriter.flush())
	expect("a batch has been written, but not a", "")

	second := begin("b")
	setPositionNow(t, s, "after b")
	s.diskWriter.commitPurges([]*PurgeRequest{first})
	expect("a is committed by this", "")
	third := begin("b")
	s.diskWriter.commitPurges([]*PurgeRequest{second})
	expect("a was committed before", "after a") // though b was in force by then
	fourth := begin("b")
	setPositionNow(t, s, "after all") // purges come without a gap
	s.diskWriter.commitPurges([]*PurgeRequest{third})
	expect("b was committed before", "after b")
	s.diskWriter.commitPurges([]*PurgeRequest{fourth})
	s.diskWriter.onTick()
	expect("nothing is left", "after all")

	setPositionNow(t, s, "idle")
	expect("at once", "after all")
	s.diskWriter.onTick()
	expect("with the clock", "idle")
	before := s.disk.use.db.Stats().TxStats
	setPositionNow(t, s, "idle")
	s.diskWriter.onTick()
	if now := s.disk.use.db.Stats().TxStats; now.GetWrite() != before.GetWrite() {
		t.Error("a position that has not changed is written")
	}
}

const positionPages = 50

func positionURL(n int) string { return fmt.Sprintf("http://example.com/%d", n%positionPages) }

// positionPurges is which page is purged in a step.
func positionPurges(step int) int { return step * 7 % positionPages }

// stepUntilKilled stores and purges pages in turn, and has the number of the step for its position.
func stepUntilKilled(dir string) int {
	s := New(Config{Path: dir, Required: true}, crashTier)
	err := s.Open()
	first, _ := strconv.Atoi(string(s.Position()))
	fmt.Println("ready")
	for step := first + 1; err == nil; step++ {
		if r := s.Put(signedEntry(s, positionURL(step), step, 100), 0); r != Stored {
			err = fmt.Errorf("put: %v", r)
			break
		}
		var req *PurgeRequest
		if req, err = s.BeginPurge(Selectors{URLs: []string{positionURL(positionPurges(step))}}, PurgeOptions{}); err != nil {
			break
		}
		if err = s.SetPosition([]byte(strconv.Itoa(step))); err != nil {
			break
		}
		fmt.Println("step", step)
		switch {
		case step%100 == 0:
			_, err = req.Wait()
		case step%20 == 0: // so that purges have something to hit in the file
			err = s.Sync()
		}
	}
	fmt.Println("error", err)
	return 1
}

// TestFaultKillPosition kills a process that purges, on the file of those killed before. Whatever
// position the file has, all purges up to it hold.
func TestFaultKillPosition(t *testing.T) {
	rng := seeded(t)
	dir := t.TempDir()
	before := 0
	// A busy machine may leave a process no time to write any.
	for round := 0; round < rounds(4, 200) || before == 0 && round < 100; round++ {
		cmd, out := child(t, "position", dir)
		after, last := time.Duration(50+rng.IntN(300))*time.Millisecond, before
		for lines := bufio.NewScanner(out); lines.Scan(); {
			step := 0
			if lines.Text() == "ready" {
				time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			} else if strings.HasPrefix(lines.Text(), "error") {
				t.Error(lines.Text())
			} else if _, err := fmt.Sscanf(lines.Text(), "step %d", &step); err == nil {
				last = max(last, step)
			}
		}
		if err := cmd.Wait(); err == nil || t.Failed() {
			t.Fatalf("the process ended by itself: %v", err)
		}
		s := openStore(t, Config{Path: dir, Required: true}, crashTier)
		position, _ := strconv.Atoi(string(s.Position()))
		t.Logf("round %d: position %d of %d", round, position, last)
		if position < before || position > last+1 {
			t.Errorf("round %d: position %d, want %d to %d", round, position, before, last+1)
		}
		for step := max(1, position-positionPages+1); step <= position; step++ { // each page was purged in one of them
			url := positionURL(positionPurges(step))
			if version, _ := found(t, s, url); version > 0 && version <= step {
				t.Errorf("round %d: %s: version %d is there, which was purged in step %d, up to %d", round, url, version, step, position)
			}
		}
		checkAgreement(t, s)
		must(t, s.Close())
		before = position
	}
	if before == 0 {
		t.Error("no position was ever written")
	}
}

// positionKey is where a sight has the position.
const positionKey = "position"

// positionOf is a store's position as a number.
func positionOf(s *Store) int {
	p := s.Position()
	if len(p) != 8 {
		return 0
	}
	return int(binary.BigEndian.Uint64(p))
}

// checkPosition holds a sight to the purges up to the position in it, which are those of so many
// steps.
func checkPosition(t *testing.T, seen sight, answered []promises) {
	t.Helper()
	if position := seen[positionKey]; position != 0 {
		answered[position-1].checkPurges(t, seen, fmt.Sprintf("at position %d", position))
	}
}

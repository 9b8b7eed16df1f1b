package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

var bothTiers = Settings{Memory: 16 << 20, Disk: 64 << 20}

// diskTier has next to no memory, so that look-ups read the file.
var diskTier = Settings{Memory: 1, Disk: 64 << 20}

// fill stores n entries, synced, closes the store and returns their URLs.
func fill(t *testing.T, dir string, n, size int) []string {
	t.Helper()
	s := openStore(t, Config{Path: dir, Required: true}, diskTier)
	var urls []string
	for i := range n {
		url := fmt.Sprintf("http://example.com/%d", i)
		urls = append(urls, url)
		if r := s.Put(testEntry(s, url, bytes.Repeat([]byte(url), size/len(url)+1), "t"), 0); r != Stored {
			t.Fatalf("Put = %v", r)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return urls
}

// putPages stores n small pages, on disk as well, and returns their URLs for hits.
func putPages(t *testing.T, s *Store, n int) (urls []string) {
	t.Helper()
	for i := range n {
		urls = append(urls, fmt.Sprintf("http://example.com/%d", i))
		s.Put(testEntry(s, urls[i], bytes.Repeat([]byte(urls[i]), 10)), 0)
	}
	must(t, s.Sync())
	return urls
}

// hits counts the URLs found and checks every body.
func hits(t *testing.T, s *Store, urls []string) int {
	t.Helper()
	n := 0
	for _, url := range urls {
		r := s.Lookup(keyOf(url), matchAny)
		if r.Entry != nil {
			n++
			if body := bodyOf(t, r.Entry); !bytes.Equal(body, bytes.Repeat([]byte(url), len(body)/len(url))) {
				t.Errorf("%s: wrong body", url)
			}
		}
		r.Release()
	}
	return n
}

// asideFiles are the files that were set aside.
func asideFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, FileName+".*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestOpenSetsAsideUnusableFiles(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, file string)
	}{
		{"no database", func(t *testing.T, file string) { overwrite(t, file, 0, bytes.Repeat([]byte("junk"), 5000)) }},
		{"a few bytes", func(t *testing.T, file string) {
			if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"cut short", func(t *testing.T, file string) {
			if err := os.Truncate(file, 3*4096); err != nil {
				t.Fatal(err)
			}
		}},
		{"no schema", func(t *testing.T, file string) { setMeta(t, file, metaSchema, 0) }},
		{"no number of a schema", func(t *testing.T, file string) { setMeta(t, file, metaSchema, 1<<40) }},
		{"root page damaged", func(t *testing.T, file string) {
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, file, 2*4096, bytes.Repeat([]byte{0xff}, int(info.Size())-2*4096))
		}},
		{"purge record damaged", func(t *testing.T, file string) {
			edit(t, file, func(tx *bbolt.Tx) error { return tx.Bucket(purgesBucket).Put(idBytes(7), []byte("not a purge")) })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			urls := fill(t, dir, 20, 1000)
			tt.damage(t, filepath.Join(dir, FileName))
			s := openStore(t, Config{Path: dir, Required: true}, diskTier)
			if n := hits(t, s, urls); n != 0 {
				t.Errorf("%d hits in a new file", n)
			}
			if aside := asideFiles(t, dir); len(aside) != 1 || !strings.Contains(aside[0], ".corrupt-") {
				t.Errorf("set aside: %q", aside)
			}
			if st := s.Stats(); st.Errors[DiskTier] == 0 || st.Disk.State != "open" {
				t.Errorf("stats %+v", st)
			}
			if r := s.Put(testEntry(s, urls[0], []byte(urls[0])), 0); r != Stored {
				t.Errorf("Put = %v", r)
			}
			if err := s.Sync(); err != nil {
				t.Errorf("Sync: %v", err)
			}
		})
	}
}

func overwrite(t *testing.T, file string, off int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, off); err != nil {
		t.Fatal(err)
	}
}

// edit changes a closed file through bbolt.
func edit(t *testing.T, file string, fn func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
}

func setMeta(t *testing.T, file string, name []byte, n uint64) {
	t.Helper()
	edit(t, file, func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(name, idBytes(n)) })
}

func TestOpenErrorsNameFileAndCause(t *testing.T) {
	for _, tt := range []struct {
		name string
		path func(t *testing.T) string
		want string
	}{
		{"folder is a file", func(t *testing.T) string {
			file := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return file
		}, "folder"},
		{"database is a folder", func(t *testing.T) string {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, FileName), 0o700); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "cannot be opened"},
		{"locked", func(t *testing.T) string {
			dir := t.TempDir()
			openStore(t, Config{Path: dir, Required: true}, bothTiers)
			return dir
		}, "locked by another process"},
		{"not writable", func(t *testing.T) string {
			if os.Getuid() == 0 {
				t.Skip("root may write everywhere")
			}
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o500); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "no permission"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := tt.path(t)
			err := New(Config{Path: path, Required: true}, bothTiers).Open()
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("required: %v; want %q and the path", err, tt.want)
			}
			var log bytes.Buffer
			s := openStore(t, Config{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil))}, bothTiers)
			if !strings.Contains(log.String(), tt.want) {
				t.Errorf("log: %s", &log)
			}
			if r := s.Put(testEntry(s, "http://example.com/", []byte("http://example.com/")), 0); r != Stored {
				t.Errorf("Put without disk = %v", r)
			}
			if n := hits(t, s, []string{"http://example.com/"}); n != 1 {
				t.Error("not found without disk")
			}
			if st := s.Stats(); st.Disk.State != "failed" || st.Errors[DiskTier] != 1 {
				t.Errorf("stats %+v", st.Disk)
			}
		})
	}
}

func TestFolderIsMadePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	openStore(t, Config{Path: dir, Required: true}, bothTiers)
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, FileName): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
}

func TestDamagedRowsAreMisses(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int
		rows []byte
	}{
		{"record", 1000, recordsBucket},
		{"body beside its record", 30_000, recordsBucket},
		{"key row", 1000, keysBucket},
		{"chunk", 50_000, chunksBucket},
		{"chunk of a large body", 1_000_000, chunksBucket},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			urls := fill(t, dir, 5, tt.size)
			edit(t, filepath.Join(dir, FileName), func(tx *bbolt.Tx) error {
				b := tx.Bucket(tt.rows)
				k, v := b.Cursor().First()
				v = bytes.Clone(v)
				v[len(v)-1] ^= 1
				return b.Put(bytes.Clone(k), v)
			})
			s := openStore(t, Config{Path: dir, Required: true}, Settings{Memory: 16 << 20, Disk: 64 << 20})
			if n := hits(t, s, urls); n != len(urls)-1 {
				t.Errorf("%d hits of %d", n, len(urls))
			}
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			st := s.Stats()
			if st.Errors[DiskTier] != 1 || st.Disk.State != "open" {
				t.Errorf("errors %v, state %s", st.Errors, st.Disk.State)
			}
			if st.Disk.Entries != int64(len(urls)-1) {
				t.Errorf("%d entries are left", st.Disk.Entries)
			}
		})
	}
}

// TestRecordOfAnotherVersion: with a right checksum it is a miss all the same, counted and deleted.
func TestRecordOfAnotherVersion(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 5, 1000)
	edit(t, filepath.Join(dir, FileName), func(tx *bbolt.Tx) error {
		b := tx.Bucket(recordsBucket)
		k, v := b.Cursor().First()
		v = bytes.Clone(v)
		v[4] = recordVersion + 1
		seal(rowID(k), v, int(binary.BigEndian.Uint32(v[8:])))
		return b.Put(bytes.Clone(k), v)
	})
	s := openStore(t, Config{Path: dir, Required: true}, bothTiers)
	if n := hits(t, s, urls); n != len(urls)-1 {
		t.Errorf("%d hits of %d", n, len(urls))
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Errors[DiskTier] != 1 || st.Disk.Entries != int64(len(urls)-1) {
		t.Errorf("stats %+v", st)
	}
}

// breakable opens files that can be made to fail and to work again.
type breakable struct {
	mu   sync.Mutex
	open []*os.File
	deny bool
}

func (b *breakable) openFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.deny {
		return nil, &os.PathError{Op: "open", Path: name, Err: errors.New("injected")}
	}
	f, err := os.OpenFile(name, flag, perm)
	if err == nil {
		b.open = append(b.open, f)
	}
	return f, err
}

func (b *breakable) mend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deny = false
}

func TestLateDiskIsTakenUp(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 10, 1000)
	clock := newTestClock()
	clock.nanos.Store(time.Now().UnixNano())
	files := &breakable{deny: true}
	s := openStore(t, Config{Path: dir, OpenFile: files.openFile, Now: clock.now}, diskTier)
	if n := hits(t, s, urls); n != 0 {
		t.Errorf("%d hits without the file", n)
	}
	if _, err := s.Purge(Selectors{URLs: urls[:3]}, PurgeOptions{}); !errors.Is(err, ErrNotDurable) {
		t.Errorf("Purge without the file: %v", err)
	}
	files.mu.Lock()
	files.deny = false
	files.mu.Unlock()
	clock.advance(retryTime)
	waitFor(t, func() bool { return s.Stats().Disk.State == "open" })
	if n := hits(t, s, urls); n != 7 {
		t.Errorf("%d hits; want the 7 that were not purged meanwhile", n)
	}
}

// waitFor waits for something another goroutine does, without a guess at how long it takes.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal("it does not come")
		}
		<-tick.C
	}
}

func TestPurgesSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 10, 1000)
	for round := range 3 {
		s := openStore(t, Config{Path: dir, Required: true}, diskTier)
		if n := hits(t, s, urls); n != 10-2*round {
			t.Errorf("round %d: %d hits", round, n)
		}
		held := s.Begin() // keeps the records from being dropped
		if n, err := s.Purge(Selectors{URLs: urls[2*round : 2*round+1]}, PurgeOptions{}); n != 1 || err != nil {
			t.Errorf("Purge = %d, %v", n, err)
		}
		if n, err := s.Purge(Selectors{URLs: urls[2*round+1 : 2*round+2]}, PurgeOptions{}); n != 1 || err != nil {
			t.Errorf("Purge = %d, %v", n, err)
		}
		if n := s.Stats().PurgesPending; n < 2 {
			t.Errorf("%d purges pending under an open ticket", n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		held.End()
	}
	s := openStore(t, Config{Path: dir, Required: true}, diskTier)
	waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
	if st := s.Stats(); st.Disk.Entries != 4 {
		t.Errorf("%d entries are left on disk", st.Disk.Entries)
	}
	checkAgreement(t, s)
}

func TestFetchTimeSurvivesReopening(t *testing.T) {
	const took = 212_400_001 * time.Nanosecond
	dir := t.TempDir()
	s := openStore(t, Config{Path: dir, Required: true}, diskTier)
	e := testEntry(s, "http://example.com/", []byte("body"))
	e.FetchTime = took
	if result := s.Put(e, 1); result != Stored {
		t.Fatal(result)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, Config{Path: dir, Required: true}, diskTier)
	found := s.Lookup(e.Key, func(*Variant) int { return 1 })
	defer found.Release()
	if found.Entry == nil || found.Entry.FetchTime != took {
		t.Errorf("found %+v, want its FetchTime to be %v", found.Entry, took)
	}
}

func TestBudgetsHold(t *testing.T) {
	fillsByLength(t)
	for _, policy := range []Eviction{LRU, LFU, FIFO, None} {
		t.Run(policy.String(), func(t *testing.T) {
			const budget = 4 << 20
			dir := t.TempDir()
			s := openStore(t, Config{Path: dir, Required: true}, Settings{Memory: 1 << 20, Disk: budget, Eviction: policy})
			refused := 0
			for i := range 3000 {
				url := fmt.Sprintf("http://example.com/%d", i)
				if r := s.Put(testEntry(s, url, bytes.Repeat([]byte(url), 150), "t"), 0); r == RefusedFull {
					refused++
				}
				if i%100 == 0 {
					if err := s.Sync(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() bool { return s.Stats().Disk.Bytes <= budget })
			st := s.Stats()
			if st.Memory.Bytes > st.Memory.Budget || st.Disk.Entries == 0 || (policy == None) != (refused > 0) {
				t.Errorf("%d refused; %+v %+v", refused, st.Memory, st.Disk)
			}
			if info, err := os.Stat(filepath.Join(dir, FileName)); err != nil || info.Size() > budget*3/2 {
				t.Errorf("file of %d bytes for a budget of %d", info.Size(), budget)
			}
			checkAgreement(t, s)
			s.Apply(Settings{Memory: 100 << 10, Disk: budget / 2, Eviction: LRU})
			if n := s.Stats().Memory.Bytes; n > 100<<10 {
				t.Errorf("%d bytes in memory after shrinking", n)
			}
			waitFor(t, func() bool { return s.Stats().Disk.Bytes <= budget/2 })
		})
	}
}

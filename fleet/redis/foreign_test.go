//go:build unix

package redis

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
)

func TestTrimmedByOthers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := open(t, Config{Addresses: []string{s.url()}, History: 200})
	var all []fleet.Generation
	for range 1000 {
		out, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0)
		must(t, err)
		all = append(all, out.Generation)
	}
	records, state, err := e.Read(within(t), fleet.Place{}, 0, 2000, 0)
	if err != nil || len(records) < 200 || len(records) > 400 || records[0].Generation != state.First {
		t.Errorf("%d records, %v, first %d: %+v", len(records), err, records[0].Generation, state)
	}
	s.do("XTRIM", "{larder:1:larder}:log", "MAXLEN", "=", "3")
	if state, err := e.Beat(within(t), fleet.Place{}, fleet.Node{ID: "n"}); err != nil || state.First != all[997] || state.Tail != all[999] {
		t.Errorf("%+v, %v, want first %d", state, err, all[997])
	}
	s.do("XTRIM", "{larder:1:larder}:log", "MAXLEN", "=", "0")
	if is := stateOfLog(t, e); is.Epoch == state.Epoch || is.Tail <= all[999] {
		t.Errorf("an empty log: %+v, was %+v", is, state)
	}
}

// A key with more variants than an index has keeps the newest.
func TestIndexIsBounded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.open(t)
	must(t, e.PutRecord(within(t), "key", "over", []byte("x"), nil, time.Millisecond))
	for i := range 150 {
		must(t, e.PutRecord(within(t), "key", fmt.Sprint(i), []byte("x"), []byte("row"), time.Hour+time.Duration(i)*time.Second))
	}
	record, index, err := e.Find(within(t), "key", "0")
	if err != nil || record != nil || len(index) != 100 || index["149"] == nil || index["over"] != nil {
		t.Errorf("%q, %d rows, %v", record, len(index), err)
	}
	eventually(t, "there are 100 records and an index", func() bool {
		keys := s.do("DBSIZE")
		n, err := keys.AsInt64()
		return err == nil && n == 101
	})
}

// What a stranger has put into the keys is no reason to stop.
func TestForeignContent(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.open(t)
	state := stateOfLog(t, e)
	s.do("HSET", "{larder:1:larder}:fleet", "n:odd", "nonsense", "n:other", "7 8 {nonsense")
	s.do("XADD", "{larder:1:larder}:log", fmt.Sprintf("%d-0", state.Tail+1), "what", "ever")
	records, _, err := e.Read(within(t), fleet.Place{}, state.Tail, 10, 0)
	if err != nil || len(records) != 1 || records[0].Mark || len(records[0].Data) != 0 {
		t.Errorf("%+v, %v, want a record that says nothing", records, err)
	}
	nodes, _, err := e.Nodes(within(t))
	if err != nil || len(nodes) != 2 {
		t.Fatalf("nodes %+v, %v", nodes, err)
	}
	for _, n := range nodes {
		must(t, e.Evict(within(t), n))
	}
	if nodes, _, _ = e.Nodes(within(t)); len(nodes) != 0 {
		t.Errorf("nodes %+v stay", nodes)
	}
	// The log goes on above a record that the list does not know of.
	out, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0)
	if err != nil || out.Generation <= state.Tail+1 {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestForeignKeys: what makes the log of no use says what to do.
func TestForeignKeys(t *testing.T) {
	t.Parallel()
	const nodes, log = "{larder:1:larder}:fleet", "{larder:1:larder}:log"
	for name, words := range map[string][]string{
		"a log of another type":              {"SET", log, "a string"},
		"a list of nodes of another type":    {"SET", nodes, "a string"},
		"a record that is beyond all others": {"XADD", log, "9007199254740993-0", "data", "x"},
		"a generation as high as can be":     {"HSET", nodes, "gen", "9007199254740991"},
		"the last record there can be":       {"XADD", log, "18446744073709551615-18446744073709551615", "data", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			e := s.open(t)
			stateOfLog(t, e)
			s.do(words...)
			for range 2 {
				_, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0)
				if err == nil || !strings.Contains(err.Error(), "UNLINK "+log+" "+nodes) {
					t.Errorf("it does not say what to do: %v", err)
				}
			}
			s.do("UNLINK", log, nodes)
			worksAgain(t, e)
		})
	}
	t.Run("numbers that are none", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		e := s.open(t)
		for _, field := range []string{"since", "gen", "first", "length", "mark", "bytes", "start"} {
			for _, value := range []string{"", "x", "-1", "1e300", "nan", "inf", "1.5", "9007199254740992", "9007199254740991"} {
				if field == "gen" && value == "9007199254740991" {
					continue // it is as high as can be
				}
				s.do("HSET", nodes, field, value)
				_, was, err := e.Nodes(within(t))
				if err != nil {
					t.Fatalf("%s is %q: %v", field, value, err)
				}
				out, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0)
				if err != nil || out.Generation != was.Tail+1 || out.State.Mark > was.Tail || out.State.First > was.Tail {
					t.Errorf("%s is %q: %+v, %v, after %+v", field, value, out, err, was)
				}
			}
		}
	})
}

// TestForeignRecordsAreNoBusyLoop: a reader is not kept busy by records in the places of others.
func TestForeignRecordsAreNoBusyLoop(t *testing.T) {
	t.Parallel()
	const log = "{larder:1:larder}:log"
	s := newServer(t)
	e := s.open(t)
	out, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0)
	must(t, err)
	read := func(after fleet.Generation) []fleet.Record {
		t.Helper()
		records, _, err := e.Read(within(t), fleet.Place{}, after, 10, 100*time.Millisecond)
		must(t, err)
		return records
	}
	s.do("XADD", log, fmt.Sprintf("%d-5", out.Generation), "data", "forged")
	if records := read(out.Generation); len(records) > 0 {
		t.Errorf("in the place of the newest: %+v", records)
	}
	s.do("CONFIG", "RESETSTAT")
	read(out.Generation)
	m := s.do("INFO", "commandstats")
	text, err := m.ToString()
	if _, stats, found := strings.Cut(text, "cmdstat_evalsha:calls="); err != nil || !found || !strings.HasPrefix(stats, "2,") {
		t.Errorf("it asks again and again: %s", stats)
	}
	next, err := e.Append(within(t), fleet.Place{}, []byte("y"), 0)
	must(t, err)
	if records := read(out.Generation); next.Generation != out.Generation+1 || len(records) != 1 || string(records[0].Data) != "y" {
		t.Errorf("after it comes %d: %+v", next.Generation, records)
	}
}

// TestLeasesWithoutAnEnd: somebody has taken the time to live away from one that is held.
func TestLeasesWithoutAnEnd(t *testing.T) {
	t.Parallel()
	e := open(t, Config{Addresses: []string{sharedServer(t).url()}, Name: newName()})
	ttl := 100 * time.Millisecond
	if l, err := e.Take(within(t), "key", "t1", "one", nil, time.Hour); err != nil || !l.Taken {
		t.Fatal(l, err)
	}
	sharedServer(t).do("PERSIST", e.leaseKey("key"))
	eventually(t, "another takes it", func() bool {
		l, err := e.Take(within(t), "key", "t2", "two", nil, ttl)
		return err == nil && l.Taken
	})
}

// TestFullIndex: an index of as many rows as a key can have, each of them as long as one can be, is
// read.
func TestFullIndex(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.open(t)
	row := []byte(strings.Repeat("x", 1<<10))
	for i := range 110 {
		must(t, e.PutRecord(within(t), "key", fmt.Sprintf("%032d", i), []byte("record"), row, time.Hour))
	}
	_, index, err := e.Find(within(t), "key", "0")
	must(t, err)
	total := 0
	for _, row := range index {
		total += len(row)
	}
	if len(index) != 100 || total != 100<<10 || total > fleet.MaxIndexBytes {
		t.Errorf("%d rows of %d bytes", len(index), total)
	}
}

// TestTooLargeToRead: what somebody else has put in the place of a record, of an index or of a
// chunk is not read where it is larger than one can be.
func TestTooLargeToRead(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.open(t)
	must(t, e.PutRecord(within(t), "key", "v", []byte("record"), []byte("row"), time.Hour))
	must(t, e.PutChunk(within(t), "id", 0, make([]byte, fleet.MaxChunkBytes), time.Hour))
	chunks, err := e.Chunks(within(t), "id", []int{0, 1})
	if err != nil || len(chunks[0]) != fleet.MaxChunkBytes || chunks[1] != nil {
		t.Errorf("chunks of %d and %d bytes, %v", len(chunks[0]), len(chunks[1]), err)
	}
	largest := make([]byte, fleet.MaxRecordBytes)
	copy(largest, "not zeros alone")
	must(t, e.PutRecord(within(t), "key", "w", largest, []byte("row"), time.Hour))
	for _, variant := range []string{"v", "w"} {
		record, index, err := e.Find(within(t), "key", variant)
		alone, errAlone := e.Record(within(t), "key", variant)
		if err != nil || errAlone != nil || len(record) == 0 || len(alone) != len(record) || len(index) != 2 {
			t.Errorf("%s: %d and %d bytes, %d rows, %v, %v", variant, len(record), len(alone), len(index), err, errAlone)
		}
	}
	s.do("APPEND", e.recordKey("key", "v"), strings.Repeat("x", fleet.MaxRecordBytes))
	s.do("HSET", e.indexKey("key"), "large", strings.Repeat("x", indexMemory))
	s.do("APPEND", e.chunkKeys("id", []int{0})[0], "x")
	record, index, err := e.Find(within(t), "key", "v")
	alone, errAlone := e.Record(within(t), "key", "v")
	chunks, errChunks := e.Chunks(within(t), "id", []int{0})
	if record != nil || len(index) != 0 || alone != nil || chunks[0] != nil {
		t.Errorf("read %d and %d bytes, %d rows, a chunk of %d", len(record), len(alone), len(index), len(chunks[0]))
	}
	if err := errors.Join(err, errAlone, errChunks); err != nil {
		t.Error(err)
	}
}

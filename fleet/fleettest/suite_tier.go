package fleettest

import (
	"bytes"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
)

var tierTests = []test{
	{"nothing is no error", tierNothing},
	{"records and rows by variant", tierRecords},
	{"keys and variants are bytes", tierKeys},
	{"removes what was seen", tierRemove},
	{"replaces what was seen", tierReplace},
	{"a record ends", tierExpires},
	{"chunks", tierChunks},
	{"chunks are kept", tierKeep},
	{"a record and its row go at once", tierConcurrent},
}

func put(t *testing.T, e fleet.Engine, key, variant, record, row string) {
	t.Helper()
	must(t, e.PutRecord(within(t), key, variant, []byte(record), []byte(row), time.Hour))
}

// finds asks for a record and all rows of its key.
func finds(t *testing.T, e fleet.Engine, key, variant string, record string, rows map[string]string) {
	t.Helper()
	got, index, err := e.Find(within(t), key, variant)
	must(t, err)
	text := map[string]string{}
	for variant, row := range index {
		text[variant] = string(row)
	}
	if string(got) != record || (got == nil) != (record == "") || !maps.Equal(text, rows) {
		t.Errorf("%q %q: %q, %q, want %q, %q", key, variant, got, text, record, rows)
	}
	got, err = e.Record(within(t), key, variant)
	must(t, err)
	if string(got) != record {
		t.Errorf("%q %q: then %q, want %q", key, variant, got, record)
	}
}

func tierNothing(t *testing.T, a, _ fleet.Engine) {
	finds(t, a, "key", "variant", "", nil)
	must(t, a.RemoveRecord(within(t), "key", "variant", []byte("x")))
	chunks, err := a.Chunks(within(t), "id", []int{0, 7})
	if err != nil || len(chunks) != 2 || chunks[0] != nil || chunks[1] != nil {
		t.Errorf("chunks %v, %v", chunks, err)
	}
	chunks, err = a.Chunks(within(t), "id", nil)
	if err != nil || len(chunks) != 0 {
		t.Errorf("no chunks: %v, %v", chunks, err)
	}
}

func tierRecords(t *testing.T, a, b fleet.Engine) {
	put(t, a, "key", "1", "record 1", "row 1")
	put(t, b, "key", "2", "record 2", "")
	put(t, a, "other", "1", "record 3", "row 3")
	rows := map[string]string{"1": "row 1", "2": ""}
	finds(t, b, "key", "1", "record 1", rows)
	finds(t, a, "key", "2", "record 2", rows)
	finds(t, a, "key", "3", "", rows)
	finds(t, b, "other", "1", "record 3", map[string]string{"1": "row 3"})
	put(t, b, "key", "1", "record 4", "row 4")
	finds(t, a, "key", "1", "record 4", map[string]string{"1": "row 4", "2": ""})
}

func tierKeys(t *testing.T, a, b fleet.Engine) {
	words := []string{"a", "", "{", "}", "}{", "{}", ":", "a:", ":a", "\x00\xff", "\xff", "%7D", "a b\r\n", "ä"}
	for _, key := range words {
		for _, variant := range words {
			put(t, a, key, variant, fmt.Sprintf("%q %q", key, variant), variant)
		}
	}
	rows := map[string]string{}
	for _, variant := range words {
		rows[variant] = variant
	}
	for _, key := range words {
		for _, variant := range words {
			finds(t, b, key, variant, fmt.Sprintf("%q %q", key, variant), rows)
		}
	}
}

func tierRemove(t *testing.T, a, b fleet.Engine) {
	put(t, a, "key", "1", "record 1", "row 1")
	put(t, a, "key", "2", "record 2", "row 2")
	must(t, b.RemoveRecord(within(t), "key", "1", []byte("another")))
	must(t, b.RemoveRecord(within(t), "key", "1", nil))
	finds(t, a, "key", "1", "record 1", map[string]string{"1": "row 1", "2": "row 2"})
	must(t, b.RemoveRecord(within(t), "key", "1", []byte("record 1")))
	finds(t, a, "key", "1", "", map[string]string{"2": "row 2"})
	must(t, b.RemoveRecord(within(t), "key", "1", []byte("record 1")))
	finds(t, a, "key", "2", "record 2", map[string]string{"2": "row 2"})
}

func tierReplace(t *testing.T, a, b fleet.Engine) {
	replace := func(variant, seen, record, row string, want bool) {
		t.Helper()
		var was []byte
		if seen != "" {
			was = []byte(seen)
		}
		if ok, err := b.ReplaceRecord(within(t), "key", variant, was, []byte(record), []byte(row), time.Hour); err != nil || ok != want {
			t.Errorf("%q by %q: %t, %v, want %t", seen, record, ok, err, want)
		}
	}
	replace("1", "", "record 1", "row 1", true)
	finds(t, a, "key", "1", "record 1", map[string]string{"1": "row 1"})
	replace("1", "", "record 2", "row 2", false)
	replace("1", "another", "record 2", "row 2", false)
	finds(t, a, "key", "1", "record 1", map[string]string{"1": "row 1"})
	replace("1", "record 1", "record 2", "row 2", true)
	replace("1", "record 1", "record 2", "row 2", true) // again, after a reply that was lost
	replace("2", "is gone", "record 3", "row 3", true)
	finds(t, a, "key", "1", "record 2", map[string]string{"1": "row 2", "2": "row 3"})
	var replaced atomic.Int64 // of those who have seen the same, one replaces it
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			e, text := []fleet.Engine{a, b}[w%2], fmt.Appendf(nil, "%d", w)
			ok, err := e.ReplaceRecord(within(t), "key", "1", []byte("record 2"), text, text, time.Hour)
			if err != nil {
				t.Error(err)
			}
			if ok {
				replaced.Add(1)
			}
		})
	}
	group.Wait()
	record, index, err := a.Find(within(t), "key", "1")
	if must(t, err); replaced.Load() != 1 || !bytes.Equal(record, index["1"]) {
		t.Errorf("%d have replaced it; the record is %q, its row %q", replaced.Load(), record, index["1"])
	}
}

func tierExpires(t *testing.T, a, b fleet.Engine) {
	must(t, a.PutRecord(within(t), "key", "1", []byte("record"), []byte("row"), short))
	put(t, a, "key", "2", "record 2", "row 2")
	must(t, a.PutRecord(within(t), "key", "3", []byte("record"), []byte("row"), time.Nanosecond))
	for _, variant := range []string{"1", "3"} {
		eventually(t, "a record ends", func() bool {
			record, err := b.Record(within(t), "key", variant)
			must(t, err)
			return record == nil
		})
		// Its row may stay for longer, and goes with this.
		must(t, a.RemoveRecord(within(t), "key", variant, nil))
	}
	finds(t, b, "key", "2", "record 2", map[string]string{"2": "row 2"})
}

func tierChunks(t *testing.T, a, b fleet.Engine) {
	large := bytes.Repeat([]byte("0123456789abcdef"), fleet.MaxChunkBytes/16-1)
	for i := range 4 {
		must(t, a.PutChunk(within(t), "{id}:", i, append([]byte{byte(i)}, large...), time.Hour))
	}
	must(t, a.PutChunk(within(t), "{id}", 0, []byte("another"), time.Hour))
	chunks, err := b.Chunks(within(t), "{id}:", []int{3, 9, 0, 1, 2})
	must(t, err)
	for i, want := range []int{3, -1, 0, 1, 2} {
		switch {
		case want < 0 && chunks[i] != nil:
			t.Errorf("chunk 9 has %d bytes", len(chunks[i]))
		case want >= 0 && !bytes.Equal(chunks[i], append([]byte{byte(want)}, large...)):
			t.Errorf("chunk %d has %d bytes, or others", want, len(chunks[i]))
		}
	}
}

func tierKeep(t *testing.T, a, b fleet.Engine) {
	put := func(id string, ttl time.Duration) {
		for i := range 2 {
			must(t, a.PutChunk(within(t), id, i, []byte("x"), ttl))
		}
	}
	put("kept", time.Hour)
	for n, want := range []bool{true, true, true, false} {
		if all, err := b.HasChunks(within(t), "kept", n); err != nil || all != want {
			t.Errorf("%d of 2 there: %v, %v", n, all, err)
		}
		if all, err := b.KeepChunks(within(t), "kept", n, time.Hour); err != nil || all != want {
			t.Errorf("%d of 2 kept: %v, %v", n, all, err)
		}
	}
	id := ""
	for ttl := short; ; ttl *= 2 { // on a busy machine they may end before one is kept again
		id = ttl.String()
		put(id, time.Hour)
		if all, err := b.KeepChunks(within(t), id, 2, ttl); err != nil || !all {
			t.Fatalf("kept for less: %v, %v", all, err)
		}
		all, err := b.KeepChunks(within(t), id, 1, time.Hour)
		if err != nil || !all && ttl > long {
			t.Fatalf("kept: %v, %v", all, err)
		}
		if all {
			break
		}
	}
	eventually(t, "a chunk ends", func() bool {
		chunks, err := a.Chunks(within(t), id, []int{0, 1})
		must(t, err)
		if chunks[0] == nil {
			t.Fatal("a chunk has gone that was kept")
		}
		return chunks[1] == nil
	})
}

func tierConcurrent(t *testing.T, a, b fleet.Engine) {
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			e := []fleet.Engine{a, b}[w%2]
			for i := range 20 {
				text := fmt.Sprintf("%d %d", w, i)
				if err := e.PutRecord(within(t), "key", "1", []byte(text), []byte(text), time.Hour); err != nil {
					t.Error(err)
				}
				if record, _, err := e.Find(within(t), "key", "1"); err != nil || record == nil {
					t.Errorf("%q, %v", record, err)
				}
			}
		})
	}
	group.Wait()
	record, index, err := a.Find(within(t), "key", "1")
	if must(t, err); !bytes.Equal(record, index["1"]) {
		t.Errorf("the record is %q, its row %q", record, index["1"])
	}
}

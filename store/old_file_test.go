package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// TestFileOfAnotherReleaseIsBegunAnew: another schema is no damage. No error is counted or logged,
// and the old file takes no room.
func TestFileOfAnotherReleaseIsBegunAnew(t *testing.T) {
	for _, tt := range []struct {
		name   string
		schema uint64
		bucket []byte // that it does not have
	}{
		{"older", SchemaVersion - 1, nil},
		{"newer", SchemaVersion + 1, nil},
		{"with other buckets", SchemaVersion + 1, tagsBucket},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			urls := fill(t, dir, 20, 1000)
			file := filepath.Join(dir, FileName)
			setMeta(t, file, metaSchema, tt.schema)
			if tt.bucket != nil {
				edit(t, file, func(tx *bbolt.Tx) error { return tx.DeleteBucket(tt.bucket) })
			}
			var log bytes.Buffer
			s := openStore(t, Config{Path: dir, Required: true, Logger: slog.New(slog.NewTextHandler(&log, nil))}, diskTier)
			if n := hits(t, s, urls); n != 0 {
				t.Errorf("%d hits in a new file", n)
			}
			if aside := asideFiles(t, dir); len(aside) != 0 {
				t.Errorf("set aside: %q", aside)
			}
			if st := s.Stats(); st.Errors[DiskTier] != 0 || st.Disk.State != "open" {
				t.Errorf("stats %+v", st)
			}
			want := fmt.Sprintf("schema=%d schema_here=%d", tt.schema, SchemaVersion)
			if text := log.String(); !strings.Contains(text, want) || !strings.Contains(text, "level=INFO") || strings.Contains(text, "level=ERROR") {
				t.Errorf("log:\n%s", text)
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

// TestOneFileIsKeptAside: a disk that damages one file after the other is not filled with them.
func TestOneFileIsKeptAside(t *testing.T) {
	dir := t.TempDir()
	var before string
	for range 3 {
		fill(t, dir, 5, 1000)
		overwrite(t, filepath.Join(dir, FileName), 0, bytes.Repeat([]byte("junk"), 5000))
		s := openStore(t, Config{Path: dir, Required: true}, diskTier)
		aside := asideFiles(t, dir)
		if len(aside) != 1 || aside[0] == before {
			t.Fatalf("set aside: %q, before %q", aside, before)
		}
		before = aside[0]
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

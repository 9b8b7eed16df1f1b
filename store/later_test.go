package store

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// TestRecordsOfALaterRelease: a record with a flag that this release does not know is a miss. It
// was answered with as if the flag were not there: the head of a file in slices as an empty page.
func TestRecordsOfALaterRelease(t *testing.T) {
	cfg := Config{Path: t.TempDir(), Required: true}
	s := openStore(t, cfg, bothTiers)
	large := make([]byte, 2*chunkSize)
	for url, body := range map[string][]byte{"http://h/small": []byte("body"), "http://h/large": large, "http://h/as-it-is": []byte("body")} {
		s.Put(testEntry(s, url, body), 0)
	}
	part := testEntry(s, "http://h/part", large)
	part.Flags |= FlagPart
	s.Put(part, 0)
	must(t, s.Close())

	db, err := bbolt.Open(filepath.Join(cfg.Path, FileName), 0o600, nil)
	must(t, err)
	flagged := 0
	must(t, db.Update(func(tx *bbolt.Tx) error {
		records, later := tx.Bucket(recordsBucket), make(map[uint64][]byte)
		err := records.ForEach(func(k, v []byte) error {
			id := binary.BigEndian.Uint64(k)
			r, _, err := openRecord(id, v)
			if err != nil || string(r.url()) == "http://h/as-it-is" {
				return err
			}
			v = append([]byte(nil), v...)
			v[6] |= 0x80
			seal(id, v, len(r))
			later[id] = v
			return nil
		})
		for id, v := range later {
			err = errors.Join(err, records.Put(idBytes(id), v))
		}
		flagged = len(later)
		return err
	}))
	must(t, db.Close())
	if flagged != 3 {
		t.Fatalf("%d records are changed", flagged)
	}

	s = openStore(t, cfg, bothTiers)
	for url, found := range map[string]bool{"http://h/small": false, "http://h/large": false, "http://h/part": false, "http://h/as-it-is": true} {
		r := s.Lookup(keyOf(url), matchAny)
		if r.Entry != nil != found {
			t.Errorf("%s: found %v", url, r.Entry != nil)
		}
		r.Release()
	}
	if found, _, err := s.List(Filter{}, 10, ""); err != nil || len(found) != 1 {
		t.Errorf("listed: %v, %v", found, err)
	}
}

// TestEntryBytesOfALaterRelease: the same of what machines share.
func TestEntryBytesOfALaterRelease(t *testing.T) {
	s := openStore(t, Config{}, bothTiers)
	b := AppendEntry(nil, testEntry(s, "http://h/", []byte("body")))
	if _, _, err := DecodeEntry(b); err != nil {
		t.Fatal(err)
	}
	for bit := range 16 {
		if flag := uint16(1) << bit; flag&laterFlags != 0 {
			later := append([]byte(nil), b...)
			binary.BigEndian.PutUint16(later[6:], binary.BigEndian.Uint16(later[6:])|flag)
			seal(0, later, len(later))
			if e, _, err := DecodeEntry(later); err == nil {
				t.Errorf("flag %#x: status %d", flag, e.Status)
			}
		}
	}
}

// TestPurgesOfALaterRelease: a purge with a flag that this release does not know may name more than
// it reads, and a row with one may be of what is not to be used as it is.
func TestPurgesOfALaterRelease(t *testing.T) {
	rec := &purgeRecord{gen: 7, severity: Soft, sel: Selectors{Tags: []string{"t"}}}
	for bit := range 8 {
		v := encodePurge(rec)
		flag := byte(1) << bit
		if v[4] |= flag; flag&purgeFlags != 0 {
			continue
		}
		v = append(v, "more"...)
		sealPurge(rec.gen, v)
		got, err := decodePurge(idBytes(rec.gen), v)
		if err != nil || !got.sel.All || got.severity != Hard || got.gen != rec.gen {
			t.Errorf("flag %#x: %+v, %v", flag, got, err)
		}
	}
	if got := rowSeverity(rowPart | 1<<5); got != Invalid {
		t.Errorf("a row with another flag: %v", got)
	}
	if got := rowSeverity(rowPart); got != NotPurged {
		t.Errorf("a row of a part: %v", got)
	}
}

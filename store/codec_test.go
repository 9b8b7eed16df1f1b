package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/store/internal/wire"
)

// fullEntry has something in every field.
func fullEntry(s *Store) *Entry {
	e := testEntry(s, "http://example.com/", []byte("body"), "tag", "\x00internal")
	e.ID, e.Flags, e.Generation = 1, 3, 1<<63+1
	e.Notes = []string{"one", ""}
	e.FetchTime = 212_400_001 * time.Nanosecond
	e.Variant = Variant{Names: []string{"Accept", "Cookie"}, Values: []string{"a\xff", ""}, Coding: "gzip"}
	e.Header = http.Header{"Etag": {`"v1"`}, "X-Own": {"", "\xff"}, "Link": {"</a>", "</b>", "</c>"}, "lower-case": {"kept"}}
	e.Trailer = http.Header{"Server-Timing": {"total;dur=1"}}
	return e
}

// sealed is the value of a row of an entry with an inline body.
func sealed(e *Entry, inline []byte) []byte {
	r := appendRecord(nil, e)
	value := append([]byte(r), inline...)
	seal(e.ID, value, len(r))
	return value
}

func TestRecordRoundTrip(t *testing.T) {
	s := New(Config{}, Settings{})
	bare := testEntry(s, "", nil)
	bare.Header, bare.Method = http.Header{}, ""
	long := fullEntry(s)
	long.URL = "http://example.com/" + strings.Repeat("x", 100_000)
	for range 300 {
		long.Tags = append(long.Tags, strings.Repeat("t", 200))
		long.Header["Link"] = append(long.Header["Link"], strings.Repeat("l", 20))
	}
	for _, tt := range []struct {
		name string
		e    *Entry
	}{{"full", fullEntry(s)}, {"bare", bare}, {"long", long}} {
		t.Run(tt.name, func(t *testing.T) {
			r, inline, err := openRecord(tt.e.ID, sealed(tt.e, bodyOf(t, tt.e)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeRecord(tt.e.ID, r)
			if err != nil {
				t.Fatal(err)
			}
			if want := bodyOf(t, tt.e); !bytes.Equal(inline, want) || r.bodyLen() != int64(len(want)) {
				t.Errorf("body %q of %d bytes, want %q", inline, r.bodyLen(), want)
			}
			want := *tt.e.Clone()
			want.ID, want.Body = tt.e.ID, nil
			for _, at := range []*time.Time{&want.RequestTime, &want.ResponseTime, &want.FreshUntil, &want.KeepUntil} {
				*at = instant(nanos(*at)) // without the monotonic clock
			}
			if !reflect.DeepEqual(got, &want) {
				t.Errorf("entry\n%+v\nwant\n%+v", got, &want)
			}
			if string(r.url()) != want.URL || r.key() != want.Key || r.generation() != want.Generation ||
				!slices.Equal(r.tags(), want.Tags) || r.keepUntil() != nanos(want.KeepUntil) || r.requestTime() != nanos(want.RequestTime) {
				t.Error("fields read at their places differ")
			}
			if v := r.variant(); !v.Equal(&want.Variant) {
				t.Errorf("variant %+v, want %+v", v, want.Variant)
			}
		})
	}
}

// TestRecordsFromBeforeFetchTime: a record that ends where they did is whole.
func TestRecordsFromBeforeFetchTime(t *testing.T) {
	e := fullEntry(New(Config{}, Settings{}))
	e.FetchTime = 0
	before := sealed(e, nil)
	before = before[:record(before).end()]
	before[4] = recordWithoutKeptFrom
	for _, tt := range []struct {
		name  string
		after []byte
		want  time.Duration
		ok    bool
	}{
		{"none", nil, 0, true},
		{"a time", binary.AppendUvarint(nil, 5), 5, true},
		{"one that overflows", binary.AppendUvarint(nil, 1<<63), 0, false},
		{"half of one", []byte{0x80}, 0, false},
		{"more behind it", []byte{5, 5}, 0, false},
	} {
		value := append(bytes.Clone(before), tt.after...)
		binary.BigEndian.PutUint32(value[8:], uint32(len(value)))
		binary.BigEndian.PutUint64(value[12:], 0) // no body
		seal(e.ID, value, len(value))
		r, _, err := openRecord(e.ID, value)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got, err := decodeRecord(e.ID, r)
		if (err == nil) != tt.ok || tt.ok && got.FetchTime != tt.want {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	s := New(Config{Now: newTestClock().now}, Settings{})
	valid := sealed(fullEntry(s), []byte("body"))
	f.Add(valid, false)
	f.Add(valid[5:], true)
	f.Add(sealed(testEntry(s, "http://example.com/", nil), nil)[5:], true)
	f.Add([]byte(nil), true)
	f.Fuzz(func(t *testing.T, data []byte, right bool) {
		if right { // with a right checksum, so that the decoder behind it is reached
			data = append([]byte{0, 0, 0, 0, recordVersion}, data...)
			n := len(data)
			if n >= recordFixed {
				n = min(n, max(recordFixed, int(binary.BigEndian.Uint32(data[8:]))))
			}
			seal(1, data, n)
		}
		r, inline, err := openRecord(1, data)
		var got *Entry
		if err == nil {
			got, err = decodeRecord(1, r)
		}
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Errorf("error is not errDamaged: %v", err)
			}
			return
		}
		got.Body = &diskBody{length: r.bodyLen()}
		again, inlineAgain, err := openRecord(1, sealed(got, inline))
		if err != nil {
			t.Fatalf("open what was encoded: %v", err)
		}
		twice, err := decodeRecord(1, again)
		if err != nil {
			t.Fatalf("decode again: %v", err)
		}
		got.Body = nil
		if !reflect.DeepEqual(got, twice) || !bytes.Equal(inline, inlineAgain) {
			t.Errorf("round trip:\n%+v\n%+v", got, twice)
		}
	})
}

func FuzzDecodePurge(f *testing.F) {
	key := idBytes(7)
	for _, sel := range []Selectors{{All: true}, {Tags: []string{"a", "\x00b"}, URLs: []string{"u"}, Prefixes: []string{"p"}, Hosts: []string{"h"}}} {
		for severity := Soft; severity <= Hard; severity++ {
			f.Add(encodePurge(&purgeRecord{gen: 7, severity: severity, sel: sel})[4:])
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		value := append(make([]byte, 4), data...)
		binary.BigEndian.PutUint32(value, wire.Checksum(key, data))
		rec, err := decodePurge(key, value)
		if err != nil {
			return
		}
		if twice, err := decodePurge(key, encodePurge(rec)); err != nil || !reflect.DeepEqual(rec, twice) {
			t.Errorf("round trip: %+v, %+v, %v", rec, twice, err)
		}
	})
}

// TestSeveritiesOnDisk: files of versions before there was an invalid one mean what they meant. To
// such a version a purge that makes invalid is a hard one, and an entry that is invalid is stale.
func TestSeveritiesOnDisk(t *testing.T) {
	for severity, want := range map[Severity]struct{ purge, row byte }{
		NotPurged: {0, 0}, Soft: {1, 1}, Invalid: {4, 3}, Hard: {0, 0},
	} {
		purge := encodePurge(&purgeRecord{gen: 7, severity: severity, sel: Selectors{Tags: []string{"t"}}})
		if got := purge[4]; got != want.purge {
			t.Errorf("%v: flags %b of a purge, want %b", severity, got, want.purge)
		}
		rec, err := decodePurge(idBytes(7), purge)
		if err != nil || rec.severity != (PurgeOptions{Severity: severity}).severity() {
			t.Errorf("%v: read back as %+v, %v", severity, rec, err)
		}
		key := keyRowKey(Key{1}, 7)
		row, index := keyRow{id: 7, severity: severity}, indexRow{severity: severity}
		if key, index := row.encode(key)[4], index.encode()[24]; key != want.row || index != want.row {
			t.Errorf("%v: flags %b and %b of rows, want %b", severity, key, index, want.row)
		}
		if severity == Hard {
			continue // there are no rows of what is gone
		}
		back, err := decodeKeyRow(key, row.encode(key))
		if err != nil || back.severity != severity || decodeIndexRow(index.encode()).severity != severity {
			t.Errorf("%v: rows read back as %v, %v, %v", severity, back.severity, decodeIndexRow(index.encode()).severity, err)
		}
	}
}

func FuzzDecodeKeyRow(f *testing.F) {
	key := keyRowKey(Key{1}, 7)
	row := keyRow{id: 7, generation: 1, keepUntil: 2, requestTime: 3, rank: 5, severity: Invalid, variant: Variant{Names: []string{"A"}, Values: []string{""}, Coding: "br"}}
	f.Add(row.encode(key)[4:])
	f.Fuzz(func(t *testing.T, data []byte) {
		sum := wire.Checksum(key, data)
		value := append([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}, data...)
		row, err := decodeKeyRow(key, value)
		if err != nil {
			return
		}
		twice, err := decodeKeyRow(key, row.encode(key))
		if err != nil || !reflect.DeepEqual(row, twice) {
			t.Errorf("round trip: %+v, %+v, %v", row, twice, err)
		}
	})
}

func TestEveryDamagedByteIsNoticed(t *testing.T) {
	s := New(Config{}, Settings{})
	value := sealed(fullEntry(s), []byte("body"))
	for i := range value {
		for bit := range 8 {
			bad := bytes.Clone(value)
			bad[i] ^= 1 << bit
			r, inline, err := openRecord(1, bad)
			if err == nil {
				err = r.checkBody(1, inline)
			}
			if !errors.Is(err, errDamaged) {
				t.Fatalf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
	if _, _, err := openRecord(2, value); !errors.Is(err, errDamaged) {
		t.Errorf("record under another id: %v", err)
	}
}

func TestTimesOnDisk(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   time.Time
		want time.Time
	}{
		{"zero", time.Time{}, time.Time{}},
		{"now", time.Unix(1_700_000_000, 123), time.Unix(1_700_000_000, 123)},
		{"far future", time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(0, 1<<63-1)},
		{"before 1970", time.Unix(-5, 0), time.Time{}},
	} {
		if got := instant(nanos(tt.in)); !got.Equal(tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	e := fullEntry(New(Config{}, Settings{}))
	buf := appendRecord(nil, e)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = appendRecord(buf[:0], e)
		}
		b.ReportMetric(float64(len(buf)), "bytes")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodeRecord(1, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

package store

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"
)

func FuzzDecodeRecord(f *testing.F) {
	clock := newTestClock()
	s := New(Config{Now: clock.now}, Settings{})
	e := testEntry(s, "http://example.com/", []byte("body"), "tag", "\x00internal")
	e.Variant = Variant{Names: []string{"Accept"}, Values: []string{"a\xff"}, Coding: "gzip"}
	valid, err := encodeRecord(e, []byte("body"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid, false)
	f.Add(valid[5:], true)
	f.Add([]byte(nil), true)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		if seal { // with a right checksum, so that the decoder behind it is reached
			sealed := append([]byte{0, 0, 0, 0, recordVersion}, data...)
			sum := checksum(idBytes(1), sealed[4:])
			sealed[0], sealed[1], sealed[2], sealed[3] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
			data = sealed
		}
		got, length, err := decodeRecord(1, data)
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Errorf("error is not errDamaged: %v", err)
			}
			return
		}
		if got.Body == nil {
			got.Body = &diskBody{length: length}
		}
		var inline []byte
		if b, ok := got.Body.(*memoryBody); ok {
			inline, _ = b.Chunk(0)
		}
		again, err := encodeRecord(got, inline)
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		twice, _, err := decodeRecord(1, again)
		if err != nil {
			t.Fatalf("decode again: %v", err)
		}
		twice.Body, got.Body = nil, nil
		if !reflect.DeepEqual(got, twice) {
			t.Errorf("round trip:\n%+v\n%+v", got, twice)
		}
	})
}

func FuzzDecodeKeyRow(f *testing.F) {
	key := keyRowKey(Key{1}, 7)
	row := keyRow{id: 7, generation: 1, keepUntil: 2, responseTime: 3, size: 4, rank: 5, soft: true, variant: Variant{Names: []string{"A"}, Values: []string{""}, Coding: "br"}}
	f.Add(row.encode(key)[4:])
	f.Fuzz(func(t *testing.T, data []byte) {
		sum := checksum(key, data)
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
	e := testEntry(s, "http://example.com/", []byte("body"), "tag")
	value, err := encodeRecord(e, []byte("body"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range value {
		for bit := range 8 {
			bad := bytes.Clone(value)
			bad[i] ^= 1 << bit
			if _, _, err := decodeRecord(e.ID, bad); !errors.Is(err, errDamaged) {
				t.Fatalf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
	if _, _, err := decodeRecord(e.ID+1, value); !errors.Is(err, errDamaged) {
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

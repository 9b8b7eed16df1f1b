package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/store/internal/wire"
)

func TestEntryBytesRoundTrip(t *testing.T) {
	s := New(Config{}, Settings{})
	e := fullEntry(s)
	data := AppendEntry([]byte("before"), e)
	if !bytes.HasPrefix(data, []byte("before")) {
		t.Fatalf("what was before is not there: %q", data)
	}
	data = data[len("before"):]
	got, bodyLen, err := DecodeEntry(data)
	if err != nil || bodyLen != e.Body.Len() {
		t.Fatalf("body of %d bytes, want %d; %v", bodyLen, e.Body.Len(), err)
	}
	clear(data) // the entry does not share it
	want := *e.Clone()
	want.ID, want.Body = 0, nil
	for _, at := range []*time.Time{&want.RequestTime, &want.ResponseTime, &want.FreshUntil, &want.KeepUntil} {
		*at = instant(nanos(*at)) // without the monotonic clock
	}
	if !reflect.DeepEqual(got, &want) {
		t.Errorf("entry\n%+v\nwant\n%+v", got, &want)
	}
	large := testEntry(s, "http://example.com/", nil)
	large.Body = &diskBody{length: 1 << 40}
	if _, bodyLen, err := DecodeEntry(AppendEntry(nil, large)); bodyLen != 1<<40 || err != nil {
		t.Errorf("body of %d bytes, %v", bodyLen, err)
	}
}

func TestEntryBytesRefused(t *testing.T) {
	s := New(Config{}, Settings{})
	with := func(change func(e *Entry)) []byte {
		e := fullEntry(s)
		change(e)
		return AppendEntry(nil, e)
	}
	whole := with(func(*Entry) {})
	resealed := func(at int, to byte) []byte {
		data := bytes.Clone(whole)
		data[at] = to
		seal(0, data, len(data))
		return data
	}
	for name, data := range map[string][]byte{
		"nothing":         nil,
		"more":            append(bytes.Clone(whole), 0),
		"too long":        with(func(e *Entry) { e.Tags = []string{strings.Repeat("t", MaxEntryBytes)} }),
		"a row of a file": sealed(fullEntry(s), nil),
		"another version": resealed(4, recordVersion+1),
		"a body before 0": resealed(12, 0x80),
		"a time before":   resealed(28, 0x80),
		"a longer URL":    resealed(95, 0xff),
		"status 99":       with(func(e *Entry) { e.Status = 99 }),
		"no method":       with(func(e *Entry) { e.Method = "" }),
		"two methods":     with(func(e *Entry) { e.Method = "GET POST" }),
		"no name":         with(func(e *Entry) { e.Header = http.Header{"": {"a"}} }),
		"a name's end":    with(func(e *Entry) { e.Header = http.Header{"A\r\nB": {"a"}} }),
		"a name's accent": with(func(e *Entry) { e.Header = http.Header{"\u00c9": {"a"}} }),
		"a value's end":   with(func(e *Entry) { e.Header = http.Header{"A": {"a", "a\r\nB: c"}} }),
		"a value's zero":  with(func(e *Entry) { e.Trailer = http.Header{"A": {"\x00"}} }),
	} {
		if e, _, err := DecodeEntry(data); !errors.Is(err, errEntryBytes) || e != nil {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	for n := range whole {
		if _, _, err := DecodeEntry(whole[:n]); err == nil {
			t.Errorf("the first %d bytes of %d are an entry", n, len(whole))
		}
		for bit := range 8 {
			bad := bytes.Clone(whole)
			bad[n] ^= 1 << bit
			if _, _, err := DecodeEntry(bad); err == nil {
				t.Errorf("byte %d, bit %d: the damage is not noticed", n, bit)
			}
		}
	}
}

// hostileEntry is bytes with a right checksum, whose fields are these.
func hostileEntry(variant, tags, rest []byte) []byte {
	data := make([]byte, recordFixed)
	data[4] = recordVersion
	data = slices.Concat(data, variant, tags, rest)
	binary.BigEndian.PutUint32(data[8:], uint32(len(data)))
	binary.BigEndian.PutUint32(data[96:], uint32(len(variant)))
	binary.BigEndian.PutUint32(data[100:], uint32(len(tags)))
	seal(0, data, len(data))
	return data
}

// TestEntryBytesAreBounded: whatever they claim, decoding takes memory in proportion to them.
func TestEntryBytesAreBounded(t *testing.T) {
	const n = MaxEntryBytes - 1000
	claim := func(count uint64, then []byte) []byte { return append(binary.AppendUvarint(nil, count), then...) }
	var names []byte
	for i := 0; len(names) < n-20; i++ {
		names = append(wire.AppendString(append(names, 0), fmt.Sprintf("%x", i)), 0)
	}
	count := uint64(bytes.Count(names, []byte{0}) / 2)
	zeros := make([]byte, n)
	for name, data := range map[string][]byte{
		"variant":       hostileEntry(append([]byte{0}, claim(n/2-100, zeros[:n-200])...), []byte{0}, []byte{0, 0, 0, 0, 0}),
		"tags":          hostileEntry([]byte{0, 0}, claim(n-100, zeros[:n-100]), []byte{0, 0, 0, 0, 0}),
		"names claimed": hostileEntry([]byte{0, 0}, []byte{0}, append([]byte{3, 'G', 'E', 'T'}, claim(n-200, claim(n-200, zeros[:n-100]))...)),
		"names":         hostileEntry([]byte{0, 0}, []byte{0}, append([]byte{3, 'G', 'E', 'T'}, claim(count, append([]byte{0}, append(names, 0, 0)...))...)),
		"values":        hostileEntry([]byte{0, 0}, []byte{0}, append([]byte{3, 'G', 'E', 'T', 1}, claim(n-200, append([]byte{1}, claim(n-200, zeros[:n-200+2])...))...)),
		"lengths":       hostileEntry([]byte{0, 0}, claim(1<<62, zeros), []byte{0}),
	} {
		if len(data) > MaxEntryBytes {
			t.Fatalf("%s: %d bytes", name, len(data))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := DecodeEntry(data)
		runtime.ReadMemStats(&after)
		took := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d times their length; %v", name, took/uint64(len(data)), err)
		if took > 40*uint64(len(data)) {
			t.Errorf("%s: %d bytes were allocated for %d", name, took, len(data))
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	s := New(Config{Now: newTestClock().now}, Settings{})
	f.Add(AppendEntry(nil, fullEntry(s)), false)
	f.Add(AppendEntry(nil, fullEntry(s))[5:], true)
	f.Add(AppendEntry(nil, testEntry(s, "http://example.com/", nil))[5:], true)
	f.Fuzz(func(t *testing.T, data []byte, right bool) {
		if right { // so that the decoder behind the checksum is reached
			data = append([]byte{0, 0, 0, 0, recordVersion}, data...)
			if len(data) >= recordFixed {
				binary.BigEndian.PutUint32(data[8:], uint32(len(data)))
			}
			seal(0, data, len(data))
		}
		e, bodyLen, err := DecodeEntry(data)
		if err != nil {
			if !errors.Is(err, errEntryBytes) || e != nil {
				t.Errorf("%+v, %v", e, err)
			}
			return
		}
		e.Body = &diskBody{length: bodyLen}
		twice, again, err := DecodeEntry(AppendEntry(nil, e))
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if e.Body = nil; !reflect.DeepEqual(e, twice) || bodyLen != again {
			t.Errorf("round trip:\n%+v\n%+v", e, twice)
		}
	})
}

package fleet

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/frames"
	"github.com/larder-cache/larder/store"
)

// testEntry is a stored response with a body of n bytes.
func testEntry(n int) *store.Entry {
	now := time.UnixMicro(1_700_000_000_000_000)
	return &store.Entry{
		Key: store.Key{1, 2, 3}, URL: "http://example.com/a\x00:80", Method: http.MethodGet, Status: 200,
		Variant: store.Variant{Names: []string{"X-Lang"}, Values: []string{"de"}, Coding: "gzip"},
		Header:  http.Header{"Content-Type": {"text/plain"}, "X-Own": {"1", "2"}}, Trailer: http.Header{"X-End": {"yes"}},
		RequestTime: now, ResponseTime: now.Add(time.Second), FreshUntil: now.Add(time.Minute), KeepUntil: now.Add(time.Hour),
		Tags: []string{"one", "two"}, Flags: 3, Body: store.NewBody([][]byte{bytes.Repeat([]byte("x"), n)}),
	}
}

// testRecord encodes an entry at its place.
func testRecord(t testing.TB, s *sealer, e *store.Entry, clock func(time.Time) time.Time) ([]byte, place) {
	t.Helper()
	return testRecordOf(t, s, e, clock, false)
}

// testRecordOf is testRecord for a body that is compressed or not.
func testRecordOf(t testing.TB, s *sealer, e *store.Entry, clock func(time.Time) time.Time, compressed bool) ([]byte, place) {
	t.Helper()
	at := place{e.Key, variantID(&e.Variant)}
	r := &record{stamp: Stamp{"epoch", 77}, entry: e, length: e.Body.Len()}
	body := storedBody{Body: e.Body}
	if compressed {
		if err := body.pack(); err != nil {
			t.Fatal(err)
		}
		if body.saved > 0 {
			r.coding = codingZstd
		}
	}
	var err error
	if r.length > inlineBody {
		r.sums, err = body.sums()
	} else {
		err = body.each(func(_ int, chunk []byte) error {
			r.inline = bytes.Clone(chunk)
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.appendRecord(nil, r, at, clock)
	if err != nil {
		t.Fatal(err)
	}
	return raw, at
}

func sameTime(at time.Time) time.Time { return at }

// A record comes back as it was written, by the reader's clock.
func TestRecordRoundTrip(t *testing.T) {
	for _, length := range []int{0, 1, 2000, inlineBody, inlineBody + 1, 3*chunkBytes + 5} {
		for n, secret := range []string{"", "open sesame", "", "open sesame"} {
			s := &sealer{[]byte(secret)}
			e := testEntry(length)
			raw, at := testRecordOf(t, s, e, func(at time.Time) time.Time { return at.Add(time.Hour) }, n >= 2)
			r, err := s.decodeRecord(raw, at, func(at time.Time) time.Time { return at.Add(-2 * time.Hour) })
			if err != nil {
				t.Fatalf("%d bytes: %v", length, err)
			}
			want := withTimes(e, func(at time.Time) time.Time { return at.Add(-time.Hour) })
			if whole := bytes.Repeat([]byte("x"), length); length <= inlineBody && !bytes.Equal(r.inline, whole) {
				t.Errorf("%d bytes are %d others", length, len(r.inline))
			}
			sums := 0
			if length > inlineBody {
				sums = sha256.Size * chunksOf(int64(length))
			}
			got := r.entry.Clone()
			got.Body, got.Generation, want.Body = nil, 0, nil
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%+v\nwant\n%+v", got, want)
			}
			if r.stamp != (Stamp{"epoch", 77}) || r.length != int64(length) || len(r.sums) != sums {
				t.Errorf("stamp %v, %d bytes, %d of the body, %d of sums", r.stamp, r.length, len(r.inline), len(r.sums))
			}
		}
	}
}

// Whatever bit of a record is another, it is none. Nor is it one at another place, or with another
// secret.
func TestRecordDamaged(t *testing.T) {
	s := &sealer{[]byte("secret")}
	for name, s := range map[string]*sealer{"sealed": s, "no secret": {}, "compressed": s} {
		raw, at := testRecord(t, s, testEntry(10), sameTime)
		if name == "compressed" {
			raw, at = testRecordOf(t, s, testEntry(2000), sameTime, true)
			if raw[4] != packedVersion {
				t.Fatalf("it is version %d", raw[4])
			}
		}
		for i := range raw {
			damaged := bytes.Clone(raw)
			damaged[i] ^= 1 << (i % 8)
			if _, err := s.decodeRecord(damaged, at, sameTime); err == nil {
				t.Errorf("%s: byte %d may be another", name, i)
			}
			if _, err := s.decodeRecord(raw[:i], at, sameTime); err == nil {
				t.Errorf("%s: %d bytes are enough", name, i)
			}
		}
		other := testEntry(10)
		other.Key[5]++
		for where, elsewhere := range map[string]place{
			"key": {other.Key, at.variant}, "variant": {at.key, variantID(&store.Variant{})},
		} {
			if _, err := s.decodeRecord(raw, elsewhere, sameTime); err == nil {
				t.Errorf("%s: it is good for another %s", name, where)
			}
		}
		if _, err := (&sealer{[]byte("guess")}).decodeRecord(raw, at, sameTime); err == nil {
			t.Errorf("%s: it is good with another secret", name)
		}
	}
}

// What is too large has no record, and what says so none either.
func TestRecordTooLarge(t *testing.T) {
	s := &sealer{}
	e := testEntry(1)
	e.Header.Set("X-Long", strings.Repeat("x", maxEntryBytes))
	r := &record{entry: e, length: 1, inline: []byte("x")}
	if _, err := s.appendRecord(nil, r, place{}, sameTime); err == nil {
		t.Error("a header of a MiB has a record")
	}
	long := &record{entry: testEntry(1), length: maxBodyBytes + 1}
	if _, err := s.appendRecord(nil, long, place{}, sameTime); err == nil {
		t.Error("the longest body is longer than the longest")
	}
}

// A body that is compressed is of the length that the record says, or there is none.
func TestRecordThatWouldGrow(t *testing.T) {
	s, e := &sealer{}, testEntry(2000)
	at := place{e.Key, variantID(&e.Variant)}
	for name, packed := range map[string]func() []byte{
		"longer":  func() []byte { return packedZeros(t, 32<<10) },
		"shorter": func() []byte { return packedZeros(t, 1900) },
		"cut":     func() []byte { return packedZeros(t, 2000)[:10] },
		"nothing": func() []byte { return nil },
		"as long": func() []byte { return make([]byte, 2000) },
	} {
		r := &record{stamp: Stamp{"epoch", 77}, entry: e, length: 2000, coding: codingZstd, inline: packed()}
		raw, err := s.appendRecord(nil, r, at, sameTime)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.decodeRecord(raw, at, sameTime); err == nil {
			t.Errorf("%s: it is a record", name)
		}
	}
}

// packedZeros are so many zeros, compressed.
func packedZeros(t *testing.T, n int) []byte {
	t.Helper()
	packed, ok := frames.Append(nil, make([]byte, n))
	if !ok {
		t.Fatal("nothing is saved")
	}
	return packed
}

// FuzzDecodeRecord has records that are sealed but otherwise anything: none panics, and none asks
// for more memory than it has.
func FuzzDecodeRecord(f *testing.F) {
	s := &sealer{}
	raw, at := testRecord(f, s, testEntry(100), sameTime)
	f.Add(raw[:len(raw)-sealBytes])
	raw, _ = testRecord(f, s, testEntry(inlineBody+1), sameTime)
	f.Add(raw[:len(raw)-sealBytes])
	for _, length := range []int{2000, inlineBody, inlineBody + 1} {
		raw, _ = testRecordOf(f, s, testEntry(length), sameTime, true)
		f.Add(raw[:len(raw)-sealBytes])
	}
	f.Add([]byte(recordMagic))
	f.Fuzz(func(t *testing.T, content []byte) {
		if _, err := s.decodeRecord(content, at, sameTime); err == nil {
			t.Skip("it has found a seal")
		}
		sealed := append(bytes.Clone(content), s.seal(content, "record", string(at.key[:]), at.variant)...)
		r, err := s.decodeRecord(sealed, at, sameTime)
		if err != nil {
			return
		}
		if r.entry.Key != at.key || int64(len(r.inline)) > r.length || r.length > maxBodyBytes {
			t.Errorf("%+v", r)
		}
	})
}

// FuzzDecodeNews does the same with what holders of leases say.
func FuzzDecodeNews(f *testing.F) {
	s := &sealer{}
	for _, n := range []news{
		{kind: newsStorable, variant: testEntry(0).Variant},
		{kind: newsStored},
		{kind: newsUnstored},
		{kind: newsAlone},
		{kind: newsFailed, attempt: 2, status: 503, retryAfter: "120"},
		{kind: newsFailed, attempt: 1, status: 502, answered: true},
	} {
		b := n.encode(s, "key")
		if got := decodeNews(b, s, "key"); !reflect.DeepEqual(got, n) {
			f.Errorf("%+v, want %+v", got, n)
		}
		if got := decodeNews(b, s, "another key"); got.kind != newsUnstored {
			f.Errorf("%+v is good for another key", got)
		}
		f.Add(b[:len(b)-newsSealBytes])
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		n := decodeNews(append(bytes.Clone(content), s.seal(content, "lease", "key")[:newsSealBytes]...), s, "key")
		if n.kind == newsNone || n.kind > newsFailed {
			t.Errorf("%+v", n)
		}
		if again := decodeNews(n.encode(s, "key"), s, "key"); !reflect.DeepEqual(again, n) {
			t.Errorf("%+v, again %+v", n, again)
		}
	})
}

// A row of the index is that of one variant.
func TestRows(t *testing.T) {
	v := testEntry(0).Variant
	row := appendRow(nil, &v)
	if got, ok := decodeRow(row, variantID(&v)); !ok || !got.Equal(&v) {
		t.Errorf("%+v, %t", got, ok)
	}
	if _, ok := decodeRow(row, plainVariant); ok {
		t.Error("it is that of another, too")
	}
	for i := range row {
		if _, ok := parseRow(row[:i]); ok {
			t.Errorf("%d bytes are a row", i)
		}
	}
	v.Values[0] = strings.Repeat("x", maxRowBytes)
	if _, ok := parseRow(appendRow(nil, &v)); ok || hasRow(&v) {
		t.Error("it is too long for a row")
	}
	if _, ok := parseRow(append(row, 0)); ok {
		t.Error("something may follow")
	}
}

package wire

import (
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestWellKnownNames(t *testing.T) {
	for i, name := range wellKnown {
		if http.CanonicalHeaderKey(name) != name || int(wellKnownCode[name]) != i+1 {
			t.Errorf("%q is not canonical or not there once", name)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	long := strings.Repeat("\xff", 300)
	many := http.Header{"X-Own": slices.Repeat([]string{""}, 200), "Etag": {`"v1"`}, "lower-case": {long}}
	for _, header := range []http.Header{nil, {"Age": {"1"}}, {"X-Empty": nil}, many} {
		for _, list := range [][]string{nil, {""}, {"a", long}} {
			b := AppendHeader(AppendList(AppendString(nil, long), list), header)
			d := NewDecoder(string(b))
			if s, l, h := d.Text(), d.List(), d.Header(); s != long || !slices.Equal(l, list) || !sameFields(h, header) {
				t.Errorf("%q, %q, %q; want %q, %q", s, l, h, list, header)
			}
			if !d.Done() {
				t.Errorf("not done after %q, %q", list, header)
			}
			for n := range b {
				cut := NewDecoder(string(b[:n]))
				cut.Text()
				cut.List()
				cut.Header()
				if cut.Done() {
					t.Errorf("done with %d bytes of %d", n, len(b))
				}
			}
		}
	}
}

// sameFields tells whether two headers have the same values under the same names.
func sameFields(a, b http.Header) bool {
	return maps.EqualFunc(a, b, slices.Equal[[]string])
}

func TestChecksumCoversThePlace(t *testing.T) {
	if Checksum([]byte("a"), []byte("b")) != Checksum([]byte("ab")) || Checksum([]byte("1"), []byte("b")) == Checksum([]byte("2"), []byte("b")) {
		t.Error("the parts are not hashed one after the other")
	}
}

// FuzzDecoder reads what was never written: nothing asks for more memory than the input justifies,
// and what is read is written and read again as the same.
func FuzzDecoder(f *testing.F) {
	f.Add(AppendHeader(AppendList(nil, []string{"a", ""}), http.Header{"Age": {"1"}, "X-Own": {"", "b"}}))
	f.Add([]byte{math.MaxUint8, math.MaxUint8, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		d := NewDecoder(string(data))
		list, header := d.List(), d.Header()
		if len(list) > len(data) || len(header) > len(data) {
			t.Fatalf("%d strings and %d fields of %d bytes", len(list), len(header), len(data))
		}
		if !d.Done() {
			return
		}
		again := NewDecoder(string(AppendHeader(AppendList(nil, list), header)))
		if l, h := again.List(), again.Header(); !slices.Equal(l, list) || !sameFields(h, header) || !again.Done() {
			t.Errorf("%q, %q; want %q, %q", l, h, list, header)
		}
	})
}

package fleet

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/larder-cache/larder/store"
)

func TestRecordsComeBack(t *testing.T) {
	for _, r := range []logRecord{
		{Purge{Selectors: store.Selectors{All: true}, Severity: store.Soft}, 1, "node"},
		{Purge{Selectors: store.Selectors{Tags: []string{"a", "\x00"}, URLs: []string{"http://a/"}}, Severity: store.Hard}, 1<<64 - 1, ""},
		{Purge{Selectors: store.Selectors{Prefixes: []string{strings.Repeat("p", 100_000)}, Hosts: []string{"h", "i"}}, Severity: store.Invalid}, 0, "node"},
	} {
		for _, secret := range []string{"", "secret"} {
			got, err := understand(r.encode([]byte(secret)), []byte(secret))
			if err != nil || !reflect.DeepEqual(got, r) {
				t.Errorf("with %q: %+v, %v, want %+v", secret, got, err, r)
			}
		}
	}
}

// TestOtherRecordsPurgeEverything: what is not understood, and what is not sealed as it has to be.
func TestOtherRecordsPurgeEverything(t *testing.T) {
	r := logRecord{Purge{Selectors: store.Selectors{Tags: []string{"tag"}}, Severity: store.Hard}, 7, "node"}
	plain, sealed := r.encode(nil), r.encode([]byte("secret"))
	change := func(b []byte, at int, to byte) []byte {
		b = bytes.Clone(b)
		b[at] = to
		return b
	}
	for _, tt := range []struct {
		name, secret string
		data         []byte
	}{
		{"empty", "", nil},
		{"of a newer version", "", change(plain, 0, 2)},
		{"of another kind", "", change(plain, 1, 2)},
		{"without a severity", "", change(plain, 2, 0)},
		{"with a flag of its own", "", change(plain, 2, 1<<7|3)},
		{"cut off", "", plain[:len(plain)-1]},
		{"with more behind", "", append(bytes.Clone(plain), 0)},
		{"of nothing", "", (&logRecord{Purge: Purge{Severity: store.Hard}}).encode(nil)},
		{"of an empty tag", "", (&logRecord{Purge: Purge{Selectors: store.Selectors{Tags: []string{""}}, Severity: store.Hard}}).encode(nil)},
		{"of a node with a long name", "", (&logRecord{Purge{Selectors: store.Selectors{All: true}, Severity: store.Hard}, 1, strings.Repeat("n", 257)}).encode(nil)},
		{"too long", "", (&logRecord{Purge{Selectors: store.Selectors{Tags: []string{strings.Repeat("t", maxLogRecord)}}, Severity: store.Hard}, 1, "n"}).encode(nil)},
		{"with more texts than there can be", "", append(bytes.Clone(plain[:logHeader+5]), 0xff, 0xff, 0xff, 0xff, 0x7f)},
		{"without a seal", "secret", plain},
		{"sealed by another secret", "other", sealed},
		{"changed", "secret", change(sealed, len(sealed)-40, 'x')},
		{"with a cut seal", "", change(plain, 2, plain[2]|flagSealed)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := understand(tt.data, []byte(tt.secret)); err == nil || !got.Selectors.All || got.Severity != store.Hard {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	if got, err := understand(sealed, nil); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("a sealed record, without a secret: %+v, %v", got, err)
	}
}

// TestLongPurgesAreSplit into records that are not long, and each selector is in one of them.
func TestLongPurgesAreSplit(t *testing.T) {
	var r logRecord
	r.Severity, r.who, r.token = store.Soft, "node", 3
	var want []string
	for range 5000 {
		text := strings.Repeat("x", 1+rand.IntN(60))
		list := lists(&r.Selectors)[rand.IntN(4)]
		*list = append(*list, text)
		want = append(want, text)
	}
	r.Selectors.Tags = append(r.Selectors.Tags, strings.Repeat("y", 1<<20))
	want = append(want, strings.Repeat("y", 1<<20))
	records := r.split()
	var got []string
	for _, part := range records {
		if n := len(part.encode(nil)); n > longLogRecord+100 && n < 1<<20 {
			t.Errorf("a record has %d bytes", n)
		}
		if part.Severity != r.Severity || part.token != r.token || part.who != r.who {
			t.Errorf("a part is %v of %q, token %d", part.Severity, part.who, part.token)
		}
		for _, list := range lists(&part.Selectors) {
			got = append(got, *list...)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || len(records) < 5 || len(records) > 20 {
		t.Errorf("%d records of %d selectors, want %d", len(records), len(got), len(want))
	}
	r.Selectors.All = true
	if all := r.split(); len(all) != 1 || !all[0].Selectors.All || len(all[0].Selectors.Tags) > 0 {
		t.Errorf("a purge of all is split into %d", len(all))
	}
}

// FuzzRecord: no data does harm, and what is understood is written the same.
func FuzzRecord(f *testing.F) {
	r := logRecord{Purge{Selectors: store.Selectors{Tags: []string{"t"}, Hosts: []string{"h"}}, Severity: store.Hard}, 7, "node"}
	f.Add(r.encode(nil), "")
	f.Add(r.encode([]byte("secret")), "secret")
	f.Add([]byte{1, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0x03}, "")
	f.Fuzz(func(t *testing.T, data []byte, secret string) {
		got, err := understand(data, []byte(secret))
		if err != nil {
			if !got.Selectors.All || got.Severity != store.Hard {
				t.Errorf("what is not understood is %+v", got)
			}
			return
		}
		again, err := understand(got.encode([]byte(secret)), []byte(secret))
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%+v comes back as %+v, %v", got, again, err)
		}
	})
}

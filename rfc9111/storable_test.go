package rfc9111

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"
)

// garbage are pieces of which fields are made that no parser was made for. None of them closes a
// quotation that another opened around a whole directive.
var garbage = []string{
	"max-age=60", "s-maxage=60", "public", "max-age=abc", "max-age", "=", "=1", "\"", "a\"b", "\\", "\\\"",
	"foo", "foo=bar", "foo=\"bar\"", "foo=\"b,c\"", "x=\"", "y=\"a", ";", "a;b", "\x00", "\x80\xff", "ü",
	"no-cache=", "no-cache=\"", "stale-if-error=x", "must-revalidate=1", "", " ", "\t", "@", "(", "a b c",
	"s-maxage=\"60\"", "immutable=2", "private-ish", "no-storage", "max-age=60;x=\"",
}

// TestForbiddenIsNeverStored puts no-store or private anywhere among garbage, on any line, in any
// case: such a response is never storable.
func TestForbiddenIsNeverStored(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	policy := &Policy{SetCookie: SetCookieStore, ForceTTL: []StatusTTL{{Duration: time.Hour}}}
	for range 50_000 {
		lines := forbiddenField(r)
		x := &Exchange{
			Method: http.MethodGet, Status: http.StatusOK,
			Header:      http.Header{"Cache-Control": lines, "Etag": {`"a"`}},
			RequestTime: arrival, ResponseTime: arrival,
		}
		if reason := policy.Storable(x); reason != ReasonNoStore && reason != ReasonPrivate {
			t.Fatalf("Cache-Control %q: reason %q", lines, reason)
		}
	}
}

// forbiddenField makes one to three lines, one of which has the word.
func forbiddenField(r *rand.Rand) []string {
	words := []string{"no-store", "private", "No-Store", "PRIVATE", " no-store\t", "no-store;", "private ,"}
	lines := make([]string, 1+r.IntN(3))
	for i := range lines {
		pieces := make([]string, r.IntN(5))
		for j := range pieces {
			pieces[j] = garbage[r.IntN(len(garbage))]
		}
		lines[i] = strings.Join(pieces, ",")
	}
	chosen := r.IntN(len(lines))
	pieces := strings.Split(lines[chosen], ",")
	at := r.IntN(len(pieces) + 1)
	pieces = append(pieces[:at:at], append([]string{words[r.IntN(len(words))]}, pieces[at:]...)...)
	lines[chosen] = strings.Join(pieces, ",")
	return lines
}

func FuzzCacheControl(f *testing.F) {
	for _, seed := range []string{
		"max-age=60", `private="a, b"`, `x="no-store`, "max-age=60 no-store", `x=", no-store, y="`, ",;=\"\\",
	} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		for _, lines := range [][]string{
			{before, "no-store", after},
			{before + ",no-store," + after},
		} {
			x := &Exchange{
				Method: http.MethodGet, Status: http.StatusOK,
				Header: http.Header{"Cache-Control": lines}, ResponseTime: arrival,
			}
			mustUnderstand := parseCacheControl(lines).mustUnderstand
			if reason := (&Policy{}).Storable(x); reason == Storable && !mustUnderstand {
				t.Errorf("Cache-Control %q is storable", lines)
			}
		}
		lines := []string{before, "no-cache", after}
		if d := ParseRequest(http.Header{"Cache-Control": lines}); !d.NoCache {
			t.Errorf("request Cache-Control %q hides no-cache", lines)
		}
	})
}

func FuzzTargeted(f *testing.F) {
	f.Add("max-age=60, no-cache=\"a\"")
	f.Add("private, (")
	f.Fuzz(func(t *testing.T, value string) {
		d, ok := parseTargeted([]string{value})
		if d.maxAge.value < 0 || d.maxAge.value > maxDelta {
			t.Errorf("%q: max-age %v", value, d.maxAge.value)
		}
		if !ok && (d.noStore || d.maxAge.given) {
			t.Errorf("%q is absent and speaks", value)
		}
	})
}

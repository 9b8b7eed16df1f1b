package rfc9111

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestVariantPreference holds the order in which variants of one URL suit a request, best first;
// what does not suit is not listed.
func TestVariantPreference(t *testing.T) {
	fetchedBy := map[string]string{"": "identity", "gzip": "gzip", "br": "br, gzip", "zstd": "zstd, br, gzip"}
	for _, tc := range []struct {
		name, accept string
		want         []string
	}{
		{"equal weights", "gzip, br", []string{"br", "gzip"}},
		{"weighted", "br;q=0.5, gzip;q=0.8", []string{"gzip", "br"}},
		{"three decimals", "br;q=0.501, gzip;q=0.5", []string{"br", "gzip"}},
		{"one coding", "gzip", []string{"gzip"}},
		{"identity preferred but not stored for it", "identity, gzip;q=0.5", []string{"gzip"}},
		{"identity alone", "identity", []string{""}},
		{"empty", "", []string{""}},
		{"unknown coding", "foo", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			names := []string{"Accept-Encoding"}
			req := http.Header{"Accept-Encoding": {tc.accept}}
			scores := make(map[string]int)
			var got []string
			for coding, accept := range fetchedBy {
				values := VariantValues(names, http.Header{"Accept-Encoding": {accept}})
				if s := VariantScore(names, values, coding, req); s > 0 {
					scores[coding] = s
					got = append(got, coding)
				}
			}
			slices.SortFunc(got, func(a, b string) int { return scores[b] - scores[a] })
			if !slices.Equal(got, tc.want) {
				t.Errorf("%q gets %q by %v, want %q", tc.accept, got, scores, tc.want)
			}
		})
	}
}

func TestVariantScoreOfDamagedEntry(t *testing.T) {
	if got := VariantScore([]string{"A", "B"}, []string{"1"}, "", http.Header{"A": {"1"}}); got != 0 {
		t.Errorf("score %d for names without values", got)
	}
}

// TestManyCodings holds that a list of more codings than are read is compared as it is.
func TestManyCodings(t *testing.T) {
	names := []string{"Accept-Encoding"}
	var list []string
	for i := range maxWeighted {
		list = append(list, "x"+strconv.Itoa(i))
	}
	list[maxWeighted-1] = "gzip"
	most := http.Header{"Accept-Encoding": {strings.Join(list, ",")}}
	if VariantScore(names, VariantValues(names, most), "gzip", http.Header{"Accept-Encoding": {"gzip"}}) == 0 {
		t.Error("the last coding that counts does not")
	}
	more := http.Header{"Accept-Encoding": {strings.Join(append(list, "br"), ",")}}
	values := VariantValues(names, more)
	if !slices.Equal(values, more["Accept-Encoding"]) {
		t.Errorf("values %.40q", values)
	}
	if VariantScore(names, values, "gzip", more) == 0 {
		t.Error("it does not suit itself")
	}
	if VariantScore(names, values, "gzip", http.Header{"Accept-Encoding": {"gzip"}}) != 0 || VariantScore(names, []string{"gzip"}, "gzip", more) != 0 {
		t.Error("it is read")
	}
}

// TestLongFieldsAreComparedAsTheyAre holds that a field past the bound is not normalised: it suits
// itself, on one line or on several, and nothing else.
func TestLongFieldsAreComparedAsTheyAre(t *testing.T) {
	for _, name := range []string{"Accept-Encoding", "Accept-Language", "X-Other"} {
		t.Run(name, func(t *testing.T) {
			names := []string{name}
			long := strings.Repeat("b, a;q=0.1 ,", maxNormalized/12+1)
			stored := VariantValues(names, http.Header{name: {long}})
			if !slices.Equal(stored, []string{long}) {
				t.Fatalf("stored as %.40q", stored)
			}
			comma := strings.LastIndexByte(long[:len(long)/2], ',')
			for what, tc := range map[string]struct {
				lines []string
				suits bool
			}{
				"itself":       {[]string{long}, true},
				"two lines":    {[]string{long[:comma], long[comma+1:]}, true},
				"another":      {[]string{long + "x"}, false},
				"a part":       {[]string{long[:len(long)-1]}, false},
				"without OWS":  {[]string{strings.ReplaceAll(long, " ", "")}, false},
				"a short one":  {[]string{"b, a;q=0.1"}, false},
				"none":         {nil, false},
				"not on lines": {[]string{long[:comma+1], long[comma+1:]}, false},
			} {
				if got := VariantScore(names, stored, "", http.Header{name: tc.lines}) > 0; got != tc.suits {
					t.Errorf("%s suits: %v, want %v", what, got, tc.suits)
				}
			}
		})
	}
}

// TestVaryByTooMany holds that a Vary of more names than are compared selects nothing, and that one
// of as many as are does.
func TestVaryByTooMany(t *testing.T) {
	var list []string
	for i := range maxVaryNames {
		list = append(list, "X-"+strconv.Itoa(i))
	}
	if names, star := VaryNames(http.Header{"Vary": {strings.Join(list, ",")}}); star || len(names) != maxVaryNames {
		t.Errorf("%d names, star %v", len(names), star)
	}
	if _, star := VaryNames(http.Header{"Vary": {strings.Join(append(list, "One-More"), ",")}}); !star {
		t.Error("one name more still selects")
	}
}

func TestVaryConditions(t *testing.T) {
	h := http.Header{"Vary": {"Accept, range", "IF-None-Match,Range,", "*"}}
	if got, want := VaryConditions(h), []string{"Range", "If-None-Match"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := VaryConditions(http.Header{"Vary": {"Accept"}}); got != nil {
		t.Errorf("%q", got)
	}
}

func TestVaryNames(t *testing.T) {
	names, star := VaryNames(http.Header{"Vary": {"foo,  Bar", "", "FOO"}})
	if star || !slices.Equal(names, []string{"Bar", "Foo"}) {
		t.Errorf("names %q, star %v", names, star)
	}
}

// browser is what a current browser sends.
var browser = http.Header{
	"Accept-Encoding": {"gzip, deflate, br, zstd"},
	"Accept-Language": {"en-US,en;q=0.9"},
	"Origin":          {"https://example.com"},
}

func TestVariantScoreAllocatesNothing(t *testing.T) {
	names := []string{"Accept-Encoding", "Accept-Language", "Origin"}
	values := VariantValues(names, browser)
	for _, coding := range []string{"", "gzip", "br", "zstd"} {
		score := 0
		if n := testing.AllocsPerRun(100, func() { score = VariantScore(names, values, coding, browser) }); n != 0 {
			t.Errorf("%q: %v allocations", coding, n)
		}
		if score == 0 {
			t.Errorf("%q does not suit", coding)
		}
	}
}

func BenchmarkVariantScore(b *testing.B) {
	names := []string{"Accept-Encoding", "Accept-Language"}
	values := VariantValues(names, browser)
	b.ReportAllocs()
	for b.Loop() {
		VariantScore(names, values, "br", browser)
	}
}

func FuzzVariant(f *testing.F) {
	f.Add("gzip;q=0.5, br", "en, de;q=0.1", "a, \"b,c\"")
	f.Add("*;q=0,identity;q=0", ",;q=", "\"")
	f.Add(strings.Repeat("a,", maxNormalized), strings.Repeat("en;q=0.1,", maxNormalized), strings.Repeat(`\"`, maxNormalized))
	f.Fuzz(func(t *testing.T, encoding, language, other string) {
		names := []string{"Accept-Encoding", "Accept-Language", "X-Other"}
		req := http.Header{"Accept-Encoding": {encoding}, "Accept-Language": {language}, "X-Other": {other}}
		values := VariantValues(names, req)
		// A request suits what it fetched, as long as it does not refuse identity and gets it,
		// which is the origin's doing.
		if VariantScore(names, values, "", req) == 0 {
			t.Errorf("%q does not suit itself", values)
		}
		again := http.Header{}
		for i, name := range names {
			again[name] = []string{values[i]}
		}
		if got := VariantValues(names, again); !slices.Equal(got, values) {
			t.Errorf("normalised twice: %q, then %q", values, got)
		}
	})
}

func TestWrittenByProxies(t *testing.T) {
	for name, want := range map[string]bool{
		"Forwarded": true, "Via": true, "X-Real-Ip": true, "Early-Data": true,
		"X-Forwarded-For": true, "X-Forwarded-Port": true, "X-Forwarded-Server": true,
		"X-Forwarded-Proto": false, "X-Forwarded-Host": false, // in every key
		"X-Forwarded": false, "Accept-Encoding": false, "Cookie": false, "": false,
	} {
		if got := WrittenByProxies(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

// What the origin has selected by a field that the cache sees otherwise is as if it were selected
// by anything.
func TestVaryUnseen(t *testing.T) {
	for _, tc := range []struct {
		vary   string
		policy Policy
		want   Reason
	}{
		{"X-Forwarded-For", Policy{}, ReasonVaryStar},
		{"X-Forwarded-For", Policy{Ignore: []string{"Vary"}}, Storable},
		{"", Policy{}, Storable},
	} {
		x := Exchange{Method: http.MethodGet, Status: http.StatusOK, Header: http.Header{"Cache-Control": {"max-age=60"}}, VaryUnseen: true}
		if tc.vary != "" {
			x.Header["Vary"] = []string{tc.vary}
		}
		if got := tc.policy.Storable(&x); got != tc.want {
			t.Errorf("Vary: %s is %q, want %q", tc.vary, got, tc.want)
		}
	}
}

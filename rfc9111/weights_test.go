package rfc9111

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// alike are Accept-Encodings and, with other names, Accept-Languages, of which origins make
// different things.
var alike = []string{
	"", " ", "gzip", "gzip, br", "br,gzip", "br;q=0.5, gzip;q=0.8", "gzip;q=0", "gzip;q=0.000", "gzip;q=1.0", "gzip;q=0.001", "identity",
	"identity;q=0.5, gzip", "identity, gzip;q=0.1", "identity;q=0", "identity;q=0.5, gzip;q=0.1, br", "gzip, identity;q=0", "identity, gzip;q=0",
	"*", "*;q=0", "*;q=0.5, gzip;q=0.1", "gzip, *;q=0.1", "*, gzip;q=0", "br;q=0", "GZIP", "x-gzip", "zgzip", "foo", "br, gzip;q=0",
	"gzip;q=1e-9, br;q=0.9", "gzip;q=-1", "gzip;", "gzip;q=abc", "gzip;q=.1", "gzip;q=0.1234", "gzip;q=1.001", "gzip;q=2", "gzip;q=NaN", "gzip;q=0x0",
	"gzip;q =0", "gzip;q= 0", "gzip;Q=0", "gzip;a=b", "gzip;q=1;q=0", "gzip;q=0;a", "gzip,", ",gzip", "gzip,,br", "gzip br", "gzip, gzip;q=0", "gzip;q=0, gzip",
	"gzip, x-gzip;q=0", "foo\ngzip, br", "gzip\nbr", "gzip\u00a0", "\u00a0gzip", "gzip;q=0\u00a0", "\u212ao-KR", "ko-KR", "ko-kr;q=0.9, en", "en,ko-kr;q=0.90",
	"en-US;q=1e-9,en;q=0.9", "de;q=0.9\nen",
}

// An origin chooses a coding by the lines of Accept-Encoding.
var originsOfCodings = map[string]func(lines []string) string{
	"strict": func(lines []string) string { return chosenCoding(lines, TrimOWS, ToLower, strictWeight) },
	"float": func(lines []string) string {
		return chosenCoding(lines, strings.TrimSpace, strings.ToLower, floatWeight)
	},
	"first line": func(lines []string) string {
		return chosenCoding(lines[:1], TrimOWS, ToLower, strictWeight)
	},
	"substring": func(lines []string) string {
		for _, coding := range []string{"br", "gzip"} {
			if strings.Contains(strings.Join(lines, ","), coding) {
				return coding
			}
		}
		return ""
	},
}

func strictWeight(s string) (float64, bool) {
	w, ok := readWeight(s)
	return float64(w) / maxWeight, ok
}

func floatWeight(s string) (float64, bool) {
	w, err := strconv.ParseFloat(s, 64)
	return w, err == nil
}

// chosenCoding chooses as an origin does that leaves out members whose weight it cannot read, and
// for which the last of several of one name counts.
func chosenCoding(lines []string, trim, fold func(string) string, weigh func(string) (float64, bool)) string {
	accepted := map[string]float64{}
	for member := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		name, params, _ := strings.Cut(member, ";")
		weight, ok := 1.0, true
		if key, value, has := strings.Cut(params, "="); has && fold(trim(key)) == "q" {
			weight, ok = weigh(trim(value))
		}
		if ok {
			accepted[fold(trim(name))] = weight
		}
	}
	weightOf := func(coding string, otherwise float64) float64 {
		if w, named := accepted[coding]; named {
			return w
		}
		if w, star := accepted["*"]; star {
			return w
		}
		return otherwise
	}
	best, most := "", weightOf("identity", 0.001)
	for _, coding := range []string{"gzip", "br"} {
		if w := weightOf(coding, 0); w > most {
			best, most = coding, w
		}
	}
	return best
}

// FuzzSelectedAlike holds that two requests which share a variant are alike to an origin, whether
// that reads the field to the letter, by substring, with floats, or on its first line alone. A
// coded response may also go to a client that accepts its coding, and one without coding to a
// client for which the origin would code against its word.
func FuzzSelectedAlike(f *testing.F) {
	for _, a := range alike {
		for _, b := range alike {
			f.Add(a, b)
		}
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		a, b := strings.Split(first, "\n"), strings.Split(second, "\n")
		for name, origin := range originsOfCodings {
			coding, want := origin(a), origin(b)
			names, values := []string{acceptEncoding}, VariantValues([]string{acceptEncoding}, http.Header{acceptEncoding: a})
			if coding == want || VariantScore(names, values, coding, http.Header{acceptEncoding: b}) == 0 {
				continue
			}
			var asked weights
			if !asked.readLines(b) || coding != "" && asked.accepts(coding) == 0 || coding == "" && asked.accepts(want) > 0 {
				t.Errorf("%s: %q got %q, and %q, which would get %q, gets that", name, a, coding, b, want)
			}
		}
		names, values := []string{acceptLanguage}, VariantValues([]string{acceptLanguage}, http.Header{acceptLanguage: a})
		if VariantScore(names, values, "", http.Header{acceptLanguage: b}) == 0 {
			return
		}
		for name, read := range originsOfLanguages {
			if one, other := read(a), read(b); !slices.Equal(one, other) {
				t.Errorf("%s: %q is %q, and %q is %q: they share a variant", name, a, one, b, other)
			}
		}
	})
}

// originsOfLanguages are what an origin makes of the lines of an Accept-Language.
var originsOfLanguages = map[string]func(lines []string) []string{
	"strict":     func(lines []string) []string { return rankedLanguages(lines, TrimOWS, ToLower, strictWeight) },
	"float":      func(lines []string) []string { return rankedLanguages(lines, strings.TrimSpace, ToLower, floatWeight) },
	"first line": func(lines []string) []string { return rankedLanguages(lines[:1], TrimOWS, ToLower, strictWeight) },
	"substring": func(lines []string) (found []string) {
		for _, language := range []string{"de", "en", "en-us", "ko"} {
			if strings.Contains(ToLower(strings.Join(lines, ",")), language) {
				found = append(found, language)
			}
		}
		return found
	},
}

func rankedLanguages(lines []string, trim, fold func(string) string, weigh func(string) (float64, bool)) (ranked []string) {
	type language struct {
		name   string
		weight float64
	}
	var list []language
	for member := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		name, params, _ := strings.Cut(member, ";")
		weight, ok := 1.0, true
		if key, value, has := strings.Cut(params, "="); has && fold(trim(key)) == "q" {
			weight, ok = weigh(trim(value))
		}
		if ok {
			list = append(list, language{fold(trim(name)), weight})
		}
	}
	slices.SortFunc(list, func(a, b language) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.name, b.name))
	})
	for _, l := range list {
		ranked = append(ranked, l.name+" "+strconv.FormatFloat(l.weight, 'g', -1, 64))
	}
	return ranked
}

// TestCodingThatWasNotAskedFor holds that a coded response to a request that does not accept its
// coding goes to those alone that send the same.
func TestCodingThatWasNotAskedFor(t *testing.T) {
	names := []string{acceptEncoding}
	for _, own := range []string{"gzip;q=0", "identity", "", "br, gzip;q=0", "gzip;q=1e-9", "foo"} {
		values := VariantValues(names, http.Header{acceptEncoding: {own}})
		for _, accept := range []string{"gzip;q=0", "identity", "", "br, gzip;q=0", "gzip;q=1e-9", "foo", "gzip", "*", "br"} {
			got := VariantScore(names, values, "gzip", http.Header{acceptEncoding: {accept}}) > 0
			if got != (accept == own) {
				t.Errorf("gzip that %q got goes to %q: %v", own, accept, got)
			}
		}
		if own != "" && VariantScore(names, values, "gzip", http.Header{}) > 0 {
			t.Errorf("gzip that %q got goes to who says nothing", own)
		}
	}
}

// TestIdentityThatIsRefusedByStar holds RFC 9110 12.5.3: "*;q=0" without identity refuses it.
func TestIdentityThatIsRefusedByStar(t *testing.T) {
	names := []string{acceptEncoding}
	for accept, want := range map[string]bool{"*;q=0": false, "gzip, *;q=0": false, "identity, *;q=0": true, "gzip;q=0": true} {
		if got := VariantScore(names, []string{"gzip,identity"}, "", http.Header{acceptEncoding: {accept}}) > 0; got != want {
			t.Errorf("%q gets identity: %v", accept, got)
		}
	}
}

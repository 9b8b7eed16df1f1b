package rfc9111

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The equivalences are in testdata/rfc9111/no-vary-search.json.

func TestSearchVarianceIsDefault(t *testing.T) {
	for _, tc := range []struct {
		name  string
		lines []string
		want  bool
	}{
		{"no field", nil, true},
		{"an empty field", []string{""}, true},
		{"not a dictionary", []string{"("}, true},
		{"an empty list", []string{"params=()"}, true},
		{"key-order", []string{"key-order"}, false},
		{"params", []string{`params=("a")`}, false},
		{"two lines", []string{"foo", `except=("a")`}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := ParseNoVarySearch(http.Header{"No-Vary-Search": tc.lines})
			if v.IsDefault() != tc.want {
				t.Errorf("%q: default = %v", tc.lines, v.IsDefault())
			}
		})
	}
}

// BenchmarkParseNoVarySearch reads fields of up to the length that is read.
func BenchmarkParseNoVarySearch(b *testing.B) {
	for name, field := range map[string]string{
		"one name":     `params=("utm_source")`,
		"8 KiB":        `params=("` + strings.Repeat(`a" "`, (maxField-12)/4) + `")`,
		"8 KiB of esc": `params=("` + strings.Repeat(`%61%62%63" "`, (maxField-12)/12) + `")`,
		"8 KiB in one": `params=("` + strings.Repeat(`a`, maxField-12) + `")`,
	} {
		b.Run(name, func(b *testing.B) {
			h := http.Header{"No-Vary-Search": {field}}
			if ParseNoVarySearch(h).IsDefault() {
				b.Fatal("not read")
			}
			b.ReportAllocs()
			for b.Loop() {
				ParseNoVarySearch(h)
			}
		})
	}
}

// BenchmarkNormalize reads queries of 64 KiB, of many parameters and of one.
func BenchmarkNormalize(b *testing.B) {
	var many strings.Builder
	for i := 0; many.Len() < 64<<10; i++ {
		fmt.Fprintf(&many, "%x=1&", (i*40503)&0xffff)
	}
	for name, query := range map[string]string{
		"many": many.String(), "alike": strings.Repeat("a=1&", 16<<10), "empty": strings.Repeat("&", 64<<10),
		"escaped": strings.Repeat("%61=%62&", 8<<10), "one": strings.Repeat("a", 64<<10),
	} {
		for _, field := range []string{"key-order", `key-order, params=("b")`} {
			v := ParseNoVarySearch(http.Header{"No-Vary-Search": {field}})
			b.Run(name+"/"+field, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					v.Normalize(query)
				}
			})
		}
	}
}

// TestNormalizeIsBounded holds that a query of more parameters than each origin reads is like no
// other one, whatever is said of them and however many of them are empty.
func TestNormalizeIsBounded(t *testing.T) {
	for _, field := range []string{`key-order, params=("a" "b")`, `params, except=("id")`, `except=("id")`, `params=("a" "b" "")`, `params, except=("id"), key-order`} {
		v := ParseNoVarySearch(http.Header{"No-Vary-Search": {field}})
		for _, other := range []string{"b=1&", "a&", "&"} {
			few, many := strings.Repeat(other, maxParameters-1)+"id=5", strings.Repeat(other, maxParameters)+"id=5"
			if v.Normalize(few) != "id=5" {
				t.Errorf("%s: few of %q are %.40q…", field, other, v.Normalize(few))
			}
			if v.Normalize(many) != many {
				t.Errorf("%s: many of %q are %.40q…", field, other, v.Normalize(many))
			}
		}
	}
}

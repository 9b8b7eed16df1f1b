package warm

import (
	"fmt"
	"strings"
	"testing"
)

func TestVariants(t *testing.T) {
	for _, tc := range []struct {
		name   string
		fields []string
		want   string // of each variant: label | Accept-Encoding | Accept-Language
	}{
		{"none", nil, " | gzip, deflate, br, zstd | "},
		{"a field for all", []string{"accept-language: de"}, " | gzip, deflate, br, zstd | de"},
		{"two values", []string{"Accept-Language: de", "Accept-Language:en", "Accept-Language: de"}, "Accept-Language: de | gzip, deflate, br, zstd | de; Accept-Language: en | gzip, deflate, br, zstd | en"},
		{"two names", []string{"Accept-Encoding: gzip", "Accept-Encoding:", "Accept-Language: de"}, "Accept-Encoding: gzip | gzip | de; Accept-Encoding:  |  | de"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			variants, err := parseVariants(tc.fields)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			ids := make(map[string]bool)
			for _, v := range variants {
				got = append(got, v.label+" | "+v.header.Get("Accept-Encoding")+" | "+v.header.Get("Accept-Language"))
				ids[v.id] = true
				if v.header.Get("User-Agent") != userAgent {
					t.Errorf("%v", v.header)
				}
			}
			if text := strings.Join(got, "; "); text != tc.want || len(ids) != len(variants) {
				t.Errorf("%q, want %q", text, tc.want)
			}
		})
	}
	crossed, err := parseVariants([]string{"A: 1", "A: 2", "B: 1", "B: 2"})
	if err != nil || len(crossed) != 4 || crossed[3].label != "A: 2, B: 2" {
		t.Errorf("%+v %v", crossed, err)
	}
}

func TestVariantsThatAreRefused(t *testing.T) {
	var many []string
	for i := range maxVariants + 1 {
		many = append(many, fmt.Sprintf("A: %d", i))
	}
	for _, tc := range []struct {
		fields []string
		want   string
	}{
		{[]string{"Cookie: a=b"}, "-H Cookie is not sent"},
		{[]string{"host: x"}, "--to says where to connect"},
		{[]string{"Range: bytes=0-1"}, "whole responses"},
		{[]string{"no colon"}, "give 'Name: value'"},
		{[]string{"a b: c"}, "give 'Name: value'"},
		{[]string{"A: b\r\nC: d"}, "give 'Name: value'"},
		{many, "more than 64 variants"},
	} {
		if _, err := parseVariants(tc.fields); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.fields, err, tc.want)
		}
	}
}

package rfc9111

import (
	"net/http"
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

package rfc9111

import (
	"strings"
	"testing"
)

func TestPercentEncoding(t *testing.T) {
	for _, tc := range []struct {
		name   string
		encode func(string) string
		text   string
		want   string
	}{
		{"path", EncodePath, "/a b/%2F/ü/[x]", "/a%20b/%2F/%C3%BC/[x]"},
		{"path with what ends one", EncodePath, "/a?b#c", "/a%3Fb%23c"},
		{"path with what no URL has", EncodePath, "/\"<>\\^`{|}\x7f", "/%22%3C%3E%5C%5E%60%7B%7C%7D%7F"},
		{"query", EncodeQuery, "a=1 2&b={ü}'?", "a=1%202&b={%C3%BC}'?"},
		{"query with what ends one", EncodeQuery, "a#b", "a%23b"},
		{"reference", encodeReference, "/{a}/(ü?q={b}?#{c} d", "/%7Ba%7D/(%C3%BC?q={b}?#{c}%20d"},
		{"reference without a query", encodeReference, "//example.com/a#{b}", "//example.com/a#%7Bb%7D"},
		{"reference with a query in its fragment", encodeReference, "#{a}?{b}", "#%7Ba%7D?{b}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tc.encode(tc.text)
			if got != tc.want {
				t.Errorf("%q becomes %q, want %q", tc.text, got, tc.want)
			}
			if again := tc.encode(got); again != got {
				t.Errorf("%q becomes %q the second time", got, again)
			}
		})
	}
	t.Run("allocates only where there is something to encode", func(t *testing.T) {
		text := strings.Repeat("/a%20b", 20)
		if n := testing.AllocsPerRun(100, func() { EncodePath(text) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

package urlform

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestPlainer(t *testing.T) {
	for path, want := range map[string][]string{
		"":                 nil,
		"/":                nil,
		"/a/b?q=1":         nil,
		"/a%2Fb":           nil,
		"/%C3%BC?%20":      nil,
		"/.well-known/x":   nil,
		"/a./b..c":         nil,
		"/%41":             {"/A"},
		"/%c3%bc":          {"/%C3%BC"},
		"/a?q=%41%2f":      {"/a?q=A%2F"},
		"/%7euser/%2e/b":   {"/~user/b"},
		"/a/./b":           {"/a/b"},
		"/a/../b":          {"/b"},
		"/../../b":         {"/b"},
		"/a/..":            {"/"},
		"/a/.":             {"/a/"},
		"//a":              {"/a"},
		"/a//b/":           {"/a/b/"},
		"/a///%41":         {"/a///A", "/a/A"},
		"/a//../b":         {"/a/b", "/b"},
		"/a?b=//c/./d":     nil,
		"/100%":            nil,
		"/%zz%4":           nil,
		"/%41?%":           {"/A?%"},
		"//%2e%2e//a/%2E.": {"//", "/"},
	} {
		origin := "http://example.com:8080"
		var got []string
		for _, s := range Plainer(origin + path) {
			got = append(got, strings.TrimPrefix(s, origin))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

// FuzzPlainer: a plainer spelling is plain, and the same URL with all escapes resolved but for
// slashes and dots.
func FuzzPlainer(f *testing.F) {
	for _, path := range []string{"/", "/%41/./b//c/../d?q=%2f%41", "/a%2F%2e%2E/", "//..", "/%c3%BC"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		path = "/" + strings.TrimPrefix(path, "/")
		got := Plainer("http://a" + path)
		for i, s := range got {
			u, err := url.Parse(s)
			if err == nil && (u.Host != "a" || u.Scheme != "http") {
				t.Errorf("%q: %q is at %q", path, s, u.Host)
			}
			// What is no escape may become one: %0%61 is %0a. No server takes it in.
			_, err = url.PathUnescape(path)
			if again := Plainer(s); err == nil && i == len(got)-1 && len(again) > 0 {
				t.Errorf("%q: %q has the plainer spellings %q", path, s, again)
			}
		}
	})
}

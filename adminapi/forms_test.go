package adminapi

import (
	"strings"
	"testing"
)

func TestURL(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"as it is", "https://example.com/a/b?c=d", "https://example.com/a/b?c=d"},
		{"scheme and host in capitals", "HTTPS://Example.COM/Path", "https://example.com/Path"},
		{"default port of https", "https://example.com:443/", "https://example.com/"},
		{"default port of http", "http://example.com:80/", "http://example.com/"},
		{"other scheme's default port", "http://example.com:443/", "http://example.com:443/"},
		{"port", "http://example.com:8080/a", "http://example.com:8080/a"},
		{"default port with zeros, as a client may send it", "http://example.com:0080/a", "http://example.com/a"},
		{"port with zeros", "http://example.com:08080/a", "http://example.com:8080/a"},
		{"empty port", "http://example.com:/a", "http://example.com/a"},
		{"trailing dot", "http://example.com./a", "http://example.com/a"},
		{"trailing dot and port", "http://example.com.:8080/a", "http://example.com:8080/a"},
		{"IPv4", "http://127.0.0.1:9080/a", "http://127.0.0.1:9080/a"},
		{"IPv6", "http://[::1]:80/a", "http://[::1]/a"},
		{"IPv6 in capitals", "http://[2001:DB8::1]:8080/a", "http://[2001:db8::1]:8080/a"},
		{"no path", "http://example.com", "http://example.com/"},
		{"no path, query", "http://example.com?a=b", "http://example.com/?a=b"},
		{"empty query", "http://example.com/a?", "http://example.com/a?"},
		{"escapes stay", "http://example.com/a%2Fb%2fc?x=%41", "http://example.com/a%2Fb%2fc?x=%41"},
		{"dots stay", "http://example.com/a/../b//c", "http://example.com/a/../b//c"},
		{"what a server escapes", "http://example.com/{a}|\"b\"?{c}", "http://example.com/%7Ba%7D%7C%22b%22?{c}"},
		{"not ASCII", "http://example.com/ü%2F?q=é", "http://example.com/%C3%BC%2F?q=%C3%A9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := URL(tc.text)
			if err != nil || got != tc.want {
				t.Errorf("URL(%q) = %q, %v; want %q", tc.text, got, err, tc.want)
			}
		})
	}
}

func TestURLRefuses(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"relative", "/a", "not an absolute URL"},
		{"no scheme", "example.com/a", "not an absolute URL"},
		{"host as scheme", "example.com:8080/a", "not an absolute URL"},
		{"empty scheme", "//example.com/a", "scheme that is not served"},
		{"other scheme", "ftp://example.com/a", "scheme that is not served"},
		{"no host", "http:///a", "not an absolute URL"},
		{"opaque", "https:example.com", "not an absolute URL"},
		{"only a port", "http://:8080/a", "the host is empty"},
		{"only a dot", "http://./a", "the host is empty"},
		{"user", "http://me@example.com/a", "has a user"},
		{"user and password", "http://me:pw@example.com/a", "has a user"},
		{"port too large", "http://example.com:65536/a", "the port is not a number"},
		{"port zero", "http://example.com:0/a", "the port is not a number"},
		{"port a word", "http://example.com:http/a", "not an absolute URL"},
		{"zone", "http://[fe80::1%25eth0]/a", "the address in brackets is not IPv6"},
		{"IPv4 in brackets", "http://[127.0.0.1]/a", "not an absolute URL"},
		{"wildcard", "http://*.example.com/a", "cannot stand in a host"},
		{"host not ASCII", "http://münchen.test/a", "xn--"},
		{"fragment", "http://example.com/a#b", "fragment"},
		{"space", "http://example.com/a b", "has a space"},
		{"space in the query", "http://example.com/a?b c", "has a space"},
		{"newline", "http://example.com/a\nb", "not an absolute URL"},
		{"broken escape", "http://example.com/%zz", "not an absolute URL"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := URL(tc.text)
			if err == nil {
				t.Fatalf("URL(%q) = %q", tc.text, got)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q, want one with %q", err, tc.want)
			}
		})
	}
}

// TestPrefixHasAWholeAuthority is about http://example.com matching http://example.com.evil.test/.
func TestPrefixHasAWholeAuthority(t *testing.T) {
	got, err := Prefix("HTTP://example.com:80")
	if err != nil || got != "http://example.com/" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestHost(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"as it is", "example.com", "example.com"},
		{"capitals and dot", "Example.COM.", "example.com"},
		{"port", "example.com:8080", "example.com:8080"},
		{"default port of http", "example.com:80", "example.com:80"},
		{"default port of https", "Example.com.:443", "example.com:443"},
		{"empty port", "example.com:", "example.com"},
		{"IPv6", "[::1]", "[::1]"},
		{"underscore", "a_b.test", "a_b.test"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Host(tc.text)
			if err != nil || got != tc.want {
				t.Errorf("Host(%q) = %q, %v; want %q", tc.text, got, err, tc.want)
			}
		})
	}
	for _, text := range []string{"", ".", "http://example.com", "example.com/", "example.com/a", "a b", "::1", "[::1", "[::1]x", "a:b:c", ":80", "*", "a,b"} {
		t.Run("refused "+text, func(t *testing.T) {
			if got, err := Host(text); err == nil {
				t.Errorf("Host(%q) = %q", text, got)
			}
		})
	}
}

// FuzzURL holds that the form is a fixed point: what an entry carries is never changed by
// asking for it.
func FuzzURL(f *testing.F) {
	f.Add("https://example.com/a?b=c")
	f.Add("HTTP://EXAMPLE.com.:80?q")
	f.Add("http://[::1]:8080/ü")
	f.Fuzz(func(t *testing.T, text string) {
		once, err := URL(text)
		if err != nil {
			return
		}
		twice, err := URL(once)
		if err != nil || twice != once {
			t.Errorf("%q became %q, that became %q, %v", text, once, twice, err)
		}
		if strings.ContainsFunc(once, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q became %q, which is not visible ASCII", text, once)
		}
	})
}

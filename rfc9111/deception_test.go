package rfc9111

import (
	"maps"
	"net/http"
	"testing"
)

func TestExtensionAgrees(t *testing.T) {
	for _, tc := range []struct {
		name, url, contentType string
		want                   bool
	}{
		{"no extension", "https://h/account", "text/html", true},
		{"no path", "https://h", "text/html", true},
		{"dots in the host only", "https://www.example.css/", "text/html", true},
		{"dots in a folder only", "https://h/x.css/account", "text/html", true},
		{"a program's extension", "https://h/index.php", "text/html", true},
		{"a version", "https://h/release/1.2", "text/html", true},
		{"style sheet", "https://h/x.css", "text/css; charset=utf-8", true},
		{"style sheet, upper case", "https://h/X.CSS", "Text/CSS", true},
		{"script", "https://h/x.min.js?v=1", "application/javascript", true},
		{"image of another format", "https://h/x.jpg", "image/webp", true},
		{"film for an image", "https://h/x.gif", "video/mp4", true},
		{"font", "https://h/x.woff", "application/font-woff", true},
		{"unknown bytes", "https://h/x.zip", "application/octet-stream", true},
		{"page as style sheet", "https://h/account/x.css", "text/html; charset=utf-8", false},
		{"data as script", "https://h/me/x.js", "application/json", false},
		{"page as image", "https://h/account/x.png", "text/html", false},
		{"no type", "https://h/x.css", "", false},
		{"damaged type", "https://h/x.css", "text/css;;=", false},
		{"only the query has it", "https://h/account?x.css", "text/html", true},
		{"behind a semicolon", "https://h/account;x.css", "text/html", false},
		{"before a semicolon", "https://h/account/x.css;v=1", "text/html", false},
		{"behind a NUL", "https://h/account%00x.png", "text/html", false},
		{"before a NUL", "https://h/account/x.png%00", "text/html", false},
		{"behind an escaped question mark", "https://h/account%3fx.css", "text/html", false},
		{"behind an escaped slash", "https://h/account%2fx.css", "text/html", false},
		{"behind a line break", "https://h/account%0ax.css", "text/html", false},
		{"behind a backslash", "https://h/account%5cx.css", "text/html", false},
		{"the dot escaped", "https://h/account/x%2ecss", "text/html", false},
		// What the guard costs.
		{"an article about a file", "https://h/wiki/Node.js", "text/html", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := http.Header{}
			if tc.contentType != "" {
				h.Set("Content-Type", tc.contentType)
			}
			if got := ExtensionAgrees(tc.url, h); got != tc.want {
				t.Errorf("%s as %q: got %v", tc.url, tc.contentType, got)
			}
		})
	}
	two := http.Header{"Content-Type": {"text/css", "text/html"}}
	if ExtensionAgrees("https://h/x.css", two) {
		t.Error("two types agree")
	}
}

func TestDeceptionGuard(t *testing.T) {
	x := &Exchange{
		Method: "GET", URL: "https://h/account/x.css", Status: 200,
		Header: http.Header{"Cache-Control": {"max-age=60"}, "Content-Type": {"text/html"}},
	}
	if got := (&Policy{}).Storable(x); got != Storable {
		t.Errorf("without the guard: %q", got)
	}
	if got := (&Policy{DeceptionGuard: true}).Storable(x); got != ReasonContentType {
		t.Errorf("with the guard: %q", got)
	}
	x.Header.Set("Cache-Control", "private")
	if got := (&Policy{DeceptionGuard: true}).Storable(x); got != ReasonPrivate {
		t.Errorf("a private response: %q", got)
	}
}

func TestValidFields(t *testing.T) {
	for _, tc := range []struct {
		name   string
		header http.Header
		want   bool
	}{
		{"none", nil, true},
		{"ordinary", http.Header{"A": {"b", ""}}, true},
		{"taken away", http.Header{"Server": nil}, true},
		{"bytes beyond ASCII", http.Header{"A": {"caf\xe9"}}, true},
		{"announced as trailer", http.Header{http.TrailerPrefix + "A": {"b"}}, true},
		{"CR", http.Header{"A": {"b\rc"}}, false},
		{"LF", http.Header{"A": {"b\nSet-Cookie: c"}}, false},
		{"NUL", http.Header{"A": {"b\x00"}}, false},
		{"the second value", http.Header{"A": {"b", "\r\n"}}, false},
		{"line break in a name", http.Header{"A\r\nB": {"c"}}, false},
		{"no name", http.Header{"": {"a"}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := ValidFields(tc.header); got != tc.want {
				t.Errorf("got %v", got)
			}
			x := &Exchange{Method: "GET", Status: 200, Header: http.Header{"Cache-Control": {"max-age=60"}}}
			maps.Copy(x.Header, tc.header)
			want := ReasonField
			if tc.want {
				want = Storable
			}
			if got := new(Policy).Storable(x); got != want {
				t.Errorf("storable: %q, want %q", got, want)
			}
		})
	}
}

func TestGone(t *testing.T) {
	for status := 100; status < 1000; status++ {
		if want := status == 404 || status == 410; Gone(status) != want {
			t.Errorf("%d: got %v", status, !want)
		}
	}
}

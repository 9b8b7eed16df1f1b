package purge

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// newCall is a PURGE of a path at example.com, with fields given as pairs.
func newCall(target string, header ...string) *Call {
	r := httptest.NewRequest(MethodPurge, "/", nil)
	r.ContentLength = 0
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		panic(err)
	}
	return &Call{Request: r, Client: netip.MustParseAddr("192.0.2.7"), Target: u, Sites: []Site{{"http", "example.com"}, {"https", "example.com"}}}
}

// at are a path's URLs in both schemes.
func at(paths ...string) (urls []string) {
	for _, origin := range []string{"http://example.com", "https://example.com"} {
		for _, path := range paths {
			urls = append(urls, origin+path)
		}
	}
	return urls
}

func TestWhatAPurgeNames(t *testing.T) {
	m := &Method{Fields: []string{"Xkey", "Cache-Tags", "X-Cache-Tags"}, Own: []string{"shop"}, Logger: zap.NewNop()}
	for _, tc := range []struct {
		name, target string
		header       []string
		want         Selectors
		says         string // of an error
	}{
		{name: "a URL", target: "/a?b=1", want: Selectors{URLs: at("/a?b=1")}},
		{name: "absolute-form", target: "http://example.com/a?b=1", want: Selectors{URLs: at("/a?b=1")}},
		{name: "absolute-form without a path", target: "http://example.com", want: Selectors{URLs: at("/")}},
		{name: "raw bytes", target: "/\u00fc", want: Selectors{URLs: at("/%C3%BC")}},
		{name: "escapes", target: "/a%2Fb", want: Selectors{URLs: at("/a%2Fb")}},
		{name: "softly", target: "/a", header: []string{"Purge-Method", "Soft"}, want: Selectors{URLs: at("/a"), Soft: true}},
		{name: "by the name of before", target: "/a", header: []string{"X-Purge-Method", "default"}, want: Selectors{URLs: at("/a")}},
		{name: "all of the site", target: "/*", want: Selectors{Prefixes: at("/")}},
		{name: "a beginning", target: "/blog*", want: Selectors{Prefixes: at("/blog")}},
		{name: "a beginning with raw bytes", target: "/\u00fc/*", want: Selectors{Prefixes: at("/%C3%BC/")}},
		{name: "an asterisk in the query", target: "/a?q=*", want: Selectors{URLs: at("/a?q=*")}},
		{name: "an escaped asterisk", target: "/a%2A", want: Selectors{URLs: at("/a%2A", "/a*")}},
		{name: "an escaped asterisk within", target: "/%2a/z?q=%2A", want: Selectors{URLs: at("/%2a/z?q=%2A", "/*/z?q=%2A")}},
		{name: "an escaped asterisk before a wildcard", target: "/%2A/*", want: Selectors{Prefixes: at("/%2A/", "/*/")}},
		{name: "an asterisk within", target: "/*/z", says: "send %2A"},
		{name: "an expression", target: "/blog/.*", header: []string{"X-Purge-Method", "regex"}, want: Selectors{Prefixes: at("/blog/")}},
		{name: "no expression", target: "/blog/.*", want: Selectors{Prefixes: at("/blog/.")}},
		{name: "an expression with a point", target: "/v1.2/.*", header: []string{"X-Purge-Method", "regex"}, want: Selectors{Prefixes: at("/v1.2/")}},
		{name: "another expression", target: "/(a|b).*", header: []string{"X-Purge-Method", "regex"}, says: "regular expression"},
		{name: "an expression with a beginning", target: "/^a.*", header: []string{"X-Purge-Method", "regex"}, says: "regular expression"},
		{name: "an expression with a query", target: "/a.*?b", header: []string{"X-Purge-Method", "regex"}, says: "query"},
		{name: "a beginning with a bare question mark", target: "/blog/*?", says: "query"},
		{name: "an expression in full", target: "/a", header: []string{"Purge-Method", "regex"}, says: "regular expression"},
		{name: "tags", target: "/a", header: []string{"xkey", "a,b  c", "xkey", "c d"}, want: Selectors{Tags: []string{"a,b", "c", "d"}}},
		{name: "tags between both", target: "/", header: []string{"Cache-Tags", "a, b c,,d"}, want: Selectors{Tags: []string{"a", "b", "c", "d"}}},
		{name: "tags softly", target: "/", header: []string{"xkey", "a", "Purge-Method", "soft"}, want: Selectors{Tags: []string{"a"}, Soft: true}},
		{name: "tags of several fields", target: "/", header: []string{"xkey", "a", "Cache-Tags", "b,a"}, want: Selectors{Tags: []string{"a", "b"}}},
		{name: "softpurge", target: "/", header: []string{"xkey-softpurge", "a b"}, want: Selectors{Tags: []string{"a", "b"}, Soft: true}},
		{name: "softpurge beside hard tags", target: "/", header: []string{"xkey-softpurge", "a", "xkey", "b"}, says: "two requests"},
		{name: "hard", target: "/", header: []string{"xkey-purge", "a"}, want: Selectors{Tags: []string{"a"}}},
		{name: "a field that is none", target: "/a", header: []string{"X-Key", "a"}, want: Selectors{URLs: at("/a")}},
		{name: "a field that is not read", target: "/a", header: []string{"Surrogate-Key", "a"}, says: "Surrogate-Key is not read: write it behind `tags`"},
		{name: "an empty field", target: "/a", header: []string{"xkey", " "}, says: "has no tag"},
		{name: "what is no tag", target: "/a", header: []string{"xkey", "a\x7f"}, says: "not a tag"},
		{name: "Magento's", target: "/", header: []string{"X-Magento-Tags-Pattern", "((^|,)cat_p(,|$))|((^|,)cms.x(,|$))"}, want: Selectors{Tags: []string{"cat_p", "cms.x"}}},
		{name: "Magento's, cut short", target: "/", header: []string{"X-Magento-Tags-Pattern", "((^|,)a(,|$))|((^|,)b"}, says: "not what Magento makes"},
		{name: "Magento's, with more", target: "/", header: []string{"X-Magento-Tags-Pattern", "((^|,)a(,|$)).*"}, says: "not what Magento makes"},
		{name: "Magento's, with a bar at the end", target: "/", header: []string{"X-Magento-Tags-Pattern", "((^|,)a(,|$))|"}, says: "not what Magento makes"},
		{name: "Magento's, an expression within", target: "/", header: []string{"X-Magento-Tags-Pattern", "((^|,)a.*(,|$))"}, says: "not what Magento makes"},
		{name: "Magento's, empty", target: "/", header: []string{"X-Magento-Tags-Pattern", ""}, says: "not what Magento makes"},
		{name: "Magento's everything", target: "/", header: []string{"X-Magento-Tags-Pattern", ".*"}, want: Selectors{Tags: []string{"shop"}}},
		{name: "everything", target: "/", header: []string{"Clear-Cache", "true"}, want: Selectors{Tags: []string{"shop"}}},
		{name: "not everything", target: "/", header: []string{"Clear-Cache", "false"}, want: Selectors{URLs: at("/")}},
		{name: "a pattern", target: "/", header: []string{"X-Cache-Tags-Pattern", "p-1|site-1"}, want: Selectors{Tags: []string{"p-1", "site-1"}}},
		{name: "a pattern with a gap", target: "/", header: []string{"X-Cache-Tags-Pattern", "p-1||a"}, says: "is empty"},
		{name: "a pattern that is an expression", target: "/", header: []string{"X-Cache-Tags-Pattern", "p-[0-9]"}, says: "regular expression"},
		{name: "mkvarnish's", target: "/", header: []string{"X-Cache-Tags", `(tt_content\-5)(,.+)?$`}, want: Selectors{Tags: []string{"tt_content-5"}}},
		{name: "FOSHttpCache's", target: "/", header: []string{"X-Cache-Tags", `(^|,)(a\.b|c)(,|$)`}, want: Selectors{Tags: []string{"a.b", "c"}}},
		{name: "API Platform's", target: "/", header: []string{"X-Cache-Tags", `(/books/1|/books)($|\,)`}, want: Selectors{Tags: []string{"/books/1", "/books"}}},
		{name: "one like it, with an expression", target: "/", header: []string{"X-Cache-Tags", `(a|b+)(,.+)?$`}, says: "regular expression"},
		{name: "one like it, with a class", target: "/", header: []string{"X-Cache-Tags", `(a\d)(,.+)?$`}, says: "regular expression"},
		{name: "an expression of tags", target: "/", header: []string{"X-Cache-Tags", "tt_content{(,5)(,|$)"}, says: "regular expression"},
		{name: "a ban", target: "/", header: []string{"X-Url", "/blog"}, says: "X-Url is not read: PURGE the URL"},
		{name: "an unknown manner", target: "/", header: []string{"X-Purge-Method", "fuzzy"}, says: "not known"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := m.selectors(newCall(tc.target, tc.header...))
			switch {
			case tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)):
				t.Errorf("got %+v, %v; want an error with %q", got, err, tc.says)
			case tc.says == "" && (err != nil || !reflect.DeepEqual(got, tc.want)):
				t.Errorf("got %+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
}

// FuzzSelectors: what a request names is never everything, each tag is one, and each URL and prefix
// is of the request's host. What is an error names nothing.
func FuzzSelectors(f *testing.F) {
	f.Add("/a*", "Xkey", "a b", "soft")
	f.Add("/a.*", "X-Magento-Tags-Pattern", "((^|,)a(,|$))|((^|,)b(,|$))", "regex")
	f.Add("/*", "X-Cache-Tags", `(a\-b|c)(,.+)?$`, "tags")
	f.Add("/%2f*/", "X-Cache-Tags-Pattern", "a|b", "")
	m := &Method{Fields: []string{"Xkey", "X-Cache-Tags"}, Own: []string{"own"}, Logger: zap.NewNop()}
	f.Fuzz(func(t *testing.T, target, field, value, manner string) {
		if _, err := url.ParseRequestURI(target); err != nil || !strings.HasPrefix(target, "/") {
			t.Skip()
		}
		call := newCall(target, "Purge-Method", manner)
		call.Header[http.CanonicalHeaderKey(field)] = []string{value}
		s, err := m.selectors(call)
		if s.All || len(s.Hosts)+len(s.IDs)+len(s.Zones) > 0 || s.Empty() != (err != nil) {
			t.Fatalf("%q %q: %q names %+v, %v", target, field, value, s, err)
		}
		for _, tag := range s.Tags {
			if tag == "" || len(tag) > 256 || strings.ContainsFunc(tag, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("%q is no tag", tag)
			}
		}
		for i, text := range append(s.URLs, s.Prefixes...) {
			if !strings.HasPrefix(text, at("/")[i%2]) {
				t.Errorf("%q is of another site", text)
			}
		}
	})
}

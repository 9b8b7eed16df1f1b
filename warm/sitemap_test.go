package warm

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

const sitemapSpace = `xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"`

// locs are the locations of a sitemap, those of an index with ~ in front.
func locs(text string) (found []string, err error) {
	err = parseSitemap(strings.NewReader(text), func(kind locKind, text string) {
		if kind == sitemapLoc {
			text = "~" + text
		}
		found = append(found, text)
	})
	return found, err
}

func TestSitemap(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"urls", `<?xml version="1.0" encoding="UTF-8"?><urlset ` + sitemapSpace + `><url><loc>http://h/a</loc><lastmod>no date</lastmod></url><url><priority>9</priority><loc> http://h/b?x=1&amp;y </loc></url></urlset>`, "http://h/a http://h/b?x=1&y"},
		{"index", `<sitemapindex ` + sitemapSpace + `><sitemap><loc>http://h/1.xml.gz</loc></sitemap></sitemapindex>`, "~http://h/1.xml.gz"},
		{"no namespace", `<urlset><url><loc>http://h/a</loc></url></urlset>`, "http://h/a"},
		{"prefix", `<s:urlset xmlns:s="http://www.sitemaps.org/schemas/sitemap/0.9"><s:url><s:loc>http://h/a</s:loc></s:url></s:urlset>`, "http://h/a"},
		{"old namespace", `<urlset xmlns="http://www.google.com/schemas/sitemap/0.84"><url><loc>http://h/a</loc></url></urlset>`, "http://h/a"},
		{"extensions", `<urlset ` + sitemapSpace + ` xmlns:image="http://www.google.com/schemas/sitemap-image/1.1"><url><image:image><image:loc>http://h/i</image:loc></image:image><image:loc>http://h/j</image:loc><loc>http://h/a</loc></url><image:url><loc>http://h/k</loc></image:url></urlset>`, "http://h/a"},
		{"CDATA and a comment", `<urlset><!-- <loc> --><url><loc><![CDATA[http://h/a?b&c]]></loc></url></urlset>`, "http://h/a?b&c"},
		{"byte order mark", "\xef\xbb\xbf <urlset><url><loc>http://h/a</loc></url></urlset>", "http://h/a"},
		{"text", "http://h/a\r\n\nhttps://h/b", "http://h/a https://h/b"},
		{"empty set", `<urlset/>`, ""},
		{"no text", `<urlset><url><loc/></url></urlset>`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := locs(tc.text); err != nil || strings.Join(got, " ") != tc.want {
				t.Errorf("%q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func TestHostileSitemap(t *testing.T) {
	deep := strings.Repeat("<a>", 1_000_000)
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", " \n", "is empty"},
		{"a page", "<!DOCTYPE html><html><body>404", "begins with <html>"},
		{"a feed", `<rss version="2.0"></rss>`, "begins with <rss>"},
		{"text", "not found", "neither XML nor a URL a line"},
		{"depth", "<urlset>" + deep, "deep"},
		{"a long tag", "<urlset " + strings.Repeat(`a="" `, 1_000_000), "a tag or a text of more than 256 KiB"},
		{"a long text", "<urlset><url><loc>" + strings.Repeat("a", 1<<20), "a tag or a text of more than 256 KiB"},
		{"a long comment", "<!--" + strings.Repeat("a", 1<<20), "a tag or a text of more than 256 KiB"},
		{"entities", `<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><urlset><url><loc>&c;</loc></url></urlset>`, "line 1"},
		{"an external entity", `<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><urlset><url><loc>&a;</loc></url></urlset>`, "line 1"},
		{"latin 1", `<?xml version="1.0" encoding="ISO-8859-1"?><urlset/>`, "UTF-8"},
		{"half a sitemap", `<urlset><url><loc>http://h/a</loc></url>`, "broken"},
		{"too many", "<urlset>" + strings.Repeat("<url><loc>http://h/</loc></url>", maxSitemapLocs+1) + "</urlset>", "more than 50000"},
		{"too many lines", strings.Repeat("http://h/\n", maxSitemapLocs+1), "more than 50000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := locs(tc.text)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if len(got) > maxSitemapLocs {
				t.Errorf("%d locations", len(got))
			}
		})
	}
}

func FuzzSitemap(f *testing.F) {
	f.Add([]byte(`<urlset><url><loc>http://h/a</loc></url></urlset>`))
	f.Add([]byte(`<sitemapindex><sitemap><loc>http://h/a</loc></sitemap></sitemapindex>`))
	f.Add([]byte("http://h/a\nhttp://h/b"))
	f.Add([]byte("<urlset><a><a><a><a/></a></a></a><url><loc>&lt;</loc></url></urlset>"))
	f.Add(gzipped([]byte("<urlset/>")))
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := inClearBounded(bytes.NewReader(data))
		if err != nil {
			return
		}
		bytesFound := 0
		err = parseSitemap(in, func(_ locKind, text string) {
			if text == "" || text != strings.TrimSpace(text) {
				t.Errorf("location %q", text)
			}
			bytesFound += len(text)
		})
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("error of several lines: %q", err)
		}
		if bytesFound > maxExpansion*len(data)+ratioFrom {
			t.Errorf("%d bytes of locations come of %d", bytesFound, len(data))
		}
	})
}

func gzipped(data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(data)
	_ = w.Close()
	return out.Bytes()
}

// TestContent: gzip is known by its content, once or twice, and has bounds.
func TestContent(t *testing.T) {
	plain := []byte("<urlset/>")
	for name, data := range map[string][]byte{"plain": plain, "gzip": gzipped(plain), "gzip of gzip": gzipped(gzipped(plain))} {
		in, err := inClearBounded(bytes.NewReader(data))
		if err != nil {
			t.Fatal(name, err)
		}
		if got, err := io.ReadAll(in); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := inClearBounded(strings.NewReader("\x1f\x8bnonsense")); err == nil || !strings.Contains(err.Error(), "broken gzip") {
		t.Errorf("broken: %v", err)
	}
	for name, tc := range map[string]struct {
		data []byte
		want error
	}{
		"expands too much":       {gzipped(make([]byte, 2<<20)), errExpands},
		"expands twice too much": {gzipped(gzipped(make([]byte, 2<<20))), errExpands},
		"too large":              {make([]byte, maxSitemapBytes+1), errTooLarge},
	} {
		in, err := inClearBounded(bytes.NewReader(tc.data))
		if err == nil {
			_, err = io.Copy(io.Discard, in)
		}
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestList(t *testing.T) {
	long := "http://h/" + strings.Repeat("a", maxURLBytes)
	list := "\xef\xbb\xbfhttp://h/a\r\n# a comment\n\n  http://H:80/a  \n/b?c\nhttp://h/d#e\nftp://h/\n" + long + "\nhttp://h/last"
	for name, data := range map[string][]byte{"plain": []byte(list), "gzip": gzipped([]byte(list))} {
		p := newPlan(10)
		if err := p.readList("list", bytes.NewReader(data), mustSites(t, "https://site")); err != nil {
			t.Fatal(err)
		}
		if want := []string{"http://h/a", "https://site/b?c", "http://h/d", "http://h/last"}; !slices.Equal(p.urls, want) || p.skipped.Duplicates != 1 {
			t.Errorf("%s: %q, want %q; %+v", name, p.urls, want, p.skipped)
		}
		if p.failed.count != 2 || !strings.Contains(p.failed.list[0].Reason, "send http or https (list, line 7)") || !strings.Contains(p.failed.list[1].Reason, "line 8") {
			t.Errorf("%s: %+v", name, p.failed)
		}
	}
}

func mustSites(t *testing.T, texts ...string) *sites {
	t.Helper()
	s, err := newSites(texts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPlanHasLimits in URLs, and in the bytes of their text.
func TestPlanHasLimits(t *testing.T) {
	p := newPlan(3)
	for i := range 5 {
		p.add(fmt.Sprintf("http://h/%d", i))
		p.add(fmt.Sprintf("http://h/%d", i))
	}
	if len(p.urls) != 3 || p.skipped.OverLimit != 4 || p.skipped.Duplicates != 3 {
		t.Errorf("%d URLs, %+v", len(p.urls), p.skipped)
	}
	p = newPlan(defaultLimit)
	p.bytes = maxPlanBytes
	if p.add("http://h/"); len(p.urls) != 0 || p.skipped.OverLimit != 1 {
		t.Errorf("%d URLs, %+v", len(p.urls), p.skipped)
	}
}

// TestMessagesMoveNoTerminal: what the site says in a message is told as all commands tell it.
// Marks that turn the direction of text came through.
func TestMessagesMoveNoTerminal(t *testing.T) {
	err := parseSitemap(strings.NewReader("<a\u202eb/>"), func(locKind, string) {})
	if err == nil || strings.Contains(err.Error(), "\u202e") {
		t.Errorf("%v", err)
	}
	if got, want := shorten("a\x1b[2J\u202eb\xff\n"), `a\x1b[2J\u202eb?\x0a`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

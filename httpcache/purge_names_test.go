package httpcache

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/larder-cache/larder/urlform"
)

// asked is what a request line makes of the URL under which its response is stored; ok is false
// where the request is none or bypasses.
func asked(rules *KeyRules, target, host string) (u string, ok bool) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")))
	if err != nil {
		return "", false
	}
	id := IdentityOf(r)
	if !id.Purgeable {
		return "", false
	}
	return rules.entryURL(id.scheme(), id.Authority, id.URL), true
}

// proxied is the same of the cache behind a proxy that has asked for what it was sent.
func proxied(rules *KeyRules, target, host string) (u string, ok bool) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")))
	if err != nil {
		return "", false
	}
	return asked(rules, r.URL.RequestURI(), r.Host)
}

// written is how somebody would write what was sent: as it was, or as a browser shows and sends it.
// JSON carries no bytes that are not UTF-8, and
// # would begin a fragment, so these are escaped.
func written(target, host string) []string {
	escape := func(keep func(r rune, size int) bool) string {
		var b strings.Builder
		for text := target; text != ""; {
			r, size := utf8.DecodeRuneInString(text)
			if keep(r, size) {
				b.WriteString(text[:size])
			} else {
				for i := range size {
					fmt.Fprintf(&b, "%%%02X", text[i])
				}
			}
			text = text[size:]
		}
		return b.String()
	}
	whole := "http://" + host
	if !strings.HasPrefix(target, "/") {
		whole = ""
	}
	return []string{
		whole + escape(func(r rune, size int) bool { return r != '#' && (r != utf8.RuneError || size > 1) }),
		whole + escape(func(r rune, _ int) bool { return r != '#' && r < utf8.RuneSelf }),
	}
}

// named fails the test unless a purge by each way to write a URL would reach what is stored under
// it.
func named(t *testing.T, rules *KeyRules, target, host string) {
	t.Helper()
	stored, ok := asked(rules, target, host)
	if !ok {
		return
	}
	for _, text := range written(target, host) {
		form, err := urlform.Parse(text)
		if err != nil {
			t.Errorf("%q is stored as %s, and a purge of %q is refused: it %v", target, stored, text, err)
			continue
		}
		urls, err := StoredURLs(form, []*KeyRules{rules})
		if err != nil || !slices.Contains(urls, stored) {
			t.Errorf("%q is stored as %s, a purge of %q names %q, %v", target, stored, text, urls, err)
		}
		if behind, ok := proxied(rules, target, host); ok && !slices.Contains(urls, behind) {
			t.Errorf("%q is stored behind a proxy as %s, a purge of %q names %q", target, behind, text, urls)
		}
	}
	if again, err := urlform.Parse(stored); err != nil || again != stored {
		t.Errorf("%s is listed, and becomes %s, %v", stored, again, err)
	}
}

// targetPieces is what randomTarget draws from: raw bytes and escapes of the same, what Go,
// browsers and shells treat apart.
var targetPieces = []string{
	"a", "B", "7", "/", "//", "..", ".", "ü", "é", "日本", "\xff", "\xc3", "%C3%BC", "%c3%bc", "%2F", "%2f", "%41", "%25", "%3F", "%00", "(", ")", "!", "'", "*",
	"$", "&", "+", ",", ";", "=", ":", "@", "[", "]", "~", "-", "_", "{", "}", "|", "\\", "^", "`", "\"", "<", ">", "#", "?", "utm_ü=1", "x=1", "&b=2", "&a=1", "&é=3",
}

func randomTarget(random *rand.Rand) string {
	var b strings.Builder
	b.WriteByte('/')
	for range random.IntN(12) {
		b.WriteString(targetPieces[random.IntN(len(targetPieces))])
	}
	return b.String()
}

// TestPurgeNamesWhatWasAsked: whatever bytes a request line may have, a purge by the URL that
// somebody would write takes what it stored. A URL with ü beside ( was stored with %28 and purged
// with (; one with a raw query was not found at all.
func TestPurgeNamesWhatWasAsked(t *testing.T) {
	const seed = 14
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	for range 5_000 {
		target := randomTarget(random)
		for which := range byte(6) {
			named(t, &KeyRules{Query: fuzzedRules(which)}, target, "example.com")
		}
	}
}

// FuzzPurgeNamesWhatWasAsked is the same for any target and Host.
func FuzzPurgeNamesWhatWasAsked(f *testing.F) {
	for _, target := range []string{
		"/?q=ü", "/ü(", "/%70age(ü", "/%2F(ü!'*", "/a#b", "/{a}|\"b\"?{c}<>", "/\xff?\xff", "/?", "/??", "//a", "http://example.com", "http://example.com?é=1&a=2", "*", "http:one", "h:80",
		"ftp://h/", "http://h/ü(?b=ü#", "/?é=1&a=2", "/?utm_é=1&utm_%C3%A9=2",
	} {
		f.Add(target, "example.com", byte(len(target)))
	}
	f.Add("/", "EXAMPLE.com.:80", byte(0))
	f.Add("/", "a!b", byte(0))
	f.Add("/", "[::1]:8080", byte(0))
	f.Fuzz(func(t *testing.T, target, host string, which byte) {
		if strings.ContainsAny(target, " \r\n") || strings.ContainsAny(host, "\r\n \t") {
			t.Skip("not one request line")
		}
		named(t, &KeyRules{Query: fuzzedRules(which)}, target, host)
	})
}

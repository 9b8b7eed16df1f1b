package httpcache

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// keyWith is the key of a GET with these lines of a field, where the cookie lang is keyed.
func keyWith(name string, lines []string) store.Key {
	u, rules := &url.URL{Path: "/"}, &KeyRules{Cookies: []string{"lang"}}
	return rules.key(&keyed{Identity: Identity{URL: u}, method: "GET", inner: u, header: http.Header{name: lines}})
}

// fuzzAlike holds that two requests which share a key are alike to every origin: seeds are lines of
// a field, with a newline between two.
func fuzzAlike(f *testing.F, field string, seeds []string, origins map[string]func(lines []string) []string) {
	for _, a := range seeds {
		for _, b := range seeds {
			f.Add(a, b)
		}
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		a, b := strings.Split(first, "\n"), strings.Split(second, "\n")
		if keyWith(field, a) != keyWith(field, b) {
			return
		}
		for name, origin := range origins {
			if one, other := origin(a), origin(b); !slices.Equal(one, other) {
				t.Errorf("%s: %q is %q, and %q is %q: they share a key", name, a, one, b, other)
			}
		}
	})
}

var cookieSeeds = []string{
	"x=1,lang=de", "x=1, lang", "x=lang=de",
	"", "lang=en", "lang=de", "lang=en\u00a0", "\u00a0lang=en", "x=1;\u3000lang=en", "lang\u0085=en", "lang=en ; x=1", "lang=en; x=1", " lang=en",
	"lang =en", "lang= en", "Lang=en", "lang=en; LANG=de", `a="; lang=en; b="`, `a="; b="; lang=en`, `a="\"; lang=en; b="`, `lang="en"`, `lang="e\"n"`,
	`="; lang=en; ="`, `"; lang=en; "`, "x=1\nlang=en", "lang=en\nx=1", "lang=en; lang=de", "lang=de; lang=en", "lang", "lang=", "=lang=en", "x={\"a\":1}; lang=en",
	"lang[a]=en", "lang[=en", "l%61ng=en", "lang%5ba]=en", "la.ng=en", "lang[a]=en; lang=de",
}

// FuzzCookiesAlike: who shares a key has the same keyed cookie, to whichever origin.
func FuzzCookiesAlike(f *testing.F) {
	split := func(line string, trim, fold func(string) string) (found []string) {
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(trim(pair), "=")
			if fold(trim(name)) == "lang" {
				found = append(found, value)
			}
		}
		return found
	}
	asIs := func(s string) string { return s }
	behindSpaces := func(s string) string { return strings.TrimLeft(s, " \t") }
	readers := map[string]func([]string) []string{
		"net/http": func(lines []string) (found []string) {
			r := http.Request{Header: http.Header{"Cookie": lines}}
			for _, c := range r.CookiesNamed("lang") {
				found = append(found, c.Value)
			}
			return found
		},
		"to the letter":    func(lines []string) []string { return split(strings.Join(lines, "; "), rfc9111.TrimOWS, asIs) },
		"values untrimmed": func(lines []string) []string { return split(strings.Join(lines, "; "), behindSpaces, asIs) },
		"Unicode": func(lines []string) []string {
			return split(strings.Join(lines, "; "), strings.TrimSpace, strings.ToLower)
		},
		"PHP": func(lines []string) (found []string) {
			for pair := range strings.SplitSeq(strings.Join(lines, "; "), ";") {
				name, value, _ := strings.Cut(strings.TrimLeft(pair, " "), "=")
				if unescaped, err := url.QueryUnescape(name); err == nil {
					name = unescaped
				}
				if name, index, _ := strings.Cut(name, "["); name == "lang" {
					found = append(found, index+value)
				}
			}
			return found
		},
		"first line": func(lines []string) []string { return split(lines[0], rfc9111.TrimOWS, asIs) },
		"joined by commas": func(lines []string) []string {
			return split(strings.Join(lines, ", "), rfc9111.TrimOWS, rfc9111.ToLower)
		},
		"split at commas": func(lines []string) []string {
			return split(strings.ReplaceAll(strings.Join(lines, ";"), ",", ";"), rfc9111.TrimOWS, asIs)
		},
		"quoted strings": func(lines []string) (found []string) {
			pair := regexp.MustCompile(`\s*([^=;]*?)\s*(?:=\s*("(?:[^\\"]|\\.)*"|[^;]*))?(?:;|$|\s)`)
			for _, m := range pair.FindAllStringSubmatch(strings.Join(lines, "; "), -1) {
				if m[1] == "lang" {
					found = append(found, m[2])
				}
			}
			return found
		},
	}
	maps.Copy(readers, moreCookieReaders)
	fuzzAlike(f, "Cookie", slices.Concat(cookieSeeds, hidingCookies), readers)
}

var forwardedSeeds = []string{
	"", "for=1.1.1.1", "for=1.1.1.1;host=www;proto=https", "for=2.2.2.2;host=www;proto=https", "for=6.6.6.6, for=5.5.5.5;host=www;proto=https",
	"host=www, proto=https", "host=www;proto=https", "by=x,for=1.1.1.1;host=www;proto=https", ",for=1.1.1.1;host=www;proto=https",
	"for=6.6.6.6\nfor=1.1.1.1;host=www;proto=https", "for=1.1.1.1;host=www;proto=https\nfor=6.6.6.6", "host=www\u00a0", "host=www", " host=www",
	`by="z;host=www;proto=https;for="`, `by="[::1]:80";host=www;proto=https`, "for=host=www", "by=_host", "for=1.1.1.1;host=www;proto=https,",
	"for=1.1.1.1;host=www,for=2.2.2.2;host=api", "for=1.1.1.1;host=api,for=2.2.2.2;host=www", "FOR=_a;Host=www", "\u212aor=1;host=www", ";host=www;", "for", "for=",
	`host="a,b"`, `host="a, b"`, `for="a,b";host=www`, `for="a;host=b";host=www`,
}

// FuzzForwardedAlike: who shares a key has the same scheme and host, to whichever origin.
func FuzzForwardedAlike(f *testing.F) {
	said := func(element string) []string {
		pairs := make(map[string]string)
		for pair := range strings.SplitSeq(element, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			pairs[strings.ToLower(name)] = value
		}
		return []string{pairs["host"], pairs["proto"]}
	}
	elements := func(lines []string) []string { return strings.Split(strings.Join(lines, ","), ",") }
	fuzzAlike(f, "Forwarded", forwardedSeeds, map[string]func([]string) []string{
		"first": func(lines []string) []string { return said(elements(lines)[0]) },
		"last": func(lines []string) []string {
			all := elements(lines)
			return said(all[len(all)-1])
		},
		"first line": func(lines []string) []string { return said(strings.Split(lines[0], ",")[0]) },
		"first that says so": func(lines []string) []string {
			return regexp.MustCompile(`(?i)\b(?:host|proto)=[^;,]*`).FindAllString(strings.Join(lines, ","), -1)
		},
		"first that is not empty": func(lines []string) []string {
			for _, element := range elements(lines) {
				if rfc9111.TrimOWS(element) != "" {
					return said(element)
				}
			}
			return nil
		},
		"quoted strings": func(lines []string) []string {
			element := regexp.MustCompile(`^(?:"(?:[^\\"]|\\.)*"|[^,])*`).FindString(strings.Join(lines, ","))
			pairs := make(map[string]string)
			for _, m := range regexp.MustCompile(`\s*(\w+)=("(?:[^\\"]|\\.)*"|[^;]*)(?:;|$)`).FindAllStringSubmatch(element, -1) {
				pairs[strings.ToLower(m[1])] = m[2]
			}
			return slices.Sorted(maps.Values(map[string]string{"h": pairs["host"], "p": pairs["proto"]}))
		},
	})
}

// PHP makes one variable of several names. A client that sent one of the others had its answer
// stored for those who send no such cookie at all.
func TestCookiesThatAreOneToPHP(t *testing.T) {
	rules := KeyRules{Cookies: []string{"my_lang", "prefs", "a.b"}}
	for line, odd := range map[string]bool{
		"my_lang=de":             false,
		"my.lang=de":             true,
		"my[lang=de":             true,
		"my%5flang=de":           true,
		"my%2Elang=de":           true,
		"My.Lang=de":             true,
		"my_lang[x]=de":          true,
		"my_language=de":         false,
		"my-lang=de":             false,
		"prefs[a]=1; x=2":        true,
		"prefs=1; other[a]=1":    true,
		"a_b=1":                  true,
		"a.b=1":                  false,
		"a=1":                    false,
		"%=1; my_lang%=1; p%5=1": false,
	} {
		if got := rules.oddCookies(http.Header{"Cookie": {line}}) != nil; got != odd {
			t.Errorf("%q: %v, want %v", line, got, odd)
		}
	}
}

package httpcache

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
)

const (
	// pythonKey are the characters that http.cookies takes in a name.
	pythonKey   = "\\w!#%&'~`><@,:/$*+\\-.^|)(?}{="
	pythonSpace = `[\s\x0b]`
)

var pythonCookie = regexp.MustCompile(`^` + pythonSpace + `*([` + pythonKey + `]+?)(` + pythonSpace + `*=` + pythonSpace +
	`*("(?:[^\\"]|\\.)*"|\w{3},\s[\w\s-]{9,11}\s[\d:]{8}\sGMT|[` + pythonKey + `\[\]]*))?` + pythonSpace + `*(` + pythonSpace + `+|;|$)`)

var pythonLegal = regexp.MustCompile("^[\\w!#$%&'*+\\-.^`|~:]+$")

// readByPython returns the cookie lang as Python's http.cookies reads it: not at all from a line
// with a part that is none.
func readByPython(line string) (found []string) {
	seen := false
	for line != "" {
		m := pythonCookie.FindStringSubmatch(line)
		if m == nil {
			break
		}
		line = line[len(m[0]):]
		name, value, hasValue := m[1], m[3], m[2] != ""
		switch {
		case name[0] == '$':
		case isCookieAttribute(name):
			if !seen || !hasValue && !strings.EqualFold(name, "secure") && !strings.EqualFold(name, "httponly") {
				return nil
			}
		case !hasValue, !pythonLegal.MatchString(name):
			return nil
		default:
			if seen = true; name == "lang" {
				found = []string{value}
			}
		}
	}
	return found
}

// readByASPNET returns the cookie lang as ASP.NET Core reads it: a comma separates, and where there
// is no cookie it tries again one byte further.
func readByASPNET(line string, unescape bool) (found []string) {
	for i := 0; i < len(line); {
		name, value, next, ok := aspnetCookie(line, i)
		if !ok || next == i {
			i++
			continue
		}
		if i = next; unescape {
			if decoded, err := url.PathUnescape(name); err == nil {
				name = decoded
			}
		}
		if strings.EqualFold(name, "lang") && value != "" {
			found = []string{value}
		}
	}
	return found
}

func aspnetCookie(line string, i int) (name, value string, next int, ok bool) {
	if i, _ = aspnetSeparator(line, i); i == len(line) {
		return "", "", i, true
	}
	begin := i
	for i < len(line) && isCookieToken(line[i]) {
		i++
	}
	if name = line[begin:i]; name == "" || i == len(line) || line[i] != '=' {
		return "", "", i, false
	}
	i++
	quoted := i < len(line) && line[i] == '"'
	if quoted {
		i++
	}
	begin = i
	for i < len(line) && line[i] > ' ' && line[i] <= '~' && strings.IndexByte(`",;\`, line[i]) < 0 {
		i++
	}
	value = line[begin:i]
	if quoted {
		if i == len(line) || line[i] != '"' {
			return "", "", i, false
		}
		i++
	}
	next, separated := aspnetSeparator(line, i)
	return name, value, next, separated || next == len(line)
}

func aspnetSeparator(line string, i int) (next int, found bool) {
	for i < len(line) && strings.IndexByte(" \t\r\n,;", line[i]) >= 0 {
		found = found || line[i] == ',' || line[i] == ';'
		i++
	}
	return i, found
}

// readByPHP returns the cookie lang as PHP reads it, up to max_input_vars, and with decoded names
// before 7.4.11.
func readByPHP(line string, decode bool) []string {
	for n, pair := range strings.Split(line, ";") {
		name, value, _ := strings.Cut(strings.TrimLeft(pair, " \t"), "=")
		if decode {
			if decoded, err := url.QueryUnescape(name); err == nil {
				name = decoded
			}
		}
		name, _, _ = strings.Cut(name, "\x00")
		name, index, isArray := strings.Cut(name, "[")
		if name = strings.NewReplacer(".", "_", " ", "_").Replace(name); n < 1000 && name == "lang" {
			if isArray {
				return []string{"array", index, value}
			}
			return []string{value}
		}
	}
	return nil
}

// readByRack returns the cookie lang as Rack 1 reads it: parts begin behind commas, too, and names
// are decoded.
func readByRack(line string) []string {
	for _, pair := range regexp.MustCompile(`[;,] *`).Split(line, -1) {
		name, value, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil && decoded == "lang" {
			return []string{value}
		}
	}
	return nil
}

var moreCookieReaders = map[string]func(lines []string) []string{
	"Python":           func(lines []string) []string { return readByPython(strings.Join(lines, "; ")) },
	"ASP.NET":          func(lines []string) []string { return readByASPNET(strings.Join(lines, "; "), false) },
	"ASP.NET, decoded": func(lines []string) []string { return readByASPNET(strings.Join(lines, "; "), true) },
	"PHP":              func(lines []string) []string { return readByPHP(strings.Join(lines, "; "), false) },
	"PHP 7.3":          func(lines []string) []string { return readByPHP(strings.Join(lines, "; "), true) },
	"Rack 1":           func(lines []string) []string { return readByRack(strings.Join(lines, "; ")) },
}

// hidingCookies hide lang=de from one reader or show it to one alone.
var hidingCookies = []string{
	"a=1 lang=de", "a=1\tlang=de", "lang=en; a=1 lang=de", `a=1 ; b="x y" lang=de`, "lang=de; ,x=1", "lang=de; [; b=1", "lang[]=x", "lang[x]=de",
	"[lang=de", "x,lang=de", "lang=en; =lang=de", "lang=en; (lang=de", "lan%67=de", "%6cang=de", "a=1; ,lang=de", "x=1,(lang=de", "x=1,a(lang=de",
	"x=1,lan%67=de", "lang%00x=de", "+lang=de", "lang%5B%5D=x", "path=x; lang=de", "$x=1; lang=de", "a; lang=de", `x={"a":1}; lang=de`, "lang=de; x=a b",
	"lang=de; a", `lang=de; x=a\b`, "lang=de;;x=1", "lang=de; x=ü; y=1",
}

// TestOddCookiesAreTheirOwn holds that cookies as browsers send them, whatever others stand beside
// them, keep the key of their keyed ones, and that any that origins read in different ways do not.
func TestOddCookiesAreTheirOwn(t *testing.T) {
	for _, line := range []string{
		`lang=en; a="b"`, "a=b=c;lang=en", "lang=en;", "lang=en; ", "lang=en; x=", "user_lang=de; lang=en", "lang=en; x=lang=de", "x=a,b,c; lang=en",
		"_ga=GA1.1.1234567890.1700000000; _ga_AB1=GS2.1.s1746$o1$g0$t1746$j60$l0$h0; _gid=GA1.2.1.2; lang=en",
		"__utmz=1.2.1.1.utmcsr=google|utmccn=(organic)|utmcmd=organic; lang=en", "AMCV_1%40AdobeOrg=1; lang=en", "lang=en; sid=s%3Aabc.d+e/f==; _fbp=fb.1.2.3",
		"lang=en; x={a:1}; OptanonConsent=isGpcEnabled=0&datestamp=Mon+Nov+30", "cookieyes-consent=consentid:abc,consent:yes,action:no; lang=en",
		strings.Repeat("a=1; ", maxPlainCookies-1) + "lang=en",
	} {
		if keyWith("Cookie", []string{line}) != keyWith("Cookie", []string{"lang=en"}) {
			t.Errorf("%q is odd", line)
		}
	}
	for _, line := range append([]string{strings.Repeat("a=1; ", 1000) + "lang=de", strings.Repeat("a=1; ", maxPlainCookies) + "lang=de"}, hidingCookies...) {
		for _, lang := range []string{"", "lang=en", "lang=de", "lang=x"} {
			if keyWith("Cookie", []string{line}) == keyWith("Cookie", []string{lang}) {
				t.Errorf("%.40q has the key of %q", line, lang)
			}
		}
	}
}

// TestReadersOfCookies holds that the readers of FuzzCookiesAlike read what they stand for.
func TestReadersOfCookies(t *testing.T) {
	for name, read := range moreCookieReaders {
		for _, line := range []string{"lang=de", "a=1; lang=de", "lang=de; b=2"} {
			if got := read([]string{line}); len(got) != 1 || got[0] != "de" {
				t.Errorf("%s reads %q from %q", name, got, line)
			}
		}
	}
	for _, c := range []struct{ reader, line, want string }{
		{"Python", "a=1 lang=de", "de"},
		{"Python", "a; lang=de", ""},
		{"Python", "lang=de; ,x=1", ""},
		{"ASP.NET", "=lang=de", "de"},
		{"ASP.NET", "[lang=de", "de"},
		{"ASP.NET", "x=1,a(lang=de", "de"},
		{"ASP.NET, decoded", "lan%67=de", "de"},
		{"PHP", "lang[]=x", "array ] x"},
		{"PHP", strings.Repeat("a=1; ", 1000) + "lang=de", ""},
		{"PHP 7.3", "lan%67=de", "de"},
		{"Rack 1", "x,lang=de", "de"},
	} {
		if got := strings.Join(moreCookieReaders[c.reader]([]string{c.line}), " "); got != c.want {
			t.Errorf("%s reads %q from %.40q", c.reader, got, c.line)
		}
	}
}

package rfc9111

import (
	"hash/maphash"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pquerna/cachecontrol/cacheobject"
)

// seconds is an optional delta-seconds (RFC 9111 1.2.2).
type seconds struct {
	given bool
	value time.Duration
}

// maxDelta is the largest time that is reckoned with, 68 years. RFC 9111 1.2.2:
// a recipient of a larger value must consider it to be 2^31 or the greatest
// integer it can represent.
const maxDelta = (1<<31 - 1) * time.Second

// lower takes one more occurrence of a directive. RFC 9111 4.2.1 lets a cache
// use the first of several or consider the response stale; the smallest is at
// most the first and never fresher than either sender meant.
func (s *seconds) lower(n time.Duration) {
	if !s.given || n < s.value {
		s.given, s.value = true, min(n, maxDelta)
	}
}

// directives are the response directives of RFC 9111 5.2.2 and its extensions,
// whichever field they came from.
type directives struct {
	noStore         bool
	private         bool // unqualified
	noCache         bool // unqualified
	public          bool
	mustRevalidate  bool
	proxyRevalidate bool
	mustUnderstand  bool
	immutable       bool
	malformed       bool // something in the field is not a directive

	privateFields []string // private="f", canonical names
	noCacheFields []string // no-cache="f", canonical names

	maxAge, sMaxAge                    seconds
	staleWhileRevalidate, staleIfError seconds
}

// parseCacheControl reads all lines of a response's Cache-Control. A line that
// was read before, as nearly all are, is looked up: a site writes few different
// ones, and to read one costs more than all else that is asked of a response that
// is not stored.
func parseCacheControl(lines []string) directives {
	if len(lines) != 1 || len(lines[0]) > maxKnownLine {
		return readCacheControl(lines)
	}
	place := &knownLines[maphash.String(knownSeed, lines[0])%uint64(len(knownLines))]
	if known := place.Load(); known != nil && known.line == lines[0] {
		return known.directives
	}
	known := &knownLine{strings.Clone(lines[0]), readCacheControl(lines)}
	place.Store(known)
	return known.directives
}

// knownLine is a line of Cache-Control with what it says, which nobody changes.
type knownLine struct {
	line       string
	directives directives
}

// knownLines are bounded, 64 lines of at most maxKnownLine bytes, since origins
// write what they like. The seed keeps anybody from choosing their places.
var (
	knownLines [64]atomic.Pointer[knownLine]
	knownSeed  = maphash.MakeSeed()
)

const maxKnownLine = 256

// readCacheControl reads lines that are not known.
//
// Each directive is parsed by itself. A parser that gives up at the first thing
// it does not understand would lose the no-store behind it, so what is not a
// directive is searched for the words that forbid something, and those hold.
func readCacheControl(lines []string) directives {
	var d directives
	for element := range elements(lines) {
		d.add(element)
	}
	return d
}

// elements are the elements of a list field that are not empty, over all of its
// lines.
func elements(lines []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for rest := line; rest != ""; {
				var element string
				element, rest = cutElement(rest)
				if element != "" && !yield(element) {
					return
				}
			}
		}
	}
}

// add takes one element of the list.
func (d *directives) add(element string) {
	name, argument, ok := cutDirective(element)
	if !ok {
		d.malformed = true
		d.forbid(element)
	}
	cd, err := cacheobject.ParseResponseCacheControl(element)
	if err != nil {
		d.addInvalid(name)
		return
	}
	d.addParsed(cd)
	if strings.EqualFold(name, "must-understand") {
		d.mustUnderstand = true
	}
	// ext=", no-store, x=" is a legal argument, but a lost quotation mark is
	// the likelier story; a no-store between commas counts. So it does in a list
	// of field names, where no field is called that.
	if strings.Contains(argument, ",") {
		d.forbid(argument)
	}
}

// addParsed merges what the parser made of one element.
func (d *directives) addParsed(cd *cacheobject.ResponseCacheDirectives) {
	d.noStore = d.noStore || cd.NoStore
	d.public = d.public || cd.Public
	d.mustRevalidate = d.mustRevalidate || cd.MustRevalidate
	d.proxyRevalidate = d.proxyRevalidate || cd.ProxyRevalidate
	d.immutable = d.immutable || cd.Immutable
	addQualified(&d.private, &d.privateFields, cd.PrivatePresent, cd.Private)
	addQualified(&d.noCache, &d.noCacheFields, cd.NoCachePresent, cd.NoCache)
	addDelta(&d.maxAge, cd.MaxAge)
	addDelta(&d.sMaxAge, cd.SMaxAge)
	addDelta(&d.staleWhileRevalidate, cd.StaleWhileRevalidate)
	addDelta(&d.staleIfError, cd.StaleIfError)
}

// addQualified merges private or no-cache, with or without field names
// (RFC 9111 5.2.2.4 and 5.2.2.7). An argument that is not a list of names
// restricts nothing one could rely on, so the unqualified form is taken.
func addQualified(whole *bool, fields *[]string, present bool, names cacheobject.FieldNames) {
	if !present {
		return
	}
	if len(names) == 0 {
		*whole = true
	}
	for name := range names {
		if !isToken(name) {
			*whole = true
			return
		}
		*fields = append(*fields, name)
	}
}

func addDelta(s *seconds, n cacheobject.DeltaSeconds) {
	if n >= 0 {
		s.lower(time.Duration(n) * time.Second)
	}
}

// addInvalid takes a known directive with an argument that makes no sense.
// RFC 9111 4.2.1 encourages to consider responses with invalid freshness
// information stale; for directives that forbid, the argument does not matter;
// the rest is dropped.
func (d *directives) addInvalid(name string) {
	switch strings.ToLower(name) {
	case "max-age":
		d.maxAge.lower(0)
	case "s-maxage":
		d.sMaxAge.lower(0)
	default:
		d.forbidWord(name)
	}
}

// forbid searches what is not a directive for words that forbid something.
func (d *directives) forbid(garbage string) {
	for word := range strings.FieldsFuncSeq(garbage, func(r rune) bool {
		return r >= 0x80 || !isTokenChar(byte(r))
	}) {
		d.forbidWord(word)
	}
}

func (d *directives) forbidWord(word string) {
	switch strings.ToLower(word) {
	case "no-store":
		d.noStore = true
	case "private":
		d.private = true
	case "no-cache":
		d.noCache = true
	case "must-revalidate":
		d.mustRevalidate = true
	case "proxy-revalidate":
		d.proxyRevalidate = true
	}
}

// cutElement cuts the first element off a comma-separated list, trimmed. A
// comma in a quoted string does not separate, if the string is the argument of
// a directive, is closed, and ends the element.
func cutElement(list string) (element, rest string) {
	for i := 0; i < len(list); i++ {
		switch {
		case list[i] == ',':
			return trimOWS(list[:i]), list[i+1:]
		case list[i] == '=' && i+1 < len(list) && list[i+1] == '"':
			if end := closingQuote(list, i+1); end > 0 && endsElement(list[end+1:]) {
				i = end
			}
		}
	}
	return trimOWS(list), ""
}

// closingQuote returns the index of the quotation mark that closes the one at
// open, or -1.
func closingQuote(s string, open int) int {
	for i := open + 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

func endsElement(rest string) bool {
	rest = strings.TrimLeft(rest, " \t")
	return rest == "" || rest[0] == ','
}

// cutDirective splits token [ "=" ( token / quoted-string ) ]. ok is false for
// anything else; then name is the token it begins with, if any.
func cutDirective(element string) (name, argument string, ok bool) {
	n := 0
	for n < len(element) && isTokenChar(element[n]) {
		n++
	}
	name = element[:n]
	switch {
	case n == 0:
		return name, "", false
	case n == len(element):
		return name, "", true
	case element[n] != '=':
		return name, "", false
	}
	argument = element[n+1:]
	if strings.HasPrefix(argument, `"`) {
		end := closingQuote(argument, 0)
		if end != len(argument)-1 {
			return name, "", false
		}
		return name, argument[1:end], true
	}
	return name, argument, isToken(argument)
}

func trimOWS(s string) string { return strings.Trim(s, " \t") }

// isToken reports whether s is a token (RFC 9110 5.6.2).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenChar(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenChar(c byte) bool { return tokenChars[c] }

// tokenChars are the tchar of RFC 9110 5.6.2. It is a table because every byte
// of every name in a response's header is looked up.
var tokenChars = func() (is [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" {
		is[c] = true
	}
	return is
}()

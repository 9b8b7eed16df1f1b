package rfc9111

import (
	"hash/maphash"
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

// maxDelta is the largest time that is reckoned with, 68 years. RFC 9111 1.2.2: a recipient of a
// larger value must consider it to be 2^31 or the greatest integer it can represent.
const maxDelta = (1<<31 - 1) * time.Second

// lower takes one more occurrence of a directive. RFC 9111 4.2.1 lets a cache use the first of
// several or consider the response stale; the smallest is at most the first and never fresher than
// either sender meant.
func (s *seconds) lower(n time.Duration) {
	if !s.given || n < s.value {
		s.given, s.value = true, min(n, maxDelta)
	}
}

// directives are the response directives of RFC 9111 5.2.2 and its extensions, whichever field they
// came from.
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

// parseCacheControl reads all lines of a response's Cache-Control. A line that was read before, as
// nearly all are, is looked up: a site writes few different ones, and to read one costs more than
// all else that is asked of a response that is not stored.
func parseCacheControl(lines []string) directives {
	if len(lines) != 1 || len(lines[0]) > maxParsedLine {
		return readCacheControl(lines)
	}
	place := &parsedLines[maphash.String(lineSeed, lines[0])%uint64(len(parsedLines))]
	if known := place.Load(); known != nil && known.line == lines[0] {
		return known.directives
	}
	known := &parsedLine{strings.Clone(lines[0]), readCacheControl(lines)}
	place.Store(known)
	return known.directives
}

// parsedLine is a line of Cache-Control with its directives. It is not changed once it is stored.
type parsedLine struct {
	line       string
	directives directives
}

// parsedLines are bounded, 64 lines of at most maxParsedLine bytes, since origins write what they
// like. The seed keeps senders from choosing their places.
var (
	parsedLines [64]atomic.Pointer[parsedLine]
	lineSeed    = maphash.MakeSeed()
)

const maxParsedLine = 256

// tooLong stands for a field that is too long to be read.
var tooLong = directives{noStore: true, malformed: true}

// readCacheControl reads lines that are not known.
//
// Each directive is parsed by itself. A parser that gives up at the first thing it does not
// understand would lose the no-store behind it, so what is not a directive is searched for the
// words that forbid something, and those hold.
//
// A field that is too long to be read keeps the response out of the store: what it forbids is not
// known.
func readCacheControl(lines []string) directives {
	if longer(lines, maxField) {
		return tooLong
	}
	var d directives
	for element := range elements(lines) {
		d.add(element)
	}
	return d
}

// add takes one element of the list. The parser gets directives only. It would split anything else
// as it sees fit, and find a lifetime there.
func (d *directives) add(element string) {
	name, argument, ok := cutDirective(element)
	if !ok {
		d.addMalformed(element)
		return
	}
	cd, err := cacheobject.ParseResponseCacheControl(element)
	if err != nil {
		d.addInvalid(name)
		return
	}
	d.addParsed(cd)
	if EqualFold(name, "must-understand") {
		d.mustUnderstand = true
	}
	// ext=", no-store, x=" is a legal argument, but a lost quotation mark is the likelier story; a
	// no-store between commas counts. So it does in a list of field names, where no field is called
	// that.
	if strings.Contains(argument, ",") {
		for word := range words(argument) {
			d.forbidWord(word)
		}
	}
}

// addMalformed takes an element that is no directive. Its words may forbid, and grant nothing:
// "foo; max-age=60" is a lifetime that is invalid.
func (d *directives) addMalformed(element string) {
	d.malformed = true
	for word := range words(element) {
		d.addInvalid(word)
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

// addQualified merges private or no-cache, with or without field names (RFC 9111 5.2.2.4 and
// 5.2.2.7). An argument that is not a list of names restricts nothing one could rely on, and a
// response without a field that selects or decodes it is another, so the unqualified form is taken.
func addQualified(whole *bool, fields *[]string, present bool, names cacheobject.FieldNames) {
	if !present {
		return
	}
	if len(names) == 0 {
		*whole = true
	}
	for name := range names {
		if !isToken(name) || indispensable(name) {
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

// addInvalid takes a known directive with an argument that makes no sense. RFC 9111 4.2.1
// encourages to consider responses with invalid freshness information stale; for directives that
// forbid, the argument does not matter; the rest is dropped.
func (d *directives) addInvalid(name string) {
	switch ToLower(name) {
	case "max-age":
		d.maxAge.lower(0)
	case "s-maxage":
		d.sMaxAge.lower(0)
	default:
		d.forbidWord(name)
	}
}

// forbidWord takes a word that stands where no directive is, for what it forbids.
func (d *directives) forbidWord(word string) {
	switch ToLower(word) {
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

// cutDirective splits token [ "=" ( token / quoted-string ) ]. ok is false for anything else; then
// name is the token it begins with, if any.
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

package rfc9111

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// maxVaryNames bounds the names of a Vary, as each costs every look-up. A response that varies by
// more is selected by no later request.
const maxVaryNames = 64

// VaryNames returns the request fields that selected the response (RFC 9111 4.1): canonical,
// sorted, each once. star says that no later request matches: the field has a member "*", one that
// is no field name, or too many.
//
// Range, Expect and the conditionals are left out. A fetch carries none of them
// ([ClearConditions]), so none of them has selected what it brought.
func VaryNames(h http.Header) (names []string, star bool) {
	for _, line := range h["Vary"] {
		for member := range strings.SplitSeq(line, ",") {
			member = TrimOWS(member)
			switch {
			case member == "":
				continue
			case member == "*", !isToken(member), len(names) == maxVaryNames:
				return nil, true
			}
			name := http.CanonicalHeaderKey(member)
			if !slices.Contains(conditions[:], name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, false
}

// VaryConditions returns the names in Vary that [VaryNames] leaves out, each once. Where something
// behind the cache writes such a field of its own accord, it has selected the response after all.
func VaryConditions(h http.Header) (names []string) {
	for _, line := range h["Vary"] {
		for member := range strings.SplitSeq(line, ",") {
			name := http.CanonicalHeaderKey(TrimOWS(member))
			if slices.Contains(conditions[:], name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// WrittenByProxies reports whether proxies write the request field themselves, so that an origin
// behind one sees another value than a cache before it. What they write into X-Forwarded-Proto and
// X-Forwarded-Host is scheme and authority, which every key has. Early-Data (RFC 8470) depends on
// the moment.
func WrittenByProxies(name string) bool {
	switch name {
	case "Forwarded", "Via", "X-Real-Ip", "Early-Data":
		return true
	case "X-Forwarded-Proto", "X-Forwarded-Host":
		return false
	}
	return strings.HasPrefix(name, "X-Forwarded-")
}

// ContentCoding returns the coding of a stored response as [VariantScore] wants it: the
// Content-Encoding in lower case, empty for identity.
func ContentCoding(h http.Header) string {
	coding := ToLower(TrimOWS(strings.Join(h["Content-Encoding"], ",")))
	if coding == identity {
		return ""
	}
	return coding
}

const (
	acceptEncoding = "Accept-Encoding"
	acceptLanguage = "Accept-Language"
	identity       = "identity"

	// absent stands for a field the request does not have; an empty one is written as a space,
	// which no trimmed value is.
	absent  = ""
	present = " "

	// lineEnd joins lines that stand as they are. No field has one in it.
	lineEnd = "\n"
)

// VariantValues returns the values of names in the request that fetched a response, normalised (RFC
// 9111 4.1): Accept-Encoding as the sorted set of codings the client accepts and refuses,
// Accept-Language as its list by weight, every other as the list of its trimmed members. A field
// that is defined as no list, is longer than 1 KiB, or is one of the first two and not one line
// that keeps to the grammar, stands as it is. Equal values mean equal variants.
func VariantValues(names []string, req http.Header) []string {
	values := make([]string, len(names))
	for i, name := range names {
		values[i] = normalize(name, req[name])
	}
	return values
}

// maxNormalized is the length of the longest field that is normalised. A request is compared with
// every variant of its URL, within a read transaction where they are on disk, and browsers send a
// fifth of it. No longer field is equal to a normalised one, since to normalise makes nothing
// longer.
const maxNormalized = 1 << 10

// isOpaque reports whether the definition of a request field is no list, so that white space around
// a comma in it may mean something (RFC 9111 4.1, RFC 9110 5.5). A field that is not known is taken
// for a list, as most are (RFC 9110 5.3).
func isOpaque(name string) bool {
	switch name {
	case "Authorization", "Proxy-Authorization", "Cookie", "User-Agent", "Referer", "From", "Origin", "Host",
		"Content-Type", "Date", "Dpop", "Digest", "Signature", "X-Api-Key", "X-Requested-With":
		return true
	}
	return false
}

// overlong reports whether a field is too long to be normalised.
func overlong(lines []string) bool { return longer(lines, maxNormalized) }

func normalize(name string, lines []string) string {
	switch {
	case len(lines) == 0:
		return absent
	case overlong(lines):
		return strings.Join(lines, ",")
	case isOpaque(name):
		return cmp.Or(strings.Join(lines, ", "), present)
	}
	switch name {
	case acceptEncoding:
		return normalizeCodings(lines)
	case acceptLanguage:
		return normalizeLanguages(lines)
	}
	return normalizeList(lines)
}

// VariantScore says how well the stored response that was selected by values of names, with the
// given [ContentCoding], suits a request: 0 not at all, more is better. Of several with the same
// score, RFC 9111 4.1 prefers the latest Date; that choice is the caller's.
//
// A coded response suits every request whose Accept-Encoding names its coding, unless it came to a
// request that does not accept it. A request without Accept-Encoding, which formally accepts
// anything, gets only what another such request fetched: clients of this kind seldom decode.
func VariantScore(names, values []string, coding string, req http.Header) int {
	if len(names) != len(values) {
		return 0
	}
	score := 1
	for i, name := range names {
		lines := req[name]
		if name == acceptEncoding && !overlong(lines) {
			s := scoreCoding(values[i], coding, lines)
			if s == 0 {
				return 0
			}
			score += s
			continue
		}
		if !sameValue(name, values[i], lines) {
			return 0
		}
	}
	return score
}

// sameValue compares without normalising where the request came normalised.
func sameValue(name, stored string, lines []string) bool {
	switch {
	case len(lines) == 0:
		return stored == absent
	case len(lines) == 1 && lines[0] == stored && stored != absent:
		return true
	case len(lines) == 1 && name == acceptLanguage && EqualFold(lines[0], stored):
		return isWeightedList(stored) // what keeps to no grammar has no case that is ignored
	case overlong(lines):
		return isJoined(stored, ",", lines)
	case isOpaque(name) && stored != present:
		return isJoined(stored, ", ", lines)
	}
	return normalize(name, lines) == stored
}

// isJoined reports whether s is the lines with commas between them.
func isJoined(s, comma string, lines []string) bool {
	for i, line := range lines {
		if i > 0 {
			rest, found := strings.CutPrefix(s, comma)
			if !found {
				return false
			}
			s = rest
		}
		if !strings.HasPrefix(s, line) {
			return false
		}
		s = s[len(line):]
	}
	return s == ""
}

// unasked is the score of a coded response to a request that does not accept the coding. It is what
// the origin has said last to the very same field, so nothing is preferred to it.
const unasked = (maxWeight + 1) * 8

// scoreCoding is the score of a stored response for Accept-Encoding: the client's weight first,
// then a denser coding before an older one.
func scoreCoding(stored, coding string, lines []string) int {
	if len(lines) == 0 {
		if stored == absent || coding == "" && (stored == identity || stored == present) {
			return 1
		}
		return 0
	}
	c := newComparison()
	defer c.done()
	asked, was := &c.asked, &c.was
	switch {
	case !asked.readLines(lines):
		if isJoined(stored, lineEnd, lines) {
			return 1
		}
		return 0
	case !was.read(stored):
		return 0
	}
	same := 1
	switch {
	case coding == "":
		if w, named := asked.of(identity); named {
			same = max(w*8, 1)
		}
		if asked.suitsIdentity(was) {
			return same
		}
	case stored == absent || was.accepts(coding) > 0:
		if w := asked.accepts(coding); w > 0 {
			return w*8 + codingRank(coding)
		}
	default:
		same = unasked
	}
	// What is left is what was fetched with the very same field, for instance a coded answer to a
	// client that asked for none.
	if stored != absent && string(asked.appendCodings(c.room[:0])) == stored {
		return same
	}
	return 0
}

func codingRank(coding string) int {
	switch coding {
	case "zstd", "br":
		return 3
	case "gzip", "x-gzip":
		return 2
	}
	return 1
}

// maxCoding is the length of the longest Content-Encoding that is looked at: each of its codings is
// searched for in what the client accepts.
const maxCoding = 128

// sameCoding compares coding names; x-gzip and x-compress are gzip and compress (RFC 9110 8.4.1).
func sameCoding(a, b string) bool {
	return EqualFold(withoutXPrefix(a), withoutXPrefix(b))
}

func withoutXPrefix(coding string) string {
	if len(coding) > 2 && (coding[0] == 'x' || coding[0] == 'X') && coding[1] == '-' {
		if name := coding[2:]; EqualFold(name, "gzip") || EqualFold(name, "compress") {
			return name
		}
	}
	return coding
}

// normalizeCodings returns the sorted set of codings a client accepts and refuses, see
// appendCodings.
func normalizeCodings(lines []string) string {
	c := newComparison()
	defer c.done()
	if !c.asked.readLines(lines) {
		return strings.Join(lines, lineEnd)
	}
	return string(c.asked.appendCodings(c.room[:0]))
}

// normalizeLanguages returns the language ranges in lower case by falling weight. Those of equal
// weight are sorted: RFC 9110 12.5.4 gives their order no meaning.
func normalizeLanguages(lines []string) string {
	c := newComparison()
	defer c.done()
	if !c.asked.readLines(lines) {
		return strings.Join(lines, lineEnd)
	}
	list := c.asked.members()
	for i := range list {
		list[i].name = ToLower(list[i].name)
	}
	slices.SortFunc(list, func(a, b weighted) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.name, b.name))
	})
	var b strings.Builder
	for i, l := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(l.name)
		if l.weight < maxWeight {
			b.WriteString(";q=")
			b.WriteString(strconv.FormatFloat(float64(l.weight)/maxWeight, 'f', -1, 64))
		}
	}
	return cmp.Or(b.String(), present)
}

// normalizeList joins all lines of a field as RFC 9110 5.3 allows, without the white space around
// its members.
func normalizeList(lines []string) string {
	if len(lines) == 1 && strings.IndexByte(lines[0], ',') < 0 {
		if v := TrimOWS(lines[0]); v != "" {
			return v
		}
		return present
	}
	var b strings.Builder
	for i, line := range lines {
		if i > 0 {
			b.WriteByte(',')
		}
		first := true
		for member := range quotedMembers(line) {
			if !first {
				b.WriteByte(',')
			}
			first = false
			b.WriteString(TrimOWS(member))
		}
	}
	if b.Len() == 0 {
		return present
	}
	return b.String()
}

package rfc9111

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// maxWeighted bounds the members of a weighted list that is read, as two long lists cost their
// product to compare. There are about a dozen codings, and browsers send a handful of languages.
const maxWeighted = 32

// maxWeight is a quality value of 1, in thousandths (RFC 9110 12.4.2).
const maxWeight = 1000

// unnamed is the weight that many an origin gives identity where no member names it.
const unnamed = 1

// weights is a weighted list (RFC 9110 12.4.2): Accept-Encoding or Accept-Language. It is read to
// the letter or not at all. Of a list that is not quite one, one origin drops a member, another
// reads a weight of 1, and a third a number such as 1e-9. Nothing that a cache made of it would be
// what every origin makes of it.
type weights struct {
	list [maxWeighted]weighted // here, so that to read one allocates nothing
	n    int
}

type weighted struct {
	name   string
	weight int // in thousandths
}

// comparison is the room to compare two weighted lists. It is taken from a pool: on the stack of a
// look-up it would be most of that stack, and a goroutine of HTTP/2 copies its stack to grow it.
type comparison struct {
	asked, was weights
	room       [maxNormalized]byte // for one of them, normalised
}

var comparisons = sync.Pool{New: func() any { return new(comparison) }}

func newComparison() *comparison { return comparisons.Get().(*comparison) }

// done gives the room back, without the texts, which belong to requests.
func (c *comparison) done() {
	c.asked.clear()
	c.was.clear()
	comparisons.Put(c)
}

// isWeightedList reports whether a list is one that read reads.
func isWeightedList(list string) bool {
	c := newComparison()
	defer c.done()
	return c.was.read(list)
}

func (w *weights) members() []weighted { return w.list[:w.n] }

func (w *weights) clear() {
	clear(w.members())
	w.n = 0
}

// readLines reads a field. One on several lines is not read: many an origin sees the first alone.
func (w *weights) readLines(lines []string) bool { return len(lines) == 1 && w.read(lines[0]) }

// read reads a list, and reports whether it is one: tokens with at most a weight each, none twice,
// and no more than maxWeighted. An empty list is one.
func (w *weights) read(list string) bool {
	if w.clear(); TrimOWS(list) == "" {
		return true
	}
	for more := true; more; {
		member := list
		end := strings.IndexByte(list, ',')
		if more = end >= 0; more {
			member, list = list[:end], list[end+1:]
		}
		m, ok := readWeighted(member)
		if !ok || w.n == maxWeighted {
			return false
		}
		for i := range w.members() {
			if sameCoding(w.list[i].name, m.name) {
				return false
			}
		}
		w.list[w.n] = m
		w.n++
	}
	return true
}

func readWeighted(member string) (m weighted, ok bool) {
	name, param, has := strings.Cut(member, ";")
	m = weighted{TrimOWS(name), maxWeight}
	if !isToken(m.name) || !has {
		return m, isToken(m.name)
	}
	param = TrimOWS(param)
	if len(param) < len("q=") || lower(param[0]) != 'q' || param[1] != '=' {
		return m, false
	}
	m.weight, ok = readWeight(param[len("q="):])
	return m, ok
}

// readWeight reads a qvalue (RFC 9110 12.4.2): 0 to 1 with at most three decimals.
func readWeight(s string) (thousandths int, ok bool) {
	if s == "" || len(s) > len("0.000") || s[0] != '0' && s[0] != '1' || len(s) > 1 && s[1] != '.' {
		return 0, false
	}
	thousandths = int(s[0]-'0') * maxWeight
	for i, unit := len("0."), maxWeight/10; i < len(s); i, unit = i+1, unit/10 {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		thousandths += int(s[i]-'0') * unit
	}
	return thousandths, thousandths <= maxWeight
}

// of is the weight of a coding (RFC 9110 12.5.3). named says that the list has it by its name and
// not by "*".
func (w *weights) of(coding string) (weight int, named bool) {
	star := 0
	for i := range w.members() {
		switch m := &w.list[i]; {
		case sameCoding(m.name, coding):
			return m.weight, true
		case m.name == "*":
			star = m.weight
		}
	}
	return star, false
}

// accepts is the least weight of the codings in a Content-Encoding, 0 if one of them is not
// accepted.
func (w *weights) accepts(coding string) int {
	if len(coding) > maxCoding {
		return 0
	}
	least := maxWeight
	for one := range strings.SplitSeq(coding, ",") {
		weight, _ := w.of(TrimOWS(one))
		least = min(least, weight)
	}
	return least
}

// identity is the weight of a response without coding, which a list need not name, and whether it
// is refused: by its name, or by a "*" that is and without its name (RFC 9110 12.5.3).
func (w *weights) identity() (weight int, refused bool) {
	for i := range w.members() {
		switch m := &w.list[i]; {
		case EqualFold(m.name, identity):
			return m.weight, m.weight == 0
		case m.name == "*":
			weight, refused = m.weight, m.weight == 0
		}
	}
	return weight, refused
}

// suitsIdentity reports whether a response without coding, fetched with the list was, suits the
// client. It does if the client does not refuse it, and was had every coding that the client
// accepts, in the same spelling, at a weight above that of identity. Then the origin has none of
// them.
func (w *weights) suitsIdentity(was *weights) bool {
	_, refused := w.identity()
	floor, wasRefused := was.identity()
	if refused || wasRefused {
		return false
	}
	for _, m := range w.members() {
		if m.weight == 0 || EqualFold(m.name, identity) {
			continue
		}
		i := slices.IndexFunc(was.members(), func(o weighted) bool { return o.name == m.name })
		if i < 0 || was.list[i].weight <= max(floor, unnamed) {
			return false
		}
	}
	return true
}

// appendCodings writes the set of codings, sorted, so that equal sets are the same question: names
// as they are spelt, and whether each is refused, or above identity, as good, or below. A weight
// says no more than that. It sorts the list, and makes no list longer.
func (w *weights) appendCodings(b []byte) []byte {
	if w.n == 0 {
		return append(b, present...)
	}
	floor, _ := w.identity()
	slices.SortFunc(w.members(), func(a, b weighted) int { return cmp.Compare(a.name, b.name) })
	_, named := w.of(identity)
	for i, m := range w.members() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, m.name...)
		switch isFloor := EqualFold(m.name, identity) || m.name == "*" && !named; {
		case m.weight == 0:
			b = append(b, ";q=0"...)
		case m.weight <= unnamed && !isFloor:
			b = append(b, ";q=0.001"...)
		case m.weight < floor:
			b = append(b, ";q=0.5"...)
		case m.weight == floor && floor < maxWeight:
			b = append(b, ";q=0.7"...)
		}
	}
	return b
}

package rfc9111

import (
	"net/http"
	"strconv"
	"strings"
)

// ByteRange is a part of a body, in bytes, within its bounds and not empty.
type ByteRange struct{ Start, Length int64 }

// ContentRange renders the Content-Range of the part (RFC 9110 14.4).
func (r ByteRange) ContentRange(size int64) string {
	return "bytes " + r.String() + "/" + strconv.FormatInt(size, 10)
}

// String renders the positions of the first and of the last byte, as Range has them.
func (r ByteRange) String() string {
	return strconv.FormatInt(r.Start, 10) + "-" + strconv.FormatInt(r.Start+r.Length-1, 10)
}

// maxRanges bounds the parts of one answer. RFC 9110 14.2 lets a server ignore many small or
// overlapping ranges, which cost it more than the client.
const maxRanges = 32

// ParseRange reads Range and If-Range of a GET (RFC 9110 14.2, 13.1.5) for a whole stored 200 with
// the given header and size. ok is false if Range is to be ignored and the whole be sent: there is
// none, If-Range does not hold, it makes no sense, or asks for more than the whole, or the body may
// have been coded for this one response. Of an empty body every range would be unsatisfiable;
// clients that send Range with each request get the whole, as from net/http's file server and from
// Varnish. unsatisfiable asks for a 416.
func ParseRange(h, stored http.Header, size int64) (ranges []ByteRange, unsatisfiable, ok bool) {
	lines := h["Range"]
	if len(lines) != 1 || size == 0 || codedAnew(stored) || !ifRangeHolds(h["If-Range"], stored) {
		return nil, false, false
	}
	unit, set, found := strings.Cut(lines[0], "=")
	if !found || !EqualFold(TrimOWS(unit), "bytes") {
		return nil, false, false
	}
	ranges, ok = parseRangeSet(set, size)
	if !ok || excessive(ranges, size) {
		return nil, false, false
	}
	return ranges, len(ranges) == 0, true
}

// codedAnew reports whether each response may have been coded for itself. Then the same content has
// other bytes each time, by how it came, and Caddy's encode and Apache give all of them one strong
// ETag. A part of one does not go on where a part of another ends. Who codes so takes Accept-Ranges
// away, or never had it. Files that are stored coded come with it.
func codedAnew(stored http.Header) bool {
	return len(stored["Content-Encoding"]) > 0 && !hasMember(stored["Accept-Ranges"], "bytes")
}

// parseRangeSet returns the satisfiable ranges of a range-set (RFC 9110 14.1.2).
func parseRangeSet(set string, size int64) (ranges []ByteRange, ok bool) {
	specs := 0
	for spec := range strings.SplitSeq(set, ",") {
		spec = TrimOWS(spec)
		if spec == "" {
			continue
		}
		if specs++; specs > maxRanges {
			return nil, false
		}
		r, valid := parseRangeSpec(spec, size)
		if !valid {
			return nil, false
		}
		if r.Length > 0 {
			ranges = append(ranges, r)
		}
	}
	return ranges, specs > 0
}

// parseRangeSpec reads first-last, first- or -suffix. Length 0 means that the range is not
// satisfiable.
func parseRangeSpec(spec string, size int64) (r ByteRange, valid bool) {
	first, last, found := strings.Cut(spec, "-")
	if !found {
		return r, false
	}
	if first == "" {
		return parseSuffix(last, size)
	}
	start, valid := parsePosition(first)
	if !valid {
		return r, false
	}
	end := size - 1
	if last != "" {
		position, valid := parsePosition(last)
		if !valid || position < start {
			return r, false
		}
		end = min(end, position)
	}
	if start >= size {
		return ByteRange{}, true
	}
	return ByteRange{Start: start, Length: end - start + 1}, true
}

// parseSuffix reads the last n bytes. Of an empty body they are satisfiable and cannot be expressed
// as Content-Range, so the whole is sent: not valid.
func parseSuffix(s string, size int64) (r ByteRange, valid bool) {
	n, valid := parsePosition(s)
	if !valid || size == 0 && n > 0 {
		return r, false
	}
	n = min(n, size)
	return ByteRange{Start: size - n, Length: n}, true
}

// parsePosition reads digits; more than fit are the largest number.
func parsePosition(s string) (int64, bool) {
	if !isDigits(s) {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, true
	}
	return n, true
}

// excessive reports ranges that ask for more bytes than there are, or of which more than two
// overlap (RFC 9110 14.2).
func excessive(ranges []ByteRange, size int64) bool {
	if len(ranges) < 2 {
		return false
	}
	total := int64(0)
	overlaps := 0
	for i, r := range ranges {
		if total += r.Length; total > size {
			return true
		}
		for _, other := range ranges[:i] {
			if r.Start < other.Start+other.Length && other.Start < r.Start+r.Length {
				overlaps++
			}
		}
	}
	return overlaps > 2
}

// ClearForUnsatisfiable makes the header of a stored 200 that of a 416 (RFC 9110 15.5.17): what
// describes the representation goes, and so does what gives it a lifetime, in any field, since the
// refusal of one range says nothing about the next.
func (p *Policy) ClearForUnsatisfiable(h http.Header) {
	removeFields(h, metadata[:])
	removeFields(h, p.targets())
	removeFields(h, []string{"Etag", "Last-Modified", "Cache-Control", "Expires", "Pragma", "No-Vary-Search"})
	for name := range h {
		if strings.HasSuffix(name, "-Cache-Control") { // RFC 9213 2: that is how they are named
			delete(h, name)
		}
	}
}

// ifRangeHolds is RFC 9110 13.1.5: the same strong entity tag, or the same date if that date is a
// strong validator (8.8.2.2).
func ifRangeHolds(lines []string, stored http.Header) bool {
	if len(lines) == 0 {
		return true
	}
	if len(lines) > 1 {
		return false
	}
	value := TrimOWS(lines[0])
	if strings.HasPrefix(value, `"`) {
		return value == entityTag(stored)
	}
	wanted, ok := parseDate(value)
	modified, strong := strongDate(stored)
	return ok && strong && modified.Equal(wanted)
}

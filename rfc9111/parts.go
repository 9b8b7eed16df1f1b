package rfc9111

import (
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file has what a cache has to know of parts: what a 206 is a part of, and which parts belong
// together (RFC 9110 14.4 and 15.3.7, RFC 9111 3.4).

// Part is what Content-Range says of a 206: which bytes it has, of how many.
type Part struct {
	ByteRange
	Complete int64 // the length of the whole
}

// End is the position behind the last byte.
func (p Part) End() int64 { return p.Start + p.Length }

// IsWhole reports whether the part is all there is.
func (p Part) IsWhole() bool { return p.Start == 0 && p.Length == p.Complete }

// ParsePart reads the Content-Range of a 206 with a single part. ok is false where there is none,
// or more than one, or where it makes no sense, is not in bytes, or leaves the length of the whole
// open; and where Content-Length says something else of the part's. It may be missing, but not
// beside Content-Encoding: what a handler codes on the way has not the length that is told.
func ParsePart(h http.Header) (p Part, ok bool) {
	lines := h["Content-Range"]
	if len(lines) != 1 || len(h["Content-Length"]) > 1 {
		return Part{}, false
	}
	unit, rest, found := strings.Cut(TrimOWS(lines[0]), " ")
	span, complete, parted := strings.Cut(rest, "/")
	first, last, ranged := strings.Cut(span, "-")
	if !found || !parted || !ranged || !EqualFold(unit, "bytes") {
		return Part{}, false
	}
	var positions [3]int64
	for i, text := range [...]string{first, last, complete} {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || !isDigits(text) {
			return Part{}, false
		}
		positions[i] = n
	}
	start, end, size := positions[0], positions[1], positions[2]
	if start > end || end >= size {
		return Part{}, false
	}
	p = Part{ByteRange{start, end - start + 1}, size}
	length := h["Content-Length"]
	if len(length) == 0 {
		return p, len(h["Content-Encoding"]) == 0
	}
	return p, TrimOWS(length[0]) == strconv.FormatInt(p.Length, 10)
}

// UnsatisfiedLength reads the length of the whole, in bytes, from the Content-Range of a 416 (RFC
// 9110 14.4). ok is false where there is none that can be read.
func UnsatisfiedLength(h http.Header) (n int64, ok bool) {
	lines := h["Content-Range"]
	if len(lines) != 1 {
		return 0, false
	}
	unit, rest, _ := strings.Cut(TrimOWS(lines[0]), " ")
	text, found := strings.CutPrefix(rest, "*/")
	if !found || !EqualFold(unit, "bytes") || !isDigits(text) {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// HasStrongValidator reports whether a response has a validator that changes with every change of
// the representation (RFC 9110 8.8.1): a strong entity tag or, where it has no tag at all, a
// Last-Modified that is at least a second before its Date (8.8.2.2).
func HasStrongValidator(h http.Header) bool {
	if len(h["Etag"]) > 0 {
		return isStrongTag(entityTag(h))
	}
	_, strong := strongDate(h)
	return strong
}

// isStrongTag reports whether text is a strong entity tag (RFC 9110 8.8.3).
func isStrongTag(text string) bool {
	return len(text) >= 2 && text[0] == '"' && strings.IndexByte(text[1:], '"') == len(text)-2
}

// strongDate returns Last-Modified if it is a strong validator.
func strongDate(h http.Header) (modified time.Time, strong bool) {
	modified, has := dateField(h["Last-Modified"])
	date, dated := dateOf(h)
	return modified, has && dated && date.Sub(modified) >= time.Second
}

// Combinable reports whether two responses are parts of the same representation: by the same strong
// validator (RFC 9111 3.4), and no other coding or type, as an origin may give one tag to several.
func Combinable(stored, part http.Header) bool {
	if !HasStrongValidator(stored) || !HasStrongValidator(part) || ContentCoding(stored) != ContentCoding(part) {
		return false
	}
	mediaType, another := stored["Content-Type"], part["Content-Type"]
	if len(mediaType) > 0 && len(another) > 0 && !slices.Equal(mediaType, another) {
		return false
	}
	if len(stored["Etag"])+len(part["Etag"]) > 0 {
		return entityTag(stored) == entityTag(part)
	}
	mine, _ := strongDate(stored)
	theirs, _ := strongDate(part)
	return mine.Equal(theirs)
}

// WholeHeader returns the header that the 200 would have of which p is a part. It is a map of its
// own, with the same lists. Digests of the content are those of the part (RFC 9530 2).
func WholeHeader(h http.Header, p Part) http.Header {
	whole := maps.Clone(h)
	delete(whole, "Content-Range")
	if !p.IsWhole() {
		delete(whole, "Content-Digest")
		delete(whole, "Content-Md5")
	}
	whole["Content-Length"] = []string{strconv.FormatInt(p.Complete, 10)}
	return whole
}

// Slice names a part of a body of unknown length that is cut into pieces of one size.
type Slice struct {
	Size   int64 // of each slice, in bytes
	Number int64 // the index of the slice, from 0
	// Last is the last slice, of a body whose length is not known: it is asked for by its greatest
	// possible length.
	Last bool
}

// FirstSlice returns the slice in which the first range of a request begins. ok is false where the
// request has no Range that names one.
func FirstSlice(h http.Header, size int64) (s Slice, ok bool) {
	lines := h["Range"]
	if len(lines) != 1 || size <= 0 {
		return Slice{}, false
	}
	unit, set, found := strings.Cut(lines[0], "=")
	if !found || !EqualFold(TrimOWS(unit), "bytes") {
		return Slice{}, false
	}
	const unknown = 1<<63 - 1
	ranges, valid := parseRangeSet(set, unknown)
	if !valid || len(ranges) == 0 {
		return Slice{}, false
	}
	for spec := range strings.SplitSeq(set, ",") {
		if spec = TrimOWS(spec); spec != "" {
			if spec[0] == '-' {
				return Slice{Size: size, Last: true}, true
			}
			break
		}
	}
	return Slice{Size: size, Number: ranges[0].Start / size}, true
}

// RangesBeginBefore reports whether all parts that a request asks for begin before a position, in a
// body of unknown length. One that is counted from the end does not. A Range that is not understood
// asks for the whole, which does.
func RangesBeginBefore(h http.Header, position int64) bool {
	if _, ok := FirstSlice(h, position); !ok {
		return true
	}
	_, set, _ := strings.Cut(h["Range"][0], "=")
	ranges, _ := parseRangeSet(set, math.MaxInt64)
	return !slices.ContainsFunc(ranges, func(r ByteRange) bool { return r.Start >= position })
}

// Range is the value of Range that asks for the slice, up to the last position that there may be.
func (s Slice) Range() string {
	if s.Last {
		return "bytes=-" + strconv.FormatInt(s.Size, 10)
	}
	start := s.Number * s.Size
	return "bytes=" + ByteRange{start, min(s.Size-1, math.MaxInt64-start) + 1}.String()
}

// Of returns the slice as a part of a body of that length; empty where it lies behind its end.
func (s Slice) Of(length int64) ByteRange {
	number := s.Number
	if s.Last {
		number = (length - 1) / s.Size
	}
	start := number * s.Size
	return ByteRange{start, max(0, min(s.Size, length-start))}
}

// Answers reports whether a part is the answer to Range: what was asked for, as far as there is
// so much. A part that is the whole is, too.
func (s Slice) Answers(p Part) bool {
	if p.IsWhole() {
		return p.Length <= s.Size
	}
	if s.Last {
		return p.Length == s.Size && p.End() == p.Complete
	}
	return p.ByteRange == s.Of(p.Complete)
}

// IsCompressible reports whether the answer without Range may be compressed on its way, by the type
// of its media: a 206 is not, by nginx and by Caddy, and then also lacks the Vary of the 200. Such
// a response would be served uncompressed to all, if it were stored from its parts.
func IsCompressible(h http.Header) bool {
	if len(h["Content-Encoding"]) > 0 {
		return false
	}
	mediaType, _, _ := strings.Cut(ToLower(h.Get("Content-Type")), ";")
	family, name, _ := strings.Cut(TrimOWS(mediaType), "/")
	switch family {
	case "text", "message", "model":
		return true
	case "font":
		return name != "woff" && name != "woff2"
	case "multipart":
		return name != "byteranges"
	case "image":
		return strings.HasPrefix(name, "svg") || strings.HasSuffix(name, "icon") || strings.HasSuffix(name, "bmp")
	case "application":
		for _, part := range compressibleParts {
			if strings.Contains(name, part) {
				return true
			}
		}
	}
	return false
}

// compressibleParts are in the names of types of application/ that servers compress: what Caddy's
// encode does by default, and what is written as text.
var compressibleParts = [...]string{
	"json", "xml", "javascript", "ecmascript", "yaml", "toml", "sql", "graphql", "rtf", "postscript", "x-sh", "x-csh", "x-perl", "x-httpd", "x-protobuf",
	"wasm", "eot", "font", "opentype", "otf", "truetype", "ttf", "csv", "latex", "tex", "manifest",
}

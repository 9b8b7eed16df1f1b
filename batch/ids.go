package batch

import (
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxID is the longest id that is asked for with others, in bytes.
	MaxID = 256
	// MaxTarget is the longest URL that is asked for, in bytes, unless two ids need more: servers
	// read request lines and headers of 8 KiB together at least.
	MaxTarget = 4 << 10
)

// Fit says whether a path names an item that can be asked for with others.
type Fit uint8

// The answers.
const (
	// OtherPath: the rule does not speak of it.
	OtherPath Fit = iota
	// Fits: it does, and the id can stand in a list.
	Fits
	// TooLong: the id is longer than [MaxID].
	TooLong
	// Unlistable: in a list the id would not be one, or not the same: it has what joins ids, a
	// slash, a control character or what is no text, or is a dot segment.
	Unlistable
)

// String returns the reason in words.
func (f Fit) String() string {
	switch f {
	case OtherPath:
		return "the path is another"
	case Fits:
		return "the id fits"
	case TooLong:
		return fmt.Sprintf("the id is longer than %d bytes", MaxID)
	case Unlistable:
		return "the id cannot stand in a list of ids"
	}
	return fmt.Sprintf("fit(%d)", uint8(f))
}

// ID returns the id in a path, which is as the URL spells it.
func (r *Rule) ID(escapedPath string) (id string, fit Fit) {
	rest, ok := strings.CutPrefix(escapedPath, r.prefix)
	if !ok {
		return "", OtherPath
	}
	rest, ok = strings.CutSuffix(rest, r.suffix)
	if !ok || rest == "" || strings.Contains(rest, "/") {
		return "", OtherPath
	}
	id, err := url.PathUnescape(rest)
	switch {
	case err != nil:
		return "", OtherPath
	case len(id) > MaxID:
		return id, TooLong
	case !r.listable(id):
		return id, Unlistable
	}
	return id, Fits
}

// listable reports whether an id is the same one in a list.
func (r *Rule) listable(id string) bool {
	// What joins ids may be written as `%2C`, which a server reads as a comma.
	joins, err := url.QueryUnescape(r.join)
	switch {
	case err != nil, strings.Contains(id, r.join), strings.Contains(id, joins):
		return false
	case id == ".", id == "..", strings.ContainsAny(id, `/\`):
		return false
	case !utf8.ValidString(id), strings.ContainsRune(id, utf8.RuneError):
		return false
	}
	return !strings.ContainsFunc(id, unicode.IsControl)
}

// Target returns the URL for many ids: path and query, as they are sent.
func (r *Rule) Target(ids []string) string {
	escaped := make([]string, len(ids))
	for i, id := range ids {
		escaped[i] = escape(id)
	}
	return strings.Replace(r.target, idsPlaceholder, strings.Join(escaped, r.join), 1)
}

// escape returns an id as it may stand in a path and in a query alike.
func escape(id string) string { return strings.ReplaceAll(url.QueryEscape(id), "+", "%20") }

// size is how much an id adds to the URL.
func (r *Rule) size(id string) int { return len(escape(id)) + len(r.join) }

// Tags returns the tags of an item. An id that has other bytes than visible ASCII stands there as
// in a URL. expand replaces the placeholders of the server in a text; it is given no part of the
// id, which a client has written.
func (r *Rule) Tags(id string, expand func(string) string) []string {
	if strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
		id = escape(id)
	}
	tags := make([]string, len(r.tags))
	for i, parts := range r.tags {
		expanded := make([]string, len(parts))
		for n, part := range parts {
			expanded[n] = expand(part)
		}
		tags[i] = strings.Join(expanded, id)
	}
	return tags
}

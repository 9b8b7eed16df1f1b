package rfc9111

import (
	"net/http"
	"slices"
	"strings"

	"github.com/dunglas/httpsfv"
)

// Bounds of tags: longer ones and further ones are dropped.
const (
	// MaxTags is how many tags or groups one response may carry.
	MaxTags = 128
	// MaxTagBytes is how long one may be.
	MaxTagBytes = 256
)

// DefaultTagFields are the response fields that carry tags unless the operator names others.
var DefaultTagFields = []string{"Surrogate-Key", "Cache-Tag", "Xkey"}

// Tags returns the tags in the fields from ([DefaultTagFields] if it is empty), each once, in the
// order of the fields. Surrogate-Key and xkey are split at white space, Cache-Tag at commas, any
// other field at both; a comma at either end of a tag is none of it. A tag is 1 to [MaxTagBytes]
// bytes of visible ASCII; dropped counts those that are not, and those beyond [MaxTags].
func Tags(h http.Header, from []string) (tags []string, dropped int) {
	if len(from) == 0 {
		from = DefaultTagFields
	}
	var known set
	for _, field := range from {
		field = http.CanonicalHeaderKey(field)
		separates := tagSeparator(field)
		for _, line := range h[field] {
			for tag := range strings.FieldsFuncSeq(line, separates) {
				tag = trimTag(tag)
				switch {
				case tag == "" || known.has(tags, tag):
				case !ValidTag(tag) || len(tags) == MaxTags:
					dropped++
				default:
					tags = append(tags, tag)
				}
			}
		}
	}
	return tags, dropped
}

// SplitTags returns what stands in a line of a field where [Tags] finds tags, whether they are some
// or not.
func SplitTags(field, line string) (parts []string) {
	for part := range strings.FieldsFuncSeq(line, tagSeparator(http.CanonicalHeaderKey(field))) {
		if part = trimTag(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// trimTag leaves out a comma beside white space, which separates as well: API Platform writes
// `Surrogate-Key: /books, /books/1`. One within a tag is part of it.
func trimTag(part string) string { return strings.Trim(TrimOWS(part), ",") }

// set tells what a list has, which grows at its end alone. A short list is quicker to search than
// to keep a map for.
type set struct{ members map[string]struct{} }

func (s *set) has(list []string, one string) bool {
	const short = 16
	if len(list) <= short {
		return slices.Contains(list, one)
	}
	if s.members == nil {
		s.members = make(map[string]struct{}, MaxTags)
	}
	for i := len(s.members); i < len(list); i++ {
		s.members[list[i]] = struct{}{}
	}
	_, found := s.members[one]
	return found
}

func tagSeparator(field string) func(rune) bool {
	switch field {
	case "Surrogate-Key", "Xkey":
		return isSpace
	case "Cache-Tag":
		return isComma
	}
	return func(r rune) bool { return isSpace(r) || isComma(r) }
}

func isSpace(r rune) bool { return r == ' ' || '\t' <= r && r <= '\r' }

func isComma(r rune) bool { return r == ',' }

// ValidTag reports whether tag is one: 1 to [MaxTagBytes] bytes of visible ASCII.
func ValidTag(tag string) bool {
	for i := 0; i < len(tag); i++ {
		if tag[i] <= ' ' || tag[i] > '~' {
			return false
		}
	}
	return tag != "" && len(tag) <= MaxTagBytes
}

// maxGroups is the length of the longest field of groups that is read: it has room for twice as
// many as count, each as long as one may be.
const maxGroups = 64 << 10

// CacheGroups returns the groups in a field of RFC 9875, Cache-Groups or Cache-Group-Invalidation:
// a structured-field List of Strings, each once. A field that is anything else, or longer than 64
// KiB, is as if absent. Of more than [MaxTags] groups the rest are dropped, as are those longer
// than [MaxTagBytes]; RFC 9875 2.1 asks for 32 of 32.
//
// Groups belong to one origin, and Cache-Group-Invalidation counts only on a response that
// [Invalidates]; both are the caller's to see to.
func CacheGroups(h http.Header, field string) []string {
	lines := h[http.CanonicalHeaderKey(field)]
	if len(lines) == 0 || longer(lines, maxGroups) {
		return nil
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil
	}
	var groups []string
	var known set
	for _, member := range list {
		item, isItem := member.(httpsfv.Item)
		group, isString := item.Value.(string)
		if !isItem || !isString {
			return nil
		}
		if len(groups) < MaxTags && len(group) <= MaxTagBytes && !known.has(groups, group) {
			groups = append(groups, group)
		}
	}
	return groups
}

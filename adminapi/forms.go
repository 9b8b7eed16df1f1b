package adminapi

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/urlform"
)

// Tag refuses a tag that no entry can have, so that a misspelt one is not answered with "0
// matched".
func Tag(tag string) (string, error) {
	switch {
	case strings.ContainsFunc(tag, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("%s is not a tag; send visible ASCII without white space", Quote(tag))
	case len(tag) > rfc9111.MaxTagBytes:
		return "", fmt.Errorf("a tag of %d bytes is too long; send at most %d", len(tag), rfc9111.MaxTagBytes)
	default:
		return tag, nil
	}
}

// URL gives an absolute URL the form in which entries carry theirs. What no stored response can
// have been asked for by is an error, a sentence that quotes text and says what to send.
func URL(text string) (string, error) {
	normalized, err := urlform.Parse(text)
	if err != nil {
		return "", fmt.Errorf("%s %w", Quote(text), err)
	}
	return normalized, nil
}

// Prefix gives the beginning of a URL the form of URL. The authority of a prefix is always whole:
// http://example.com becomes http://example.com/ and so cannot match http://example.com.evil.test/.
// Its errors are those of URL.
func Prefix(text string) (string, error) {
	return URL(text)
}

// Host gives an authority the form in which the URLs of entries carry theirs. A default port stays,
// as it is the default of one scheme only. Other text is an error, a sentence that quotes it and
// says what to send.
func Host(text string) (string, error) {
	authority, err := urlform.Authority("", text)
	if err != nil {
		return "", fmt.Errorf("%s is not an authority: %w; send one such as example.com or example.com:8080", Quote(text), err)
	}
	return authority, nil
}

// ID refuses what is no entry's id.
func ID(text string) (string, error) {
	if len(text) != 32 || strings.Trim(text, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%s is not an id; send the 32 hexadecimal digits that GET /larder/entries has", Quote(text))
	}
	return text, nil
}

// CheckZones refuses a zone that there is not.
func CheckZones(asked, known []string) error {
	for _, zone := range asked {
		if !slices.Contains(known, zone) {
			return fmt.Errorf("there is no zone %s; send one of %s", Quote(zone), strings.Join(known, ", "))
		}
	}
	return nil
}

// Quote shortens and quotes a caller's text for an error message.
func Quote(text string) string {
	const limit = 120
	if len(text) > limit {
		return strconv.Quote(text[:limit]) + "…"
	}
	return strconv.Quote(text)
}

package purge

import (
	"fmt"
	"strconv"

	"github.com/larder-cache/larder/urlform"
)

// normalizeURL gives an absolute URL the form in which entries carry theirs.
func normalizeURL(text string) (string, error) {
	normalized, err := urlform.Parse(text)
	if err != nil {
		return "", fmt.Errorf("%s %w", quote(text), err)
	}
	return normalized, nil
}

// normalizePrefix gives the beginning of a URL the form of normalizeURL. The authority of a prefix
// is always whole: http://example.com becomes http://example.com/ and so cannot match
// http://example.com.evil.test/.
func normalizePrefix(text string) (string, error) {
	return normalizeURL(text)
}

// normalizeHost gives an authority the form in which the URLs of entries carry theirs. A default
// port stays, as it is the default of one scheme only.
func normalizeHost(text string) (string, error) {
	authority, err := urlform.Authority("", text)
	if err != nil {
		return "", fmt.Errorf("%s is not an authority: %w; send one such as example.com or example.com:8080", quote(text), err)
	}
	return authority, nil
}

// quote shortens and quotes a caller's text for an error message.
func quote(text string) string {
	const limit = 120
	if len(text) > limit {
		return strconv.Quote(text[:limit]) + "…"
	}
	return strconv.Quote(text)
}

package rfc9111

import (
	"net/http"
	"strings"

	"github.com/dunglas/httpsfv"
)

// Incremental reports Incremental: ?1 (RFC 10036): the message is wanted as it comes. Anything but
// that Boolean is as if absent.
func Incremental(h http.Header) bool {
	lines := h["Incremental"]
	if len(lines) == 0 || longer(lines, maxField) {
		return false
	}
	item, err := httpsfv.UnmarshalItem(lines)
	if err != nil {
		return false
	}
	incremental, isBool := item.Value.(bool)
	return isBool && incremental
}

// CDNLoopCount counts the members of CDN-Loop (RFC 8586) that are token, in any case and with any
// parameters.
func CDNLoopCount(h http.Header, token string) int {
	count := 0
	for _, line := range h["Cdn-Loop"] {
		for member := range quotedMembers(line) {
			id, _, _ := strings.Cut(member, ";")
			if EqualFold(TrimOWS(id), token) {
				count++
			}
		}
	}
	return count
}

// AppendCDNLoop appends token to CDN-Loop, on one line behind what stands there.
func AppendCDNLoop(h http.Header, token string) {
	value := token
	if lines := h["Cdn-Loop"]; len(lines) > 0 {
		value = strings.Join(lines, ", ") + ", " + token
	}
	h["Cdn-Loop"] = []string{value}
}

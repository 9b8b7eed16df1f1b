package purge

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ownField carries a token where Authorization is not free, as of plugins that let one add a
// field of one's own.
const ownField = "X-Purge-Token"

// refused is why a request may not purge.
type refused struct {
	status int
	says   string
}

// The refusals.
var (
	refusedAddress = &refused{http.StatusForbidden, "PURGE is not allowed from this address"}
	refusedPage    = &refused{http.StatusForbidden, "PURGE is not allowed from a web page where no token is needed; send no Origin and no Sec-Fetch-Site"}
	refusedToken   = &refused{http.StatusUnauthorized, "PURGE needs a token here; send it in Authorization: Bearer, or in X-Purge-Token"}
)

// refusal returns why a request may not purge, and nil for one that may. The address is looked at
// first: to those at another one nothing is told of a token.
func (m *Method) refusal(call *Call) *refused {
	switch {
	case len(m.Allow) > 0 && !allows(m.Allow, call.Client):
		return refusedAddress
	case m.Token == nil && isOfAPage(call.Header):
		return refusedPage
	case m.Token != nil && !m.presentsToken(call):
		return refusedToken
	}
	return nil
}

// isOfAPage reports whether a browser has sent a request for a web page. A page of any site can
// have a browser at an allowed address send it, where the page's host is made to resolve to this
// server (DNS rebinding). Browsers add an Origin to each PURGE (Fetch 3.2), most of them
// Sec-Fetch-Site as well, and pages cannot take them away. Node's fetch adds Sec-Fetch-Mode, and
// programs cannot take that away: it says nothing of a page.
func isOfAPage(h http.Header) bool {
	return len(h["Origin"]) > 0 || len(h["Sec-Fetch-Site"]) > 0
}

func allows(allow []netip.Prefix, client netip.Addr) bool {
	client = client.Unmap().WithZone("")
	return slices.ContainsFunc(allow, func(p netip.Prefix) bool { return p.Contains(client) })
}

// presentsToken reports whether the request has the token in one of its two fields.
func (m *Method) presentsToken(call *Call) bool {
	token, err := m.Token(call.Request)
	if err != nil || token == "" {
		return false // nothing is compared with a token that there is not
	}
	bearer := equalTokens(bearerOf(call.Header), token)
	return equalTokens(only(call.Header[ownField]), token) || bearer
}

// equalTokens takes the same time for all texts that a client may send, whatever they have in
// common with the token and however long that is: it compares hashes.
func equalTokens(sent, token string) bool {
	a, b := sha256.Sum256([]byte(sent)), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// bearerOf is the token in Authorization (RFC 6750 2.1).
func bearerOf(h http.Header) string {
	scheme, token, _ := strings.Cut(only(h["Authorization"]), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimLeft(token, " ")
}

// only is the value of a field that stands once. One that stands more often is as if absent, so
// that a request makes one guess a field.
func only(lines []string) string {
	if len(lines) != 1 {
		return ""
	}
	return lines[0]
}

package rfc9111

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Policy is what the operator says beyond the RFCs. The zero value is the RFC for a shared cache:
// nothing is stored without an explicit lifetime. A Policy must not change while it is in use; then
// it is safe for concurrent use.
type Policy struct {
	// TTL is the freshness of responses that state none themselves. The first row that matches the
	// status counts.
	TTL []StatusTTL

	// ForceTTL replaces what the origin says of freshness: max-age, s-maxage, Expires, no-cache,
	// must-revalidate and proxy-revalidate. no-store, private, Set-Cookie, Vary: * and the rule for
	// Authorization stand.
	ForceTTL []StatusTTL

	// MaxTTL caps every lifetime. 0 means no cap.
	MaxTTL time.Duration

	// Ignore holds field names: the response is judged as if it lacked them.
	Ignore []string

	// IgnoreClientDirectives says that a request's Cache-Control and Pragma are without effect. The
	// caller then passes the zero [RequestDirectives].
	IgnoreClientDirectives bool

	// Heuristic turns on heuristic freshness (RFC 9111 4.2.2).
	Heuristic bool

	// SafePost is the operator's word that POST changes nothing here. Without it a POST needs the
	// origin's own lifetime (RFC 9110 9.3.3).
	SafePost bool

	// StaleWhileRevalidate is the window of RFC 5861 3 for responses that say nothing of it
	// themselves.
	StaleWhileRevalidate time.Duration

	// StaleIfError is the window of RFC 5861 4 for responses that say nothing of it themselves.
	StaleIfError time.Duration

	// Failures are the statuses, from 400 to 599, for which StaleIfError holds. A fetch without an
	// answer is a failure in any case. nil means [DefaultFailures].
	Failures []StatusClass

	// Keep is how long a response stays stored past its lifetime and its stale windows. 0 means
	// [DefaultKeep]; less means not at all.
	Keep time.Duration

	// SetCookie says what becomes of a response with Set-Cookie.
	SetCookie SetCookie

	// DeceptionGuard refuses a response whose Content-Type does not agree with the extension in its
	// URL, see [ExtensionAgrees].
	DeceptionGuard bool

	// Targeted lists the RFC 9213 fields that are obeyed, the first valid one wins. The names are
	// as [http.CanonicalHeaderKey] writes them. nil means [DefaultTargeted]; an empty list means
	// none.
	Targeted []string
}

// DefaultTargeted are the targeted Cache-Control fields (RFC 9213) obeyed unless the operator names
// others.
var DefaultTargeted = []string{"Larder-Cache-Control", "Cdn-Cache-Control"}

// StatusTTL is a lifetime for some statuses.
type StatusTTL struct {
	// Duration is the lifetime, more than 0.
	Duration time.Duration
	// Statuses says which; empty means 200, 203, 300, 301 and 308.
	Statuses []StatusClass
}

// matches reports whether the row speaks of status.
func (t StatusTTL) matches(status int) bool {
	if len(t.Statuses) == 0 {
		switch status {
		case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusMultipleChoices,
			http.StatusMovedPermanently, http.StatusPermanentRedirect:
			return true
		}
		return false
	}
	return slices.ContainsFunc(t.Statuses, func(c StatusClass) bool { return c.Matches(status) })
}

// StatusClass is one status code (404), or a whole class by its first digit (5 stands for 5xx).
type StatusClass int

// ParseStatusClass reads a code from 100 to 999, as "404", or a class from 1xx to 9xx, as "4xx".
// Anything else is an error. It knows the form only: whether there are such responses is for the
// caller to say.
func ParseStatusClass(s string) (StatusClass, error) {
	if digit, ok := strings.CutSuffix(s, "xx"); ok && len(digit) == 1 && digit >= "1" && digit <= "9" {
		return StatusClass(digit[0] - '0'), nil
	}
	if code, err := strconv.Atoi(s); err == nil && code >= 100 && code <= 999 {
		return StatusClass(code), nil
	}
	return 0, fmt.Errorf("status %q is neither a code such as 404 nor a class such as 4xx", s)
}

// IsClass reports whether it is a whole class.
func (c StatusClass) IsClass() bool { return c > 0 && c < 10 }

// Matches reports whether status is this code or of this class.
func (c StatusClass) Matches(status int) bool {
	if c.IsClass() {
		return status/100 == int(c)
	}
	return status == int(c)
}

// String returns what [ParseStatusClass] reads.
func (c StatusClass) String() string {
	if c.IsClass() {
		return strconv.Itoa(int(c)) + "xx"
	}
	return strconv.Itoa(int(c))
}

// SetCookie says what becomes of a response with Set-Cookie.
type SetCookie uint8

// The ways with Set-Cookie.
const (
	// SetCookieRefuse does not store the response. The default.
	SetCookieRefuse SetCookie = iota
	// SetCookieStrip stores the response without the field.
	SetCookieStrip
	// SetCookieStore stores the response with the field, which every later client gets.
	SetCookieStore
)

// String returns the word of the configuration: refuse, strip or store.
func (s SetCookie) String() string {
	switch s {
	case SetCookieRefuse:
		return "refuse"
	case SetCookieStrip:
		return "strip"
	case SetCookieStore:
		return "store"
	}
	return "unknown"
}

// Exchange is a response, as it arrived or as it is stored, with what is remembered of the request
// that fetched it.
type Exchange struct {
	// Method of the request: GET, HEAD, POST or QUERY.
	Method string
	// URL of the request as the client sent it, absolute. Only the DeceptionGuard reads it.
	URL string
	// Status and Header of the response; Trailer are the fields behind its body, nil while they are
	// not known.
	Status          int
	Header, Trailer http.Header
	// RequestTime is when the fetch began, ResponseTime when its header arrived (RFC 9111 4.2.3:
	// request_time and response_time).
	RequestTime, ResponseTime time.Time
	// Authorized says that the request carried Authorization (RFC 9111 3.5).
	Authorized bool
	// UnkeyedCookie says that it carried a Cookie that is not part of the key.
	UnkeyedCookie bool
	// Personal says that the response is to answer a request that did not fetch it and carries
	// Authorization or such a Cookie. It is then judged for that request: see the lifetimes that
	// the origin has not stated.
	Personal bool
	// VaryUnseen says that the origin saw another value than the cache of a field that Vary names,
	// so that nothing can be selected by it.
	VaryUnseen bool
	// RequestNoStore says that it carried Cache-Control: no-store. It counts where client
	// directives are obeyed.
	RequestNoStore bool
	// HadSetCookie says that the response came with a Set-Cookie. A stored Header may have lost it:
	// by [SetCookieStrip], where it is ignored, or because private="…" or no-cache="…" names it.
	HadSetCookie bool
	// BeginsSession says that the response gives its client a session ([SessionField]) that is not
	// the one in the key of its request.
	BeginsSession bool
}

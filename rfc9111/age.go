package rfc9111

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Age is current_age of RFC 9111 4.2.3 at now. It is not rounded; the Age field
// carries its whole seconds.
func (f *Freshness) Age(now time.Time) time.Duration {
	residentTime := now.Sub(f.ResponseTime)
	return f.InitialAge + max(residentTime, 0)
}

// initialAge is corrected_initial_age of RFC 9111 4.2.3, with the names used
// there. ok is false if the Age field makes no sense.
func initialAge(x *Exchange) (corrected time.Duration, ok bool) {
	apparentAge := time.Duration(0)
	if date, valid := originated(x.Header); valid {
		// Date has whole seconds, so the arrival is taken in whole seconds too:
		// a response of this very second has no age.
		apparentAge = clamp(x.ResponseTime.Truncate(time.Second).Sub(date))
	}
	ageValue, ok := parseAge(x.Header["Age"])
	responseDelay := clamp(x.ResponseTime.Sub(x.RequestTime))
	correctedAgeValue := clamp(ageValue + responseDelay)
	return max(apparentAge, correctedAgeValue), ok
}

// parseAge reads the Age field (RFC 9111 5.1), which has one value.
//
// Several, on one line or on several (RFC 9110 5.3 makes no difference between
// the two), were written by several senders, of whom at most one knew; and a
// value that is not a number may hide any age. 5.1 would have the first of
// several taken and what is no number ignored, either of which can make an old
// response fresh; here all of it makes the response stale.
func parseAge(lines []string) (age time.Duration, ok bool) {
	switch len(lines) {
	case 0:
		return 0, true
	case 1:
		return parseDelta(trimOWS(lines[0]))
	}
	return 0, false
}

// parseDelta reads delta-seconds (RFC 9111 1.2.2): digits only, however many.
func parseDelta(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	const limit = int64(maxDelta / time.Second)
	n := int64(0)
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(n*10+int64(s[i]-'0'), limit)
	}
	return time.Duration(n) * time.Second, true
}

// dateField returns the date in a field that holds one. Several lines that are
// not equal are no date.
func dateField(lines []string) (time.Time, bool) {
	if len(lines) == 0 {
		return time.Time{}, false
	}
	for _, line := range lines[1:] {
		if line != lines[0] {
			return time.Time{}, false
		}
	}
	return parseDate(lines[0])
}

// origination is a Date that has been read, and what was found in it.
type origination struct {
	text  string
	date  time.Time
	valid bool
}

// lastOrigination is the Date read last. All responses of a second have the
// same, and to read it costs more than the rest of the calculation of an age.
var lastOrigination atomic.Pointer[origination]

// originated returns the date in the Date field (RFC 9110 6.6.1).
func originated(h http.Header) (time.Time, bool) {
	lines := h["Date"]
	if len(lines) != 1 {
		return dateField(lines)
	}
	if last := lastOrigination.Load(); last != nil && last.text == lines[0] {
		return last.date, last.valid
	}
	date, valid := parseDate(lines[0])
	lastOrigination.Store(&origination{strings.Clone(lines[0]), date, valid})
	return date, valid
}

// parseDate reads an HTTP-date. RFC 9111 4.2: a cache should match it in any
// case and should consider a zone other than GMT or UTC invalid.
func parseDate(s string) (time.Time, bool) {
	s = trimOWS(s)
	if zone := len(s) - 3; zone > 0 && (strings.EqualFold(s[zone:], "GMT") || strings.EqualFold(s[zone:], "UTC")) {
		for _, layout := range [...]string{http.TimeFormat, rfc850} {
			if t, err := time.Parse(layout, s[:zone]+"GMT"); err == nil && len(s) >= len(imfFixdate) {
				return t, true
			}
		}
		return time.Time{}, false
	}
	t, err := time.Parse(time.ANSIC, s)
	return t, err == nil
}

const (
	imfFixdate = "Mon, 02 Jan 2006 15:04:05 GMT"
	// rfc850 is time.RFC850 with the zone fixed; the standard library's takes any.
	rfc850 = "Monday, 02-Jan-06 15:04:05 GMT"
)

// clamp brings d into [0, maxDelta], so that sums of a few cannot overflow.
func clamp(d time.Duration) time.Duration { return min(max(d, 0), maxDelta) }

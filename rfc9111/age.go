package rfc9111

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// clockStep is how far a clock may be set back without an effect on freshness. A larger step would
// have a response stay fresh for as long as the clock was ahead.
const clockStep = time.Minute

// Age is current_age of RFC 9111 4.2.3 at now. It is not rounded; the Age field carries its whole
// seconds.
//
// A response that came at a time which is still to come was stored before the clock was set back.
// How old it is cannot be told, so it counts as no longer fresh.
func (f *Freshness) Age(now time.Time) time.Duration {
	residentTime := now.Sub(f.ResponseTime)
	if residentTime < -clockStep {
		return max(f.InitialAge, f.Lifetime)
	}
	return f.InitialAge + max(residentTime, 0)
}

// arrivalAge is what the age of a response on arrival is made of (RFC 9111 4.2.3, with the names
// used there).
type arrivalAge struct{ apparentAge, ageValue, responseDelay time.Duration }

// arrivalAgeOf reads it.
func arrivalAgeOf(x *Exchange) arrivalAge {
	a := arrivalAge{ageValue: ageValue(x.Header["Age"]), responseDelay: responseDelay(x)}
	if date, valid := dateOf(x.Header); valid {
		// Date has whole seconds, so the arrival is taken in whole seconds too: a response of this
		// very second has no age.
		a.apparentAge = clamp(x.ResponseTime.Truncate(time.Second).Sub(date))
	}
	return a
}

// initial is corrected_initial_age.
func (a arrivalAge) initial() time.Duration {
	correctedAgeValue := clamp(a.ageValue + a.responseDelay)
	return max(a.apparentAge, correctedAgeValue)
}

// responseDelay is response_delay of RFC 9111 4.2.3.
func responseDelay(x *Exchange) time.Duration { return clamp(x.ResponseTime.Sub(x.RequestTime)) }

// ageValue is age_value (RFC 9111 5.1): the first member where there is a list, on one line or on
// several, which RFC 9110 5.3 takes for the same; 0 where that is no number of seconds, since an
// invalid Age is ignored.
func ageValue(lines []string) time.Duration {
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			if member = TrimOWS(member); member != "" {
				age, _ := parseDelta(member)
				return age
			}
		}
	}
	return 0
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

// dateField returns the date in a field that holds one. Several lines that are not equal are no
// date.
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

// parsedDate is a Date that has been read, and the result.
type parsedDate struct {
	text  string
	date  time.Time
	valid bool
}

// lastDate is the Date that was read last. All responses of a second have the same, and to read it
// costs more than the rest of the calculation of an age.
var lastDate atomic.Pointer[parsedDate]

// dateOf returns the date in the Date field (RFC 9110 6.6.1).
func dateOf(h http.Header) (time.Time, bool) {
	lines := h["Date"]
	if len(lines) != 1 {
		return dateField(lines)
	}
	if last := lastDate.Load(); last != nil && last.text == lines[0] {
		return last.date, last.valid
	}
	date, valid := parseDate(lines[0])
	lastDate.Store(&parsedDate{strings.Clone(lines[0]), date, valid})
	return date, valid
}

// parseDate reads an HTTP-date (RFC 9110 5.6.7) in any of its three forms, to the letter but for
// its case, which RFC 9111 4.2 has caches leave aside. The weekday need not be that of the day.
func parseDate(s string) (time.Time, bool) {
	s = TrimOWS(s)
	if len(s) < len(time.ANSIC) || len(s) > len(rfc850)+len("Wednes")-len("Mon") {
		return time.Time{}, false
	}
	s, leap := withoutLeapSecond(s)
	for _, layout := range [...]string{http.TimeFormat, rfc850, time.ANSIC} {
		t, err := time.Parse(layout, upperGMT(s))
		if err == nil && sameDate(t.Format(layout), s) {
			return t.Add(leap), true
		}
	}
	return time.Time{}, false
}

// rfc850 is time.RFC850 with the zone fixed; the standard library's takes any.
const rfc850 = "Monday, 02-Jan-06 15:04:05 GMT"

// withoutLeapSecond replaces second 60 by 59 and returns the second that is left.
func withoutLeapSecond(s string) (string, time.Duration) {
	if i := strings.LastIndex(s, ":60 "); i >= 0 {
		return s[:i] + ":59 " + s[i+len(":60 "):], time.Second
	}
	return s, 0
}

// upperGMT writes the zone as layouts have it.
func upperGMT(s string) string {
	if zone := len(s) - len("GMT"); EqualFold(s[zone:], "GMT") {
		return s[:zone] + "GMT"
	}
	return s
}

// sameDate compares a date as it is written with how it is to be written, but for the weekday:
// time.Parse takes more than it says, several spaces for one, missing digits, fractions of a
// second.
func sameDate(formatted, written string) bool {
	f, w := strings.IndexAny(formatted, ", "), strings.IndexAny(written, ", ")
	return f >= 0 && w >= 0 && EqualFold(formatted[f:], written[w:])
}

// clamp brings d into [0, maxDelta], so that sums of a few cannot overflow.
func clamp(d time.Duration) time.Duration { return min(max(d, 0), maxDelta) }

package origin

import (
	"net/http"
	"time"
)

// MaxRetryAfter is the longest Retry-After that is believed. An origin that asks for more is asked
// again after that.
const MaxRetryAfter = time.Hour

// RetryAfter returns how long a response with this header asks to wait (RFC 9110 10.2.3), at most
// [MaxRetryAfter]. It is 0 if the field is missing, cannot be read or names a time that has passed.
// A date is compared with the response's own Date if there is one: the origin's clock may differ
// from the one that says now.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if text == "" {
		return 0
	}
	if wait, ok := seconds(text); ok {
		return wait
	}
	date, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if sent, err := http.ParseTime(h.Get("Date")); err == nil {
		now = sent
	}
	return min(max(date.Sub(now), 0), MaxRetryAfter)
}

// seconds reads delta-seconds: digits and nothing else.
func seconds(text string) (wait time.Duration, ok bool) {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
		wait = min(wait*10+time.Duration(c-'0')*time.Second, MaxRetryAfter)
	}
	return wait, true
}

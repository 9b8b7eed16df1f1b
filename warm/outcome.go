package warm

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/larder-cache/larder/rfc9111"
)

// outcome is what a request has come to.
type outcome int

const (
	// hit: it was stored before.
	hit outcome = iota
	// stored: it is stored now.
	stored
	// collapsed: it was fetched for a visitor's request that was under way.
	collapsed
	// notStored: it was answered, and not stored.
	notStored
	// failed: no answer, half of one, or one with a status of 400 or more.
	failed
)

// Reasons that a response is not stored, where Cache-Status has no detail.
const (
	reasonNoCache = "no cache answered" // Cache-Status is off, or the URL does not come to larder
	reasonUntold  = "not told"          // by `status short`
)

// result is an outcome and its reason, for notStored and failed.
type result struct {
	outcome outcome
	reason  string
}

// judge says what has come of an answer.
func judge(a *answer) result {
	if a.err != nil {
		return result{failed, shorten(a.err.Error())}
	}
	status, told := larderStatus(a.header)
	switch {
	case a.status >= http.StatusBadRequest:
		reason := statusText(a.status)
		if detail := param(status, "detail"); detail != "" {
			reason += ", " + detail
		}
		return result{failed, reason}
	case !told:
		return result{notStored, reasonNoCache}
	case flag(status, "hit"):
		return result{outcome: hit}
	case flag(status, "stored"):
		return result{outcome: stored}
	case flag(status, "collapsed"):
		return result{outcome: collapsed}
	case fillsSlices(status):
		return result{outcome: stored}
	}
	if detail := param(status, "detail"); detail != "" {
		return result{notStored, detail}
	}
	return result{notStored, reasonUntold}
}

// larderStatus is the parameters of the member of Cache-Status that is of the Larder nearest to the
// client: caches append theirs.
func larderStatus(h http.Header) (params *httpsfv.Params, found bool) {
	list, err := httpsfv.UnmarshalList(h.Values("Cache-Status"))
	if err != nil {
		return nil, false
	}
	for _, member := range slices.Backward(list) {
		if item, ok := member.(httpsfv.Item); ok && item.Value == httpsfv.Token(rfc9111.CacheName) {
			return item.Params, true
		}
	}
	return nil, false
}

// fillsSlices reports whether an answer began with a slice that was stored before, and goes on with
// slices that are fetched and stored as it is read. One that is passed on has no status of the
// origin there.
func fillsSlices(params *httpsfv.Params) bool {
	status, _ := params.Get("fwd-status")
	return param(params, "fwd") == "partial" && param(params, "detail") == "" && status == int64(http.StatusPartialContent)
}

func flag(params *httpsfv.Params, name string) bool {
	value, _ := params.Get(name)
	set, _ := value.(bool)
	return set
}

func param(params *httpsfv.Params, name string) string {
	if params == nil {
		return ""
	}
	switch value, _ := params.Get(name); v := value.(type) {
	case httpsfv.Token:
		return string(v)
	case string:
		return shorten(v)
	}
	return ""
}

// shortPause is how long a 429 without Retry-After makes all wait.
const shortPause = 5 * time.Second

// asksToWait is how long an answer asks to be left alone, 0 if it does not.
func asksToWait(a *answer, now time.Time) time.Duration {
	if a.err != nil || a.status != http.StatusTooManyRequests && a.status != http.StatusServiceUnavailable {
		return 0
	}
	text := a.header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return max(time.Duration(seconds)*time.Second, time.Second)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), time.Second)
	}
	if a.status == http.StatusTooManyRequests {
		return shortPause
	}
	return 0
}

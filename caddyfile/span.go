package caddyfile

import (
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"github.com/larder-cache/larder/internal/spelling"
	"github.com/larder-cache/larder/rfc9111"
)

// unlimited is the word for ever where a Span may stand.
const unlimited = "unlimited"

// Span is a duration, or for ever. In JSON and in a Caddyfile it is written like a duration, or as
// the word unlimited. A plain number in JSON is nanoseconds, as in caddy.Duration.
type Span caddy.Duration

// Unlimited is for ever, about 68 years.
const Unlimited = Span(rfc9111.Unlimited)

// MarshalJSON writes for ever as a word, and a duration as caddy.Duration is written.
func (s Span) MarshalJSON() ([]byte, error) {
	if s >= Unlimited {
		return json.Marshal(unlimited)
	}
	return json.Marshal(caddy.Duration(s))
}

// UnmarshalJSON reads what MarshalJSON writes, and a duration as text. Anything else is an error.
func (s *Span) UnmarshalJSON(data []byte) error {
	var word string
	if err := json.Unmarshal(data, &word); err == nil && word == unlimited {
		*s = Unlimited
		return nil
	}
	var d caddy.Duration
	if err := json.Unmarshal(data, &d); err != nil {
		return fmt.Errorf("%s is neither a duration nor %q: %w", data, unlimited, err)
	}
	*s = min(Span(d), Unlimited)
	return nil
}

// parseSpan reads a span that a user wrote.
func parseSpan(text string) (Span, error) {
	if text == unlimited {
		return Unlimited, nil
	}
	d, err := parseDuration(text)
	if err != nil && len(spelling.Nearest(text, []string{unlimited})) > 0 {
		err = errNoChoice(text, fmt.Sprintf("%q is neither a duration nor %s", text, unlimited), "one such as 90s, 5m, 12h or 7d, or "+unlimited, unlimited)
	}
	return min(Span(d), Unlimited), err
}

// keepInto takes a span that may be zero: then nothing is kept.
func keepInto(field **Span) func([]string) error {
	return func(args []string) error {
		*field = new(Span)
		if len(args) == 1 {
			if d, err := caddy.ParseDuration(args[0]); err == nil && d == 0 {
				return nil
			}
		}
		return oneInto(*field, parseSpan)(args)
	}
}

// StaleIfError says when a stale response stands in for a failure of the origin.
type StaleIfError struct {
	// How long past its lifetime a response may be served because the origin fails; "unlimited" is
	// for ever.
	Duration Span `json:"duration"`

	// The statuses of the origin that count as failure: numbers such as 503, or the classes "4xx"
	// and "5xx". A fetch without an answer (no connection, a time-out, an answer that breaks off
	// before its first byte) always is one. Default: 429, 500, 502, 503 and 504.
	Status []StatusMatch `json:"status,omitempty"`
}

// MarshalJSON writes a plain duration where no statuses are named.
func (s StaleIfError) MarshalJSON() ([]byte, error) {
	if len(s.Status) == 0 {
		return json.Marshal(s.Duration)
	}
	type plain StaleIfError
	return json.Marshal(plain(s))
}

// UnmarshalJSON reads what MarshalJSON writes. Anything else, an unknown member too, is an error
// that says what to write.
func (s *StaleIfError) UnmarshalJSON(data []byte) error {
	var d Span
	if err := json.Unmarshal(data, &d); err == nil {
		*s = StaleIfError{Duration: d}
		return nil
	}
	type plain StaleIfError
	if err := caddy.StrictUnmarshalJSON(data, (*plain)(s)); err != nil {
		return fmt.Errorf(`stale_if_error: write a duration, or {"duration":"1d","status":[503]}: %w`, err)
	}
	return nil
}

func staleIfErrorInto(field **StaleIfError) func([]string) error {
	return func(args []string) error {
		if len(args) == 0 {
			return errUsage
		}
		d, statuses, err := parseOfStatuses(args, parseSpan)
		*field = &StaleIfError{d, statuses}
		return err
	}
}

func (s *StaleIfError) check() error {
	if s == nil {
		return nil
	}
	if s.Duration <= 0 {
		return fmt.Errorf("stale_if_error: the duration is not more than zero; write a longer one, or leave it out")
	}
	seen := make(map[StatusMatch]bool)
	for _, status := range s.Status {
		if code := status.StatusClass; code != 4 && code != 5 && (code < 400 || code > 599) {
			return fmt.Errorf("stale_if_error: %s is no failure; write a status from 400 to 599, or 4xx or 5xx", status)
		}
		if seen[status] {
			return fmt.Errorf("stale_if_error: status %s stands twice; write it once", status)
		}
		seen[status] = true
	}
	return nil
}

func checkKeep(keep *Span) error {
	if keep == nil {
		return nil
	}
	return checkWindow("keep", caddy.Duration(*keep))
}

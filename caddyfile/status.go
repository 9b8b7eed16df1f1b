package caddyfile

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// TTLRules are the ttl or force_ttl lines of one handler.
type TTLRules []TTLRule

// TTLRule gives responses of some statuses a lifetime.
type TTLRule struct {
	// The lifetime; more than zero.
	Duration caddy.Duration `json:"duration"`

	// The statuses meant: numbers such as 404, or the classes "4xx" and "5xx". Default: 200, 203,
	// 300, 301 and 308. The most exact rule wins, whatever the order: a status before its class
	// before a rule without statuses.
	Status []StatusMatch `json:"status,omitempty"`
}

// StatusMatch is a status code such as 404, or a class of them: 4 stands for 4xx and 5 for 5xx. In
// JSON and in a Caddyfile a class is written 4xx.
type StatusMatch int

// parseStatus reads a status as it stands in a Caddyfile, 404 or 4xx. It knows the form only;
// whether the status can be cached is for Check to say.
func parseStatus(text string) (StatusMatch, error) {
	if digit, ok := strings.CutSuffix(text, "xx"); ok && len(digit) == 1 && digit >= "1" && digit <= "9" {
		return StatusMatch(digit[0] - '0'), nil
	}
	code, err := strconv.Atoi(text)
	if err != nil || code < 100 || code > 999 {
		return 0, fmt.Errorf("%q is not a status; write a number such as 404, or 4xx or 5xx", text)
	}
	return StatusMatch(code), nil
}

// String returns the status as it is written in a Caddyfile.
func (s StatusMatch) String() string {
	if s.isClass() {
		return strconv.Itoa(int(s)) + "xx"
	}
	return strconv.Itoa(int(s))
}

// MarshalJSON writes a status as a number and a class as a string.
func (s StatusMatch) MarshalJSON() ([]byte, error) {
	if s.isClass() {
		return json.Marshal(s.String())
	}
	return json.Marshal(int(s))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (s *StatusMatch) UnmarshalJSON(data []byte) error {
	var code int
	if err := json.Unmarshal(data, &code); err == nil && code >= 100 {
		*s = StatusMatch(code)
		return nil
	}
	var class string
	if err := json.Unmarshal(data, &class); err == nil {
		if match, err := parseStatus(class); err == nil && match.isClass() {
			*s = match
			return nil
		}
	}
	return fmt.Errorf(`status: %s is not a status; write a number such as 404, or "4xx" or "5xx"`, data)
}

func (s StatusMatch) isClass() bool { return s > 0 && s < 10 }

// check says whether responses of this status can be given a lifetime.
func (s StatusMatch) check() error {
	switch {
	case s == 4 || s == 5:
		return nil
	case s.isClass():
		return fmt.Errorf("%s is not a class that can be named; write the statuses one by one, or 4xx or 5xx", s)
	case s < 200 || s > 599:
		return fmt.Errorf("%s is not a final status; write one from 200 to 599, or 4xx or 5xx", s)
	case s == http.StatusPartialContent || s == http.StatusNotModified:
		return fmt.Errorf("%s is never stored under its own status; name the status of the whole response, 200", s)
	default:
		return nil
	}
}

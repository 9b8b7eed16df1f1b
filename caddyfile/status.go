package caddyfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"

	"github.com/caddyserver/caddy/v2"

	"github.com/larder-cache/larder/rfc9111"
)

// TTLRules are the ttl or force_ttl lines of one handler.
type TTLRules []TTLRule

// UnmarshalJSON reads a list of rules. To a text, as a Caddyfile has it, it answers with what to
// write, in an error to which encoding/json adds the name of the field.
func (rules *TTLRules) UnmarshalJSON(data []byte) error {
	if text, ok := textInJSON(data); ok {
		return &json.UnmarshalTypeError{Value: fmt.Sprintf("the text %q (write [{\"duration\":%[1]q}])", text), Type: reflect.TypeFor[TTLRules]()}
	}
	return unmarshalStrictly(data, (*[]TTLRule)(rules))
}

// textInJSON returns a text; ok is false for any other value, null among them.
func textInJSON(data []byte) (text string, ok bool) {
	ok = json.Unmarshal(data, &text) == nil && string(data) != "null"
	return text, ok
}

// unmarshalStrictly reads JSON as Caddy reads that of a module: members that are not known are
// errors.
func unmarshalStrictly(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// TTLRule gives responses of some statuses a lifetime.
type TTLRule struct {
	// The lifetime; more than zero.
	Duration caddy.Duration `json:"duration"`

	// The statuses meant: numbers such as 404, or the classes "4xx" and "5xx". Default: 200, 203,
	// 300, 301 and 308. The most exact rule wins, whatever the order: a status before its class
	// before a rule without statuses.
	Status []StatusMatch `json:"status,omitempty"`
}

// StatusMatch is a status code such as 404, or a class of them, as a configuration has it: in JSON
// and in a Caddyfile a class is written 4xx.
type StatusMatch struct{ rfc9111.StatusClass }

// parseStatus reads a status as it stands in a Caddyfile, 404 or 4xx. It knows the form only;
// whether the status can be cached is for Check to say.
func parseStatus(text string) (StatusMatch, error) {
	class, err := rfc9111.ParseStatusClass(text)
	if err != nil {
		return StatusMatch{}, fmt.Errorf("%q is not a status; write a number such as 404, or 4xx or 5xx", text)
	}
	return StatusMatch{class}, nil
}

// MarshalJSON writes a status as a number and a class as a string.
func (s StatusMatch) MarshalJSON() ([]byte, error) {
	if s.IsClass() {
		return json.Marshal(s.String())
	}
	return json.Marshal(int(s.StatusClass))
}

// UnmarshalJSON reads what MarshalJSON writes. Anything else is an error that says what to write.
// Whether the status can be meant is for Check to say.
func (s *StatusMatch) UnmarshalJSON(data []byte) error {
	var code int
	if err := json.Unmarshal(data, &code); err == nil && code >= 100 {
		s.StatusClass = rfc9111.StatusClass(code)
		return nil
	}
	var class string
	if err := json.Unmarshal(data, &class); err == nil {
		if match, err := parseStatus(class); err == nil && match.IsClass() {
			*s = match
			return nil
		}
	}
	return fmt.Errorf(`status: %s is not a status; write a number such as 404, or "4xx" or "5xx"`, data)
}

// check says whether responses of this status can be given a lifetime.
func (s StatusMatch) check() error {
	switch code := s.StatusClass; {
	case code == 4 || code == 5:
		return nil
	case s.IsClass():
		return fmt.Errorf("%s is not a class that can be named; write the statuses one by one, or 4xx or 5xx", s)
	case code < 200 || code > 599:
		return fmt.Errorf("%s is not a final status; write one from 200 to 599, or 4xx or 5xx", s)
	case code == http.StatusPartialContent || code == http.StatusNotModified:
		return fmt.Errorf("%s is never stored under its own status; name the status of the whole response, 200", s)
	default:
		return nil
	}
}

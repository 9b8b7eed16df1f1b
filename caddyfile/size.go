package caddyfile

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"

	"github.com/dustin/go-humanize"
)

// Size is a number of bytes. It is written with a unit, such as 64MiB, in JSON as text ("64MiB") or
// as the plain number.
type Size int64

// UnmarshalJSON reads a number, or a text as in a Caddyfile. To any other text it answers with what
// to write, in an error to which encoding/json adds the name of the field.
func (s *Size) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) != nil {
		return json.Unmarshal(data, (*int64)(s))
	}
	size, err := parseSize(text)
	if err != nil {
		return &json.UnmarshalTypeError{Value: fmt.Sprintf("the text %q (%v)", text, err), Type: reflect.TypeFor[Size]()}
	}
	*s = size
	return nil
}

// parseSize reads a size that a user wrote. Zero is an error, as it is of a duration.
func parseSize(text string) (Size, error) {
	size, err := humanize.ParseBytes(text)
	switch {
	case err != nil || size > math.MaxInt64:
		return 0, fmt.Errorf("%q is not a size; write one such as 512KiB, 64MiB or 1GiB", text)
	case size == 0:
		return 0, fmt.Errorf("%q is not more than zero; write a larger size, or leave the line out", text)
	default:
		return Size(size), nil
	}
}

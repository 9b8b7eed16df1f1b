package caddyfile

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strings"

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
	size, err := readSize(text)
	if err != nil {
		return &json.UnmarshalTypeError{Value: fmt.Sprintf("the text %q (%v)", text, err), Type: reflect.TypeFor[Size]()}
	}
	*s = size
	return nil
}

// parseSize reads a size of a Caddyfile. Without a unit most users mean more than bytes.
func parseSize(text string) (Size, error) {
	size, err := readSize(text)
	if err == nil && isNumber(text) {
		const fewest = 64 << 10 // below which bytes are seldom meant
		if size < fewest {
			return 0, fmt.Errorf("%q has no unit; write %sMiB, or %sB if these are bytes", text, text, text)
		}
		return 0, fmt.Errorf("%q has no unit; write %sB if these are bytes, or a size such as 512KiB, 64MiB or 1GiB", text, text)
	}
	return size, err
}

// readSize reads a size with a unit, or a number of bytes. Zero is an error, as it is of a
// duration. The library passes over commas, so that it takes 1,5GiB for 15 of them.
func readSize(text string) (Size, error) {
	if plain := withoutCommas(text); plain != text {
		if _, err := readSize(plain); err == nil {
			return 0, fmt.Errorf("%q has a comma; write %s", text, plain)
		}
	}
	size, err := humanize.ParseBytes(text)
	switch {
	case strings.Contains(text, ","):
		return 0, fmt.Errorf("%q has a comma, and is not a size; write one such as 512KiB, 64MiB or 1.5GiB", text)
	case err != nil || size > math.MaxInt64:
		return 0, fmt.Errorf("%q is not a size; write one such as 512KiB, 64MiB or 1GiB", text)
	case size == 0:
		return 0, fmt.Errorf("%q is not more than zero; write a larger size, or leave the line out", text)
	default:
		return Size(size), nil
	}
}

// thousands are numbers whose commas part groups of three digits.
var thousands = regexp.MustCompile(`^[0-9]{1,3}(,[0-9]{3})+([^0-9,]|$)`)

// withoutCommas writes a number as it is meant: its one comma as a point, unless it parts
// thousands.
func withoutCommas(text string) string {
	if thousands.MatchString(text) {
		return strings.ReplaceAll(text, ",", "")
	}
	return strings.Replace(text, ",", ".", 1)
}

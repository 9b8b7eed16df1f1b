// Package canonjson brings JSON into one form, so that texts which every reader takes for the same
// are the same bytes. It is RFC 8785 (JCS) in what does not count, white space, the order of
// members and how a string is escaped, and stricter in what does: see [Canonical].
//
// jsontext does the work. It is Go's own encoding/json/jsontext from Go 1.27 on; before that the
// module is a copy of it.
package canonjson

import (
	"bytes"
	"errors"
	"io"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is how deep objects and arrays may stand in each other. Sorting copies an object once
// for each level that it stands in, so this bounds the work for each byte.
const MaxDepth = 64

var (
	errDeep      = errors.New("it is nested too deep")
	errAmbiguous = errors.New("two names of an object are one to some readers")
	errMore      = errors.New("something follows the value")
)

// Canonical returns the canonical form of a JSON text, in memory of its own. Two texts have the
// same form only if all readers read the same from both. So what readers differ in counts:
//
//   - A number counts as it is written. 1, 1.0 and 1e0 are one number in RFC 8785, but a reader of
//     whole numbers refuses two of them, and a reader of large ones keeps digits that a double
//     loses.
//
// And there is an error, and no form, for what one reader takes for this and another for that:
//
//   - what is no JSON by RFC 8259, which is also a second value behind the first, and a byte order
//     mark in front,
//   - invalid UTF-8, and half of a surrogate pair,
//   - a name that stands twice in an object: some readers take the first, some the last,
//   - names that differ in case, `-` and `_` alone, which readers may take for one,
//   - what is nested deeper than [MaxDepth].
//
// The work grows with the length of the text.
func Canonical(text []byte) ([]byte, error) {
	if err := check(text); err != nil {
		return nil, err
	}
	form := jsontext.Value(bytes.Clone(text))
	if err := form.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)); err != nil {
		return nil, err
	}
	return form, nil
}

// check finds what has no canonical form.
func check(text []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(text))
	var names []map[string]struct{} // of the objects that have begun, folded; nil for an array
	for {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		switch token.Kind() {
		case jsontext.KindBeginObject:
			names = append(names, make(map[string]struct{}))
		case jsontext.KindBeginArray:
			names = append(names, nil)
		case jsontext.KindEndObject, jsontext.KindEndArray:
			names = names[:len(names)-1]
		case jsontext.KindString:
			if kind, length := d.StackIndex(d.StackDepth()); kind == jsontext.KindBeginObject && length%2 == 1 && !addName(names[len(names)-1], token.String()) {
				return errAmbiguous
			}
		case jsontext.KindNull, jsontext.KindFalse, jsontext.KindTrue, jsontext.KindNumber, jsontext.KindInvalid:
		}
		if len(names) > MaxDepth {
			return errDeep
		}
		if len(names) == 0 {
			break
		}
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return errMore
	}
	return nil
}

// addName adds a name to those of its object and reports whether it was not there yet.
func addName(names map[string]struct{}, name string) bool {
	folded := fold(name)
	_, there := names[folded]
	names[folded] = struct{}{}
	return !there
}

// fold returns the name as readers compare it that take as many spellings for one as any: without
// regard to case, as encoding/json and .NET, and without `-` and `_`, as encoding/json/v2.
func fold(name string) string {
	folded := make([]byte, 0, len(name))
	for _, r := range name {
		switch {
		case r == '-' || r == '_':
		case 'a' <= r && r <= 'z':
			folded = append(folded, byte(r)-'a'+'A')
		case r < utf8.RuneSelf:
			folded = append(folded, byte(r))
		default:
			folded = utf8.AppendRune(folded, least(r))
		}
	}
	return string(folded)
}

// least returns the first of the runes that differ from r in case alone.
func least(r rune) rune {
	for {
		next := unicode.SimpleFold(r)
		if next <= r {
			return next
		}
		r = next
	}
}

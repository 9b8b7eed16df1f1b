package batch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Why an answer has no items.
var (
	// ErrNotJSON: it is no JSON text in UTF-8 (RFC 8259), or goes on behind one.
	ErrNotJSON = errors.New("the answer is not JSON")
	// ErrNoItems: what holds the items is not there, or is no array or object as the rule says.
	ErrNoItems = errors.New("the answer has no items where the rule looks for them")
	// ErrAmbiguous: a member on the way to the items stands there twice.
	ErrAmbiguous = errors.New("the answer has a name twice on the way to the items")
)

// Presence says whether an answer has an item.
type Presence uint8

// The answers.
const (
	// Absent: it has not, or null in its place.
	Absent Presence = iota
	// Present: it has.
	Present
	// Ambiguous: it has several with the id.
	Ambiguous
)

// String returns the word.
func (p Presence) String() string {
	switch p {
	case Absent:
		return "absent"
	case Present:
		return "present"
	case Ambiguous:
		return "ambiguous"
	}
	return fmt.Sprintf("presence(%d)", uint8(p))
}

// Items are those of an answer that were asked for.
type Items struct{ found map[string]item }

type item struct {
	presence Presence
	bytes    []byte
}

// Find returns the bytes of an item, which are a part of the answer.
func (it Items) Find(id string) ([]byte, Presence) {
	found := it.found[id]
	return found.bytes, found.presence
}

// Split cuts the items with these ids out of an answer.
func (r *Rule) Split(answer []byte, ids []string) (Items, error) {
	if !utf8.Valid(answer) || !json.Valid(answer) {
		return Items{}, ErrNotJSON
	}
	items := Items{found: make(map[string]item, len(ids))}
	for _, id := range ids {
		items.found[id] = item{}
	}
	rd := newReader(answer)
	err := rd.descend(r.items, func() error { return rd.each(r.collect(items)) })
	if err != nil {
		return Items{}, err
	}
	return items, nil
}

// collect returns a function that keeps an item that was asked for. named says that it is a member
// of an object.
func (r *Rule) collect(items Items) func(name string, named bool, value []byte) error {
	return func(name string, named bool, value []byte) error {
		id, ok := name, named
		if len(r.id) > 0 {
			id, ok = scalarAt(value, r.id)
		} else if !named {
			return ErrNoItems // an array, whose items the rule does not tell apart
		}
		was, wanted := items.found[id]
		switch {
		case !ok, !wanted, string(value) == "null":
		case was.presence == Absent:
			items.found[id] = item{Present, value}
		default:
			items.found[id] = item{presence: Ambiguous}
		}
		return nil
	}
}

// scalarAt returns the string or number at a path in an item: a string as text, a number by its
// literal.
func scalarAt(value []byte, path []string) (text string, ok bool) {
	rd := newReader(value)
	err := rd.descend(path, func() error {
		token, err := rd.decoder.ReadToken()
		if err != nil || token.Kind() != jsontext.KindString && token.Kind() != jsontext.KindNumber {
			return ErrNoItems
		}
		text, ok = token.String(), true
		return nil
	})
	return text, ok && err == nil
}

// reader reads a JSON text that is known to be valid, where it stands: a decoder of encoding/json
// would have a copy of each value, and of the whole answer where that is one of them.
type reader struct {
	text    []byte
	decoder *jsontext.Decoder
}

func newReader(text []byte) *reader {
	return &reader{text, jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))}
}

// open goes into what begins with one of these kinds, and returns which.
func (rd *reader) open(kinds ...jsontext.Kind) (jsontext.Kind, error) {
	kind := rd.decoder.PeekKind()
	if !slices.Contains(kinds, kind) {
		return kind, ErrNoItems
	}
	_, err := rd.decoder.ReadToken()
	return kind, notJSON(err)
}

// more reports whether something follows in what is open.
func (rd *reader) more() bool {
	kind := rd.decoder.PeekKind()
	return kind != jsontext.KindEndObject && kind != jsontext.KindEndArray && kind != jsontext.KindInvalid
}

// end goes out of what was open.
func (rd *reader) end() error {
	_, err := rd.decoder.ReadToken()
	return notJSON(err)
}

// notJSON is ErrNotJSON for any error.
func notJSON(err error) error {
	if err != nil {
		return ErrNotJSON
	}
	return nil
}

// descend calls visit where the value at a path begins, to read it, and reads on to the end of what
// holds it, where no second member may have the same name.
func (rd *reader) descend(path []string, visit func() error) error {
	if len(path) == 0 {
		return visit()
	}
	if _, err := rd.open(jsontext.KindBeginObject); err != nil {
		return err
	}
	seen := false
	for rd.more() {
		name, err := rd.decoder.ReadToken()
		if err != nil {
			return ErrNotJSON
		}
		if name.String() != path[0] {
			if err := rd.decoder.SkipValue(); err != nil {
				return ErrNotJSON
			}
			continue
		}
		if seen {
			return ErrAmbiguous
		}
		seen = true
		if err := rd.descend(path[1:], visit); err != nil {
			return err
		}
	}
	if err := rd.end(); err != nil {
		return err
	}
	if !seen {
		return ErrNoItems
	}
	return nil
}

// each calls visit for each value of an array or object. named says that it has a name.
func (rd *reader) each(visit func(name string, named bool, value []byte) error) error {
	kind, err := rd.open(jsontext.KindBeginObject, jsontext.KindBeginArray)
	if err != nil {
		return err
	}
	named := kind == jsontext.KindBeginObject
	for rd.more() {
		var name string
		if named {
			token, err := rd.decoder.ReadToken()
			if err != nil {
				return ErrNotJSON
			}
			name = token.String()
		}
		value, err := rd.value()
		if err != nil {
			return err
		}
		if err := visit(name, named, value); err != nil {
			return err
		}
	}
	return rd.end()
}

// value reads a value and returns its bytes, which are a part of the text.
func (rd *reader) value() ([]byte, error) {
	value, err := rd.decoder.ReadValue()
	if err != nil {
		return nil, ErrNotJSON
	}
	end := rd.decoder.InputOffset()
	return rd.text[end-int64(len(value)) : end : end], nil
}

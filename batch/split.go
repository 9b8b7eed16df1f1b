package batch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
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
		token, err := rd.decoder.Token()
		if err != nil {
			return ErrNoItems
		}
		switch token := token.(type) {
		case string:
			text, ok = token, true
			return nil
		case json.Number:
			text, ok = token.String(), true
			return nil
		default:
			return ErrNoItems
		}
	})
	return text, ok && err == nil
}

// reader reads a JSON text that is known to be valid.
type reader struct {
	text    []byte
	decoder *json.Decoder
}

func newReader(text []byte) *reader {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return &reader{text, decoder}
}

// descend calls visit where the value at a path begins, to read it, and reads on to the end of what
// holds it, where no second member may have the same name.
func (rd *reader) descend(path []string, visit func() error) error {
	if len(path) == 0 {
		return visit()
	}
	if open, err := rd.decoder.Token(); err != nil || open != json.Delim('{') {
		return ErrNoItems
	}
	seen := false
	for rd.decoder.More() {
		name, err := rd.decoder.Token()
		if err != nil {
			return ErrNotJSON
		}
		if name != path[0] {
			if _, err := rd.value(); err != nil {
				return err
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
	if _, err := rd.decoder.Token(); err != nil {
		return ErrNotJSON
	}
	if !seen {
		return ErrNoItems
	}
	return nil
}

// each calls visit for each value of an array or object. named says that it has a name.
func (rd *reader) each(visit func(name string, named bool, value []byte) error) error {
	open, err := rd.decoder.Token()
	named := open == json.Delim('{')
	if err != nil || !named && open != json.Delim('[') {
		return ErrNoItems
	}
	for rd.decoder.More() {
		var name string
		if named {
			token, err := rd.decoder.Token()
			if err != nil {
				return ErrNotJSON
			}
			name, _ = token.(string)
		}
		value, err := rd.value()
		if err != nil {
			return err
		}
		if err := visit(name, named, value); err != nil {
			return err
		}
	}
	if _, err := rd.decoder.Token(); err != nil {
		return ErrNotJSON
	}
	return nil
}

// value reads a value and returns its bytes, which are a part of the text.
func (rd *reader) value() ([]byte, error) {
	var n length
	if err := rd.decoder.Decode(&n); err != nil {
		return nil, ErrNotJSON
	}
	end := rd.decoder.InputOffset()
	return rd.text[end-int64(n) : end : end], nil
}

// length is how many bytes a value has, without the spaces around it.
type length int

// UnmarshalJSON implements json.Unmarshaler.
func (n *length) UnmarshalJSON(value []byte) error {
	*n = length(len(value))
	return nil
}

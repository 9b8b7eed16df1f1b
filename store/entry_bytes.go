package store

import (
	"errors"
	"fmt"
	"strings"
)

// MaxEntryBytes is how long the bytes of an entry may be for DecodeEntry.
const MaxEntryBytes = 1 << 20

// errEntryBytes is wrapped by the errors of DecodeEntry.
var errEntryBytes = errors.New("not the bytes of an entry")

// AppendEntry appends an entry but for its body to b, for a tier that keeps it as bytes. It writes
// the generation as it is, which means something in this store only, and neither ID nor Derived.
func AppendEntry(b []byte, e *Entry) []byte {
	start := len(b)
	r := appendRecord(b, e)
	seal(0, r[start:], len(r)-start) // no entry of a file has this id
	return r
}

// DecodeEntry is the inverse of AppendEntry. The entry has no body yet; bodyLen is how long that
// is, in bytes. Nothing in the entry shares the memory of data.
//
// It trusts no byte of data. It takes time and memory in proportion to its length, at most some
// forty times that. It refuses what is damaged, cut short, of another version, or no response that
// could have been stored: a header field that could not stand in a message. Whether the entry is
// the one that was asked for, its caller finds out by the Key and the Variant.
func DecodeEntry(data []byte) (e *Entry, bodyLen int64, err error) {
	if len(data) > MaxEntryBytes {
		return nil, 0, fmt.Errorf("%w: %d bytes, more than %d", errEntryBytes, len(data), MaxEntryBytes)
	}
	r, inline, err := openRecord(0, data)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errEntryBytes, err)
	}
	if len(inline) > 0 || r.isPacked() {
		return nil, 0, fmt.Errorf("%w: version %d, and %d bytes follow", errEntryBytes, r[4], len(inline))
	}
	if e, err = decodeRecord(0, r); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errEntryBytes, err)
	}
	if err := e.check(); err != nil {
		return nil, 0, err
	}
	return e, r.bodyLen(), nil
}

// check tells whether the fields could stand in a message (RFC 9110 5.1, 5.5, 9.1, 15).
func (e *Entry) check() error {
	if e.Status < 100 || e.Status > 999 || !isToken(e.Method) {
		return fmt.Errorf("%w: status %d of %q", errEntryBytes, e.Status, e.Method)
	}
	for _, fields := range []map[string][]string{e.Header, e.Trailer} {
		for name, values := range fields {
			if !isToken(name) {
				return fmt.Errorf("%w: field name %q", errEntryBytes, name)
			}
			for _, value := range values {
				if strings.ContainsFunc(value, isControl) {
					return fmt.Errorf("%w: value of %s", errEntryBytes, name)
				}
			}
		}
	}
	return nil
}

// isToken tells whether s is a token (RFC 9110 5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		return !letter && (c >= 0x80 || !strings.ContainsRune("!#$%&'*+-.^_`|~", c))
	})
}

// isControl tells whether a field value may not have a character (RFC 9110 5.5). A byte that is not
// UTF-8 is not one.
func isControl(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }

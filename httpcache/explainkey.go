package httpcache

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// KeyPart is one of the parts that a key is made of. Two requests have the same key if, and only
// if, all their parts are equal.
type KeyPart struct {
	Name   string   `json:"part"`   // as "path" or "X-Forwarded-Proto"
	Values []string `json:"values"` // what the key has of it, never empty
}

// parts are what is written into the key for a request: the writer that makes the key notes them.
func (rules *KeyRules) parts(k *keyed) []KeyPart {
	var parts []KeyPart
	b := keyBytes{parts: &parts}
	b.request(rules, k)
	return slices.DeleteFunc(parts, func(p KeyPart) bool { return len(p.Values) == 0 })
}

// part begins a part. The functions that note for people are called, and not inlined, so that a
// key that is not explained needs little of its goroutine's stack: one of HTTP/2 begins small, and
// copies its stack where that has to grow.
func (b *keyBytes) part(name string) *keyBytes {
	if b.parts != nil {
		b.notePart(name)
	}
	return b
}

//go:noinline
func (b *keyBytes) notePart(name string) { *b.parts = append(*b.parts, KeyPart{Name: name}) }

// cookie begins the part of a cookie.
func (b *keyBytes) cookie(name string) *keyBytes {
	if b.parts != nil { // a name that is put together is an allocation
		b.part("cookie " + name)
	}
	return b
}

// query begins the part that goes with the path before it.
func (b *keyBytes) query() {
	if b.parts != nil {
		b.noteQuery()
	}
}

//go:noinline
func (b *keyBytes) noteQuery() {
	path := (*b.parts)[len(*b.parts)-1].Name
	b.part(strings.TrimSuffix(path, "path") + "query")
}

// value notes what is written of the part.
func (b *keyBytes) value(s string) {
	if b.parts != nil {
		b.noteValue(s)
	}
}

//go:noinline
func (b *keyBytes) noteValue(s string) {
	last := &(*b.parts)[len(*b.parts)-1]
	last.Values = append(last.Values, s)
}

// explain tells how the content counts.
func (c *content) explain() []Step {
	switch {
	case c == nil:
		return nil
	case c.graphql && c.why != nil:
		return []Step{{Question: "what does it ask GraphQL for?", Answer: "not known: " + c.why.Error()}}
	case c.graphql:
		kind, name := "a query", "without a name, so without a tag"
		if c.changes {
			kind = "a mutation or subscription"
		}
		if c.operation != "" {
			name = "named " + c.operation + ", tag " + c.tag()
		}
		return []Step{{Question: "what does it ask GraphQL for?", Answer: kind + ", " + name}}
	case c.why != nil:
		return []Step{step("how does its body count?", "byte by byte, as it has no canonical form: "+c.why.Error(), "RFC 8785")}
	case c.form == BodyJSON:
		return []Step{step("how does its body count?", "as JSON: the order of members and white space do not count", "RFC 8785")}
	}
	return nil
}

// content writes the content of a request.
func (b *keyBytes) content(body []byte) {
	b.count(len(body))
	b.bytes = append(b.bytes, body...)
	if b.parts != nil {
		sum := sha256.Sum256(body)
		b.value(strconv.Itoa(len(body)) + " bytes, SHA-256 " + hex.EncodeToString(sum[:]))
	}
}

package rfc9111

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// statement is what a response says of caching, after the question which of its fields speak to
// this cache.
type statement struct {
	directives
	// field is the one that spoke, empty for none.
	field string
	// targeted says that it is an RFC 9213 field, so that Cache-Control, Expires and Pragma are
	// without effect.
	targeted bool
}

// statement picks the field that counts (RFC 9213 2.2): the first targeted one that is valid and
// not empty, otherwise Cache-Control.
func (p *Policy) statement(h http.Header) statement {
	for _, field := range p.targets() {
		if p.Ignores(field) {
			continue
		}
		if d, ok := parseTargeted(h[field]); ok {
			return statement{directives: d, field: field, targeted: true}
		}
	}
	if p.Ignores("Cache-Control") {
		return statement{directives: p.pragma(h)}
	}
	lines := h["Cache-Control"]
	if len(lines) == 0 {
		return statement{directives: p.pragma(h)}
	}
	return statement{directives: parseCacheControl(lines), field: "Cache-Control"}
}

// targets are the targeted fields that are obeyed.
func (p *Policy) targets() []string {
	if p.Targeted == nil {
		return DefaultTargeted
	}
	return p.Targeted
}

// pragma reads Pragma: no-cache of a response without Cache-Control. RFC 9111 5.4 leaves it
// undefined there; senders that write it mean no-cache.
func (p *Policy) pragma(h http.Header) directives {
	if p.Ignores("Pragma") {
		return directives{}
	}
	return directives{noCache: hasMember(h["Pragma"], "no-cache")}
}

// Ignores reports whether the response is judged as if it lacked the field.
func (p *Policy) Ignores(field string) bool {
	return slices.ContainsFunc(p.Ignore, func(ignored string) bool { return EqualFold(ignored, field) })
}

// parseTargeted reads a targeted field, a structured-field Dictionary (RFC 9213 2.1). ok is false
// where the field is as if absent: missing, empty, or not parseable as a whole. A member of the
// wrong type is as if absent, unless it forbids something: then its argument does not matter, as in
// Cache-Control. A field that is too long to be read forbids to store, as
// Cache-Control does.
func parseTargeted(lines []string) (d directives, ok bool) {
	if len(lines) == 0 {
		return d, false
	}
	if longer(lines, maxField) {
		return tooLong, true
	}
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dict.Names()) == 0 {
		return d, false
	}
	for _, name := range dict.Names() {
		member, _ := dict.Get(name)
		if item, isItem := member.(httpsfv.Item); isItem {
			d.addMember(name, item.Value)
		} else {
			d.forbidWord(name)
		}
	}
	return d, true
}

// addMember takes one member of the dictionary. Parameters are ignored.
func (d *directives) addMember(name string, value any) {
	switch v := value.(type) {
	case bool:
		if v {
			d.addFlag(name)
		}
	case int64:
		d.addInteger(name, v)
	case string:
		d.addFieldNames(name, v)
	case httpsfv.Token: // recipients ought to accept both forms (RFC 9111 5.2)
		d.addFieldNames(name, string(v))
	default:
		d.forbidWord(name)
	}
}

func (d *directives) addFlag(name string) {
	switch name {
	case "public":
		d.public = true
	case "must-understand":
		d.mustUnderstand = true
	case "immutable":
		d.immutable = true
	default:
		d.forbidWord(name)
	}
}

// addInteger takes a time. A negative one is an Integer, so it is consumed, and it is invalid
// freshness information: stale (RFC 9111 4.2.1).
func (d *directives) addInteger(name string, n int64) {
	value := time.Duration(min(max(n, 0), int64(maxDelta/time.Second))) * time.Second
	switch name {
	case "max-age":
		d.maxAge.lower(value)
	case "s-maxage":
		d.sMaxAge.lower(value)
	case "stale-while-revalidate":
		d.staleWhileRevalidate.lower(value)
	case "stale-if-error":
		d.staleIfError.lower(value)
	default:
		d.forbidWord(name)
	}
}

// addFieldNames takes no-cache or private with a String of field names, or a Token that is one.
func (d *directives) addFieldNames(name, list string) {
	names := make(map[string]bool)
	for field := range strings.SplitSeq(list, ",") {
		names[http.CanonicalHeaderKey(TrimOWS(field))] = true
	}
	switch name {
	case "no-cache":
		addQualified(&d.noCache, &d.noCacheFields, true, names)
	case "private":
		addQualified(&d.private, &d.privateFields, true, names)
	default:
		d.forbidWord(name)
	}
}

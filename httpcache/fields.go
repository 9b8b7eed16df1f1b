package httpcache

import (
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/larder-cache/larder/rfc9111"
)

// A handler in front of the cache may have put fields into the response's header map that belong to
// one client (Server, Alt-Svc, a request ID). So the cache shares and stores what the origin
// changed. A change is a field with its new values. A field without values says that the origin
// removed it.

// decisive are fields that decided whether the response may be stored. They are kept with it even
// where an outer handler set them (`header Cache-Control …` in front of a proxy).
var decisive = []string{
	"Cache-Control", "Expires", "Pragma", "Age", "Date", "Vary", "Etag", "Last-Modified",
	"Content-Type", "Content-Encoding",
}

// changes returns the fields of header that differ from seed. Values behind those of the seed are
// an addition: a proxy adds the origin's values to those that are there, and each client has outer
// values of its own. Fields named in whole are taken with all their values. The values are copied,
// because header may change afterwards.
func changes(seed []field, header http.Header, whole []string) []field {
	copied, changed := make([]string, 0, len(header)), make([]field, 0, len(header)+len(seed))
	for name, values := range header {
		before := linesOf(seed, name)
		if isUntouched(seed, name, values) {
			continue
		}
		added := len(before) > 0 && len(values) > len(before) &&
			slices.Equal(before, values[:len(before)]) && !slices.Contains(whole, name)
		if added {
			values = values[len(before):]
		}
		from := len(copied)
		// If it outgrows its array, earlier fields keep the old one.
		copied = append(copied, values...)
		changed = append(changed, field{name: name, values: copied[from:len(copied):len(copied)], added: added})
	}
	for _, f := range seed {
		if _, kept := header[f.name]; !kept {
			changed = append(changed, field{name: f.name})
		}
	}
	return changed
}

// isUntouched reports whether a field is as the seed has it. A handler that sets the same values
// sets them for everybody: another client may have other outer ones. So a list counts as untouched
// only if it is the one that lend has put there.
func isUntouched(seed []field, name string, values []string) bool {
	for _, f := range seed {
		if f.name == name {
			return slices.Equal(f.values, values) && (f.lent == nil || len(values) == 0 || f.lent == &values[0])
		}
	}
	return false
}

// lend returns a header map with copies of the fields of a seed, and notes which lists these are.
func lend(seed []field) http.Header {
	h := headerOf(seed)
	noteLent(seed, h)
	return h
}

// noteLent notes which lists of h are those of the seed.
func noteLent(seed []field, h http.Header) {
	for i := range seed {
		if values := h[seed[i].name]; len(values) > 0 {
			seed[i].lent = &values[0]
		}
	}
}

// addedNames returns the names of the added fields. They are stored beside the header: a field that
// named them in it could be an origin's.
func addedNames(fields []field) (names []string) {
	for _, f := range fields {
		if f.added {
			names = append(names, f.name)
		}
	}
	return names
}

// mergeAdded returns what of a stored response that a 304 updates is added: what was, unless the
// 304 replaces it, and what the 304 adds.
func mergeAdded(stored []string, update http.Header, added []string) (names []string) {
	for _, name := range stored {
		if len(update[name]) == 0 {
			names = append(names, name)
		}
	}
	return append(names, added...)
}

// scratch holds the values that one answer puts into a client's header map, so that these need no
// allocation each. The first places are for the cache's own fields. A value that does not fit gets
// a slice of its own.
type scratch []string

const (
	scratchStatus = iota
	scratchAge
	scratchLength
	scratchFields // from here on, those of the response
	scratchSize   = 14
)

// scratchRoom is what has the memory of a scratch. A Request knows it by that: a slice would make
// the allocation of a hit larger.
type scratchRoom interface{ scratch() scratch }

// deliveryRoom is that of an answer of the cache's, and statusRoom of one that is passed on, which
// gets Cache-Status alone.
type (
	deliveryRoom [scratchSize]string
	statusRoom   [scratchStatus + 1]string
)

func (r *deliveryRoom) scratch() scratch { return r[:] }

func (r *statusRoom) scratch() scratch { return r[:] }

// scratch is that of its answer; nil before there is one.
func (q *Request) scratch() scratch {
	if q.room == nil {
		return nil
	}
	return q.room.scratch()
}

// one returns value as the only one of a field, at the given place.
func (v scratch) one(place int, value string) []string {
	if place >= len(v) {
		return []string{value}
	}
	v[place] = value
	return v[place : place+1 : place+1]
}

// fieldNames yields the field names in a comma-separated list, canonical.
func fieldNames(lines []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for name := range strings.SplitSeq(line, ",") {
				if name = rfc9111.TrimOWS(name); name != "" && !yield(http.CanonicalHeaderKey(name)) {
					return
				}
			}
		}
	}
}

// field is one field of a header. A slice of fields is quicker to go through than a map, and takes
// one allocation where a map takes three.
type field struct {
	name   string
	values []string
	added  bool    // the values go behind those that are there; otherwise they replace them
	lent   *string // of a seed: the first of the values that handlers were given, see lend
}

// fieldsOf are the fields of a stored header, of which some are added.
func fieldsOf(h http.Header, added []string) []field {
	fields := make([]field, 0, len(h))
	for name, values := range h {
		fields = append(fields, field{name: name, values: values, added: slices.Contains(added, name)})
	}
	return fields
}

// linesOf are the lines of a field.
func linesOf(fields []field, name string) []string {
	for _, f := range fields {
		if f.name == name {
			return f.values
		}
	}
	return nil
}

// withoutField returns fields that lack one. They are others if it was among them.
func withoutField(fields []field, name string) []field {
	at := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
	if at < 0 {
		return fields
	}
	return slices.Concat(fields[:at], fields[at+1:])
}

// snapshot is fieldsOf with copied values.
func snapshot(h http.Header) []field { return changes(nil, h, nil) }

// headerOf is the opposite of snapshot: the map and its values may be written to.
func headerOf(fields []field) http.Header {
	h, copied := make(http.Header, len(fields)), make([]string, 0, len(fields))
	for _, f := range fields {
		from := len(copied)
		copied = append(copied, f.values...)
		h[f.name] = copied[from:len(copied):len(copied)]
	}
	return h
}

// variantValues returns the values that a request with this header has for the names of a Vary.
func variantValues(names []string, fields []field) []string {
	named := make(http.Header, len(names))
	for _, f := range fields {
		if slices.Contains(names, f.name) {
			named[f.name] = f.values
		}
	}
	return rfc9111.VariantValues(names, named)
}

// overlay applies the result of changes to another client's header map. The values are copied, into
// room as far as they fit. Later handlers may change them in place, and the originals are shared.
func overlay(h http.Header, changed []field, room scratch) {
	next := scratchFields
	for _, f := range changed {
		n := len(f.values)
		switch {
		case n == 0:
			delete(h, f.name)
		case f.added && len(h[f.name]) > 0:
			h[f.name] = joined(h[f.name], f.values)
		case n > len(room)-next:
			h[f.name] = joined(nil, f.values)
		default:
			copy(room[next:], f.values)
			h[f.name] = room[next : next+n : next+n]
			next += n
		}
	}
}

// joined returns both in a slice of their own. What it needs of the stack is not overlay's.
func joined(values, more []string) []string { return slices.Concat(values, more) }

// replaceHeader makes to equal to from, in place.
func replaceHeader(to, from http.Header) {
	clear(to)
	for name, values := range from {
		to[name] = slices.Clone(values)
	}
}

// leaveUntyped keeps net/http from guessing a Content-Type where there is none.
func leaveUntyped(h http.Header) {
	if len(h["Content-Type"]) == 0 {
		h["Content-Type"] = nil
	}
}

// overwriteWithNotModified reduces the header of a 200 to that of a 304 (RFC 9110 15.4.5): it
// removes the fields that describe the body.
func overwriteWithNotModified(h http.Header) {
	keep := rfc9111.NotModifiedHeader(h)
	for name := range h {
		if _, ok := keep[name]; !ok {
			delete(h, name)
		}
	}
	delete(h, "Trailer")
}

// withoutTrailers leaves out the fields that a handler has marked as trailers. They are collected
// at the end. It writes to the list.
func withoutTrailers(fields []field) []field {
	return slices.DeleteFunc(fields, func(f field) bool { return strings.HasPrefix(f.name, http.TrailerPrefix) })
}

// setTrailers has net/http send fields behind the body of a response with the header h. The values
// are copied. Later handlers may change them in place, and the originals are shared.
func setTrailers(h, trailers http.Header) {
	announced := make(map[string]bool)
	for name := range fieldNames(h["Trailer"]) {
		announced[name] = true
	}
	for name, values := range trailers {
		name = http.CanonicalHeaderKey(strings.TrimPrefix(name, http.TrailerPrefix))
		if !announced[name] {
			name = http.TrailerPrefix + name
		}
		h[name] = slices.Clone(values)
	}
}

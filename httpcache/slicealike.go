package httpcache

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// A stored response is for all requests that its Vary selects, and these may spell the fields
// otherwise: `gzip, br` selects what `br, gzip` has brought. An origin may answer the two with two
// files. So the fetch of a slice has these fields as the fetch of the head had them.

//
// An origin may also answer a field otherwise that it does not name in Vary. Any client can send
// such a field, and what comes then says nothing of what is stored for all. So an answer that would
// remove an object counts only if it comes again without the fields that the fetch of the head did
// not have. The head has digests of those that it had: the values are its client's.

// askedNote begins the note in which a head has the lines of a field that its Vary names, where the
// variant has them in another form.
const askedNote = "\x00asked "

// askedNotes returns the notes on the fields by which a fetch with this header selected a variant.
func askedNotes(v *store.Variant, header []field) (notes []string) {
	names, values, _ := fieldsOfVariant(v)
	for i, name := range names {
		if lines := strings.Join(linesOf(header, name), "\n"); lines != values[i] && !isVaryIgnored(v) {
			notes = append(notes, askedNote+name+"\n"+lines)
		}
	}
	return notes
}

// askAlike has a request for a slice ask for the representation that a head is of.
func askAlike(h http.Header, head *store.Entry) {
	const codings = "Accept-Encoding"
	names, values, _ := fieldsOfVariant(&head.Variant)
	if isVaryIgnored(&head.Variant) {
		names = nil
	}
	for i, name := range names {
		if lines := askedLines(head, name, values[i]); lines != nil {
			h[name] = lines
		} else {
			delete(h, name)
		}
	}
	if slices.Contains(names, codings) {
		return
	}
	switch coding := rfc9111.ContentCoding(head.Header); { // the origin may not say that it varies
	case coding != "":
		h[codings] = []string{coding}
	case len(h[codings]) > 0:
		h[codings] = []string{"identity"}
	}
}

// askedLines returns the lines of a field with which the fetch of a head asked, nil for none. value
// is that of the variant.
func askedLines(head *store.Entry, name, value string) []string {
	for _, note := range head.Notes {
		if lines, found := strings.CutPrefix(note, askedNote+name+"\n"); found {
			return strings.Split(lines, "\n")
		}
	}
	if value == "" {
		return nil
	}
	return strings.Split(value, "\n")
}

// digestsPrefix begins the note in which a head has digests of the fields that its fetch had.
const digestsPrefix = "\x00digests "

const digestSize = 8

// digestsNote returns the note on the fields of a fetch.
func digestsNote(header []field) string {
	b := []byte(digestsPrefix)
	for _, f := range header {
		b = hex.AppendEncode(b, digestOf(f.name, f.values))
	}
	return string(b)
}

func digestOf(name string, lines []string) []byte {
	sum := sha256.Sum256([]byte(name + "\x00" + strings.Join(lines, "\n")))
	return sum[:digestSize]
}

// oddFields returns the fields of the request that the fetch of a head did not have, but for those
// that askAlike and prepare write, and those that are part of the key.
func (q *Request) oddFields(head *store.Entry) (odd []string) {
	at := slices.IndexFunc(head.Notes, func(note string) bool { return strings.HasPrefix(note, digestsPrefix) })
	if at < 0 {
		return nil
	}
	had, err := hex.DecodeString(head.Notes[at][len(digestsPrefix):])
	if err != nil {
		return nil
	}
	digests := slices.Collect(slices.Chunk(had, digestSize))
	varying, _, _ := fieldsOfVariant(&head.Variant)
	for name, lines := range q.r.Header {
		switch name {
		case "Accept-Encoding", "Cdn-Loop":
			continue
		}
		if slices.Contains(varying, name) || slices.Contains(q.route.Key.Headers, name) || rfc9111.IsCondition(name) {
			continue
		}
		digest := string(digestOf(name, lines))
		if !slices.ContainsFunc(digests, func(d []byte) bool { return string(d) == digest }) {
			odd = append(odd, name)
		}
	}
	return odd
}

package httpcache

import (
	"net/http"
	"slices"
	"strings"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// A stored response is for all requests that its Vary selects, and these may spell the fields
// otherwise: `gzip, br` selects what `br, gzip` has brought. An origin may answer the two with two
// files. So the fetch of a slice has these fields as the fetch of the head had them.

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

// askForCoding has a fetch that validates a head ask for the coding that is stored, which its
// client accepts. An origin may choose by the order in which codings are named: then clients that
// name them in another would take the file from each other, all slices of it.
func (x *Fetch) askForCoding(head *store.Entry) {
	coding := rfc9111.ContentCoding(head.Header)
	if coding == "" {
		return
	}
	for n := range x.copies {
		x.origin.Request(n).Header["Accept-Encoding"] = []string{coding}
	}
	x.clientHeader = append(withoutField(x.clientHeader, "Accept-Encoding"), field{name: "Accept-Encoding", values: []string{coding}})
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

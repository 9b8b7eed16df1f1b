package warm

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// maxVariants is how many requests a URL may be asked for by.
const maxVariants = 64

// variant is the header of a request. Each URL is asked for once with each.
type variant struct {
	header http.Header
	// label has the fields in which variants differ, as "Accept-Language: de".
	label string
	// id has all fields, for the record of what is done.
	id string
}

// defaultFields are sent unless -H names them. The codings are those that browsers send.
func defaultFields() map[string][]string {
	return map[string][]string{
		"Accept":          {"*/*"},
		"Accept-Encoding": {"gzip, deflate, br, zstd"},
		"User-Agent":      {userAgent},
	}
}

// refusedFields make another request of it, or another answer than visitors get, and why.
var refusedFields = map[string]string{
	"Cookie":              "a response to a visitor's cookie is not for others",
	"Host":                "the URL has it; --to says where to connect instead",
	"Connection":          "it is about the connection",
	"Content-Length":      "there is no body",
	"Transfer-Encoding":   "there is no body",
	"Te":                  "it is about the connection",
	"Trailer":             "there is no body",
	"Upgrade":             "it is about the connection",
	"Range":               "whole responses are warmed",
	"If-Range":            "whole responses are warmed",
	"If-None-Match":       "whole responses are warmed",
	"If-Modified-Since":   "whole responses are warmed",
	"If-Match":            "whole responses are warmed",
	"If-Unmodified-Since": "whole responses are warmed",
	"Expect":              "there is no body",
}

// parseVariants reads the values of -H. A field is added to all requests; one that is given several
// times makes a variant of each value. A field without a value is left out of the requests.
func parseVariants(lines []string) ([]variant, error) {
	fields, given := defaultFields(), make(map[string]bool)
	for _, line := range lines {
		name, value, err := parseField(line)
		if err != nil {
			return nil, err
		}
		if !given[name] {
			given[name], fields[name] = true, nil
		}
		if !slices.Contains(fields[name], value) {
			fields[name] = append(fields[name], value)
		}
	}
	names := make([]string, 0, len(fields))
	count := 1
	for name, values := range fields {
		names = append(names, name)
		if count *= len(values); count > maxVariants {
			return nil, fmt.Errorf("-H makes more than %d variants of each URL; give fewer values", maxVariants)
		}
	}
	slices.Sort(names)
	variants := []variant{{header: make(http.Header)}}
	for _, name := range names {
		variants = multiply(variants, name, fields[name])
	}
	return variants, nil
}

func parseField(line string) (name, value string, err error) {
	name, value, found := strings.Cut(line, ":")
	name, value = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)), textproto.TrimString(value)
	if !found || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
		return "", "", fmt.Errorf("-H %s is not a header field; give 'Name: value'", shorten(line))
	}
	if why := refusedFields[name]; why != "" {
		return "", "", fmt.Errorf("-H %s is not sent: %s", name, why)
	}
	return name, value, nil
}

// multiply makes a variant of each of those there are and each value.
func multiply(variants []variant, name string, values []string) []variant {
	multiplied := make([]variant, 0, len(variants)*len(values))
	for _, v := range variants {
		for _, value := range values {
			field := name + ": " + value
			w := variant{header: v.header.Clone(), label: v.label, id: v.id + field + "\n"}
			w.header[name] = []string{value}
			if value == "" {
				w.header[name] = nil // which keeps net/http from a User-Agent of its own
			}
			if len(values) > 1 {
				w.label = strings.TrimPrefix(w.label+", "+field, ", ")
			}
			multiplied = append(multiplied, w)
		}
	}
	return multiplied
}

package purge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/larder-cache/larder/rfc9111"
)

// Limits of a page of the listing.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// decodeSelectors reads the body of a purge request. It is stricter than encoding/json, which
// overlooks the case of names, repeated names and nulls: a request that is misunderstood removes
// the wrong things, or nothing, without an error.
func decodeSelectors(body []byte) (Selectors, error) {
	var s Selectors
	fields := map[string]func(json.RawMessage) error{
		"tags":     listField(&s.Tags, checkTag),
		"urls":     listField(&s.URLs, normalizeURL),
		"prefixes": listField(&s.Prefixes, normalizePrefix),
		"hosts":    listField(&s.Hosts, normalizeHost),
		"all":      flagField(&s.All),
		"soft":     flagField(&s.Soft),
		"dry_run":  flagField(&s.DryRun),
	}
	if err := decodeObject(body, fields); err != nil {
		return Selectors{}, err
	}
	if s.Empty() {
		return Selectors{}, errors.New(`nothing is selected; send at least one of "tags", "urls", "prefixes", "hosts" or "all":true`)
	}
	return s, nil
}

// decodeObject reads one JSON object and hands each member to its field.
func decodeObject(body []byte, fields map[string]func(json.RawMessage) error) error {
	notAnObject := errors.New(`the body is not a JSON object; send one such as {"tags":["product-1"]}`)
	if !utf8.Valid(body) || !json.Valid(body) {
		return notAnObject
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return notAnObject
	}
	seen := make(map[string]bool, len(fields))
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return notAnObject
		}
		name, _ := token.(string) // in an object, a name is a string
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return notAnObject
		}
		field, known := fields[name]
		if !known {
			return fmt.Errorf("unknown field %s; send tags, urls, prefixes, hosts, all, soft or dry_run", quote(name))
		}
		if seen[name] {
			return fmt.Errorf("field %q stands twice; send it once", name)
		}
		seen[name] = true
		if err := field(value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// listField reads a list of texts, each through normalize.
func listField(field *[]string, normalize func(string) (string, error)) func(json.RawMessage) error {
	return func(value json.RawMessage) error {
		var list []string
		if err := json.Unmarshal(value, &list); err != nil || list == nil {
			return errors.New(`send a list of strings such as ["a","b"]`)
		}
		for i, text := range list {
			if text == "" {
				return errors.New("an element is empty; send a text or leave it out")
			}
			normalized, err := normalize(text)
			if err != nil {
				return err
			}
			list[i] = normalized
		}
		*field = list
		return nil
	}
}

func flagField(field *bool) func(json.RawMessage) error {
	return func(value json.RawMessage) error {
		var flag *bool
		if err := json.Unmarshal(value, &flag); err != nil || flag == nil {
			return errors.New("send true or false")
		}
		*field = *flag
		return nil
	}
}

// checkTag refuses a tag that no entry can have, so that a misspelt purge is not answered with "0
// matched".
func checkTag(tag string) (string, error) {
	switch {
	case strings.ContainsFunc(tag, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("%s is not a tag; send visible ASCII without white space", quote(tag))
	case len(tag) > rfc9111.MaxTagBytes:
		return "", fmt.Errorf("a tag of %d bytes is too long; send at most %d", len(tag), rfc9111.MaxTagBytes)
	default:
		return tag, nil
	}
}

// decodeQuery reads the query string of a listing.
func decodeQuery(raw string) (Query, error) {
	q := Query{Limit: defaultLimit}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return Query{}, errors.New("the query string is malformed; send it percent-encoded")
	}
	fields := map[string]func(string) error{
		"tag":    textField(&q.Tag, checkTag),
		"prefix": textField(&q.Prefix, normalizePrefix),
		"host":   textField(&q.Host, normalizeHost),
		"limit":  limitField(&q.Limit),
		// Opaque, and empty for the first page.
		"cursor": func(cursor string) error { q.Cursor = cursor; return nil },
	}
	// In order, so that the first error of several is the same at every call.
	for _, name := range slices.Sorted(maps.Keys(values)) {
		field, known := fields[name]
		if !known {
			return Query{}, fmt.Errorf("unknown parameter %s; send tag, prefix, host, limit or cursor", quote(name))
		}
		if len(values[name]) > 1 {
			return Query{}, fmt.Errorf("parameter %q stands twice; send it once", name)
		}
		if err := field(values[name][0]); err != nil {
			return Query{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return q, nil
}

func textField(field *string, normalize func(string) (string, error)) func(string) error {
	return func(text string) error {
		if text == "" {
			return errors.New("the value is empty; send a text or leave the parameter out")
		}
		normalized, err := normalize(text)
		*field = normalized
		return err
	}
}

func limitField(field *int) func(string) error {
	return func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return fmt.Errorf("%s is not a page size; send a number from 1 to %d", quote(text), maxLimit)
		}
		*field = n
		return nil
	}
}

// readAll reads a body to its end and reports whether it fits the limit.
func readAll(body io.Reader, limit int64) (data []byte, fits bool, err error) {
	data, err = io.ReadAll(io.LimitReader(body, limit+1))
	return data, int64(len(data)) <= limit, err
}

// Package graphql reads what a GraphQL request asks for, as far as a cache has to know it: whether
// its operation is a query, what that is called, and a form that equal requests share.
//
//	graphql.go   requests, in a body or in the query of a URL
//	document.go  documents: which operation is meant, and their form
//	answer.go    answers: whether one reports errors
//
// The documents are parsed by gqlparser. Nothing here validates against a schema or runs anything.
// All work is bounded by the length of what is read, see [MaxTokens].
package graphql

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/canonjson"
)

// Request is one request for one operation.
type Request struct {
	// Query says that the operation is a query, which changes nothing. Otherwise it is a mutation
	// or a subscription.
	Query bool
	// Operation is the name of the operation, empty if it has none.
	Operation string
	// Document is the form of the document. Two documents have the same form only if all origins
	// read the same from both.
	Document []byte
	// Rest is the canonical JSON of the request without its document: operation name, variables,
	// extensions. It is empty for a request in a URL.
	Rest []byte
}

// What a request is that is not read as one operation.
var (
	// ErrBatch: it is an array, whose members are operations.
	ErrBatch = errors.New("it is a batch of several operations")
	// ErrPersisted: it names its document by a hash, and does not have it.
	ErrPersisted = errors.New("it names a persisted document, which may be a mutation")
	// ErrUnread: it is no GraphQL request, or one that origins may read in different ways.
	ErrUnread = errors.New("it cannot be read as a GraphQL request")
)

// members of a request, by the specification of GraphQL over HTTP. Those with another are not read:
// an origin may take its document from there.
const (
	memberQuery         = "query"
	memberOperationName = "operationName"
	memberVariables     = "variables"
	memberExtensions    = "extensions"
)

// ParseBody reads the request in a body of JSON. The error is one of this package's, and then the
// request may change something. But beside ErrBatch Query says whether all its operations are
// queries.
func ParseBody(body []byte) (Request, error) {
	form, err := canonjson.Canonical(body)
	if err != nil {
		return Request{}, fmt.Errorf("%w: as JSON, %w", ErrUnread, err)
	}
	switch jsontext.Value(form).Kind() {
	case jsontext.KindBeginArray:
		return Request{Query: hasQueriesOnly(form)}, ErrBatch
	case jsontext.KindBeginObject:
		return parseObject(form)
	default:
		return Request{}, fmt.Errorf("%w: it is no object", ErrUnread)
	}
}

// hasQueriesOnly reports whether each member of an array of canonical JSON asks for a query.
func hasQueriesOnly(form []byte) bool {
	d := jsontext.NewDecoder(bytes.NewBuffer(form))
	_, _ = d.ReadToken() // the [
	for d.PeekKind() == jsontext.KindBeginObject {
		value, _ := d.ReadValue()
		if r, err := parseObject(value); err != nil || !r.Query {
			return false
		}
	}
	return d.PeekKind() == jsontext.KindEndArray
}

// parseObject reads the request in an object of canonical JSON.
func parseObject(form []byte) (r Request, err error) {
	var document, operation, hash string
	d := jsontext.NewDecoder(bytes.NewBuffer(form))
	_, _ = d.ReadToken() // the {, as everything here is valid
	r.Rest = append(r.Rest, '{')
	for d.PeekKind() == jsontext.KindString {
		name, _ := d.ReadToken()
		member := name.String()
		value, _ := d.ReadValue()
		switch member {
		case memberQuery:
			document, err = text(member, value)
		case memberOperationName:
			operation, err = text(member, value)
		case memberExtensions:
			hash, err = persistedHash(value)
		case memberVariables:
		default:
			err = fmt.Errorf("%w: it has the member %q", ErrUnread, member)
		}
		if err != nil {
			return Request{}, err
		}
		if member != memberQuery {
			r.Rest = fmt.Appendf(r.Rest, "%q:%s,", member, value)
		}
	}
	r.Rest = append(r.Rest, '}')
	if err := checkHash(document, hash); err != nil {
		return Request{}, err
	}
	err = r.parseDocument(document, operation)
	return r, err
}

// text returns a string, which may be null.
func text(member string, value jsontext.Value) (string, error) {
	switch value.Kind() {
	case jsontext.KindNull:
		return "", nil
	case jsontext.KindString:
		unquoted, err := jsontext.AppendUnquote(nil, value)
		return string(unquoted), err
	default:
		return "", fmt.Errorf("%w: %s is no string", ErrUnread, member)
	}
}

// persistedHash returns the hash by which extensions name a document, empty if they do not.
func persistedHash(extensions jsontext.Value) (hash string, err error) {
	persisted := member(extensions, "persistedQuery")
	if value := member(persisted, "sha256Hash"); value != nil {
		return text("sha256Hash", value)
	}
	if persisted != nil && persisted.Kind() != jsontext.KindNull {
		return "", fmt.Errorf("%w: its persistedQuery has no sha256Hash", ErrUnread)
	}
	return "", nil
}

// member returns a member of an object of canonical JSON, nil if there is none.
func member(object jsontext.Value, name string) jsontext.Value {
	if object == nil || object.Kind() != jsontext.KindBeginObject {
		return nil
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(object))
	_, _ = d.ReadToken()
	for d.PeekKind() == jsontext.KindString {
		token, _ := d.ReadToken()
		found := token.String() == name
		if value, err := d.ReadValue(); err != nil || found {
			return slices.Clone(value)
		}
	}
	return nil
}

// checkHash finds a document that is missing, or is another than the hash names. An origin may take
// the one that it knows by the hash.
func checkHash(document, hash string) error {
	switch {
	case document == "" && hash != "":
		return ErrPersisted
	case document == "":
		return fmt.Errorf("%w: it has no query", ErrUnread)
	case hash == "":
		return nil
	}
	sum := sha256.Sum256([]byte(document))
	if !strings.EqualFold(hash, hex.EncodeToString(sum[:])) {
		return fmt.Errorf("%w: its query is not the one of its sha256Hash", ErrUnread)
	}
	return nil
}

// ParseURL reads the request in the query of a URL (GET). asked is false if there is none. A
// persisted document counts as a query: GET is safe, so origins and clients use no other there.
func ParseURL(rawQuery string) (r Request, asked bool, err error) {
	if rawQuery == "" {
		return Request{}, false, nil
	}
	parameters, err := url.ParseQuery(rawQuery)
	documents, operations := parameters[memberQuery], parameters[memberOperationName]
	switch {
	case len(documents) == 0 && err == nil:
		if len(operations) == 1 && len(parameters[memberExtensions]) == 1 && isName(operations[0]) {
			r.Operation = operations[0]
		}
		r.Query = true
		return r, len(parameters[memberExtensions]) > 0, nil
	case err != nil && !strings.Contains(rawQuery, memberQuery):
		return Request{}, false, nil
	case err != nil:
		return Request{}, true, fmt.Errorf("%w: the query of its URL, %w", ErrUnread, err)
	case len(documents) > 1, len(operations) > 1, len(parameters[memberExtensions]) > 1:
		return Request{}, true, fmt.Errorf("%w: a parameter of its URL stands twice", ErrUnread)
	}
	operation := ""
	if len(operations) == 1 {
		operation = operations[0]
	}
	return r, true, r.parseDocument(documents[0], operation)
}

// Agrees reports whether no parameter of a URL has an origin run anything else than the body says,
// in which the operation of that name is meant: some take the document, or the operation's name,
// from there.
func Agrees(rawQuery, operation string) bool {
	for parameter := range strings.FieldsFuncSeq(rawQuery, func(r rune) bool { return r == '&' || r == ';' }) {
		name, value, _ := strings.Cut(parameter, "=")
		switch strings.ToLower(unescaped(name)) {
		case "query", "extensions", "id", "documentid", "queryid", "doc_id":
			return false
		case "operationname":
			if unescaped(value) != operation {
				return false
			}
		}
	}
	return true
}

// unescaped returns what a name or value of a URL says; as it is if that cannot be read.
func unescaped(text string) string {
	if unescaped, err := url.QueryUnescape(text); err == nil {
		return unescaped
	}
	return text
}

package adminapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
)

// maxBodyBytes is the largest body that is read.
const maxBodyBytes = 1 << 20

// ReadBody reads the body of a request, of 1 MiB at most. A larger one is an error with status 413,
// and one that ends early an error with 400. tooLarge says what to send instead of a larger one.
// The Content-Type is not looked at: curl -d labels every body as a form, and a label protects
// against nothing. Caddy's checks of Host and Origin keep browsers out.
func ReadBody(r *http.Request, tooLarge string) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBodyBytes+1))
	if err != nil {
		return nil, BadRequest(fmt.Errorf("the body ended early; send it whole: %w", err))
	}
	if len(body) > maxBodyBytes {
		return nil, caddy.APIError{
			HTTPStatus: http.StatusRequestEntityTooLarge,
			Err:        fmt.Errorf("the body is larger than 1 MiB; %s", tooLarge),
		}
	}
	return body, nil
}

// Field is a member of a JSON object.
type Field struct {
	// Name is the member's, as it is sent.
	Name string
	// Read takes the value. Its error is a sentence, to which the name is added.
	Read func(value json.RawMessage) error
}

// DecodeObject reads one JSON object and hands each member to its field. It is stricter than
// encoding/json, which overlooks the case of names, repeated names and nulls: a request that is
// misunderstood does the wrong things, or nothing, without an error. example is an object, for the
// error of a body that is none.
func DecodeObject(body []byte, example string, fields ...Field) error {
	notAnObject := errors.New("the body is not a JSON object; send one such as " + example)
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
		i := slices.IndexFunc(fields, func(f Field) bool { return f.Name == name })
		if i < 0 {
			return unknownField(name, fields)
		}
		if seen[name] {
			return fmt.Errorf("field %q stands twice; send it once", name)
		}
		seen[name] = true
		if err := fields[i].Read(value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func unknownField(name string, fields []Field) error {
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		names = append(names, f.Name)
	}
	return fmt.Errorf("unknown field %s; send %s", Quote(name), oneOf(names))
}

// ListField is a list of texts, each through normalize.
func ListField(name string, field *[]string, normalize func(string) (string, error)) Field {
	return Field{name, func(value json.RawMessage) error {
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
	}}
}

// FlagField is true or false.
func FlagField(name string, field *bool) Field {
	return Field{name, func(value json.RawMessage) error {
		var flag *bool
		if err := json.Unmarshal(value, &flag); err != nil || flag == nil {
			return errors.New("send true or false")
		}
		*field = *flag
		return nil
	}}
}

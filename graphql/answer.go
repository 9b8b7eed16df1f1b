package graphql

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// CheckAnswer reads the body of an answer and returns an error if it is not the result of an
// operation, or reports errors: GraphQL reports them by a 200. It reads no further than it has to.
func CheckAnswer(body io.Reader) error {
	d := jsontext.NewDecoder(body, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if token, err := d.ReadToken(); err != nil || token.Kind() != jsontext.KindBeginObject {
		return fmt.Errorf("the answer is no JSON object: %w", err)
	}
	for {
		token, err := d.ReadToken()
		switch {
		case err != nil:
			return fmt.Errorf("the answer is no JSON: %w", err)
		case token.Kind() == jsontext.KindEndObject:
			return nil
		case token.String() == "errors" && d.PeekKind() != jsontext.KindNull:
			return errors.New("the answer reports errors")
		}
		if err := d.SkipValue(); err != nil {
			return fmt.Errorf("the answer is no JSON: %w", err)
		}
	}
}

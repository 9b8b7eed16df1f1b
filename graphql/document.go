package graphql

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/lexer"
	"github.com/vektah/gqlparser/v2/parser"
)

const (
	// MaxLength is how many bytes a document may have.
	MaxLength = 64 << 10
	// MaxTokens is how many tokens a document may have. The parser allows 1,000 levels.
	MaxTokens = 15_000
)

// parseDocument reads a document, of which the operation of that name is meant, or the only one.
func (r *Request) parseDocument(document, name string) error {
	if len(document) > MaxLength || !utf8.ValidString(document) {
		return fmt.Errorf("%w: its query is longer than 64 KiB, or no UTF-8", ErrUnread)
	}
	form, err := formOf(document)
	if err != nil {
		return fmt.Errorf("%w: its query, %w", ErrUnread, err)
	}
	parsed, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: document}, MaxTokens)
	if err != nil {
		return fmt.Errorf("%w: its query, %w", ErrUnread, err)
	}
	operation := operationOf(parsed, name)
	if operation == nil {
		return fmt.Errorf("%w: its query and its operationName leave open which operation is meant", ErrUnread)
	}
	r.Document, r.Query, r.Operation = form, operation.Operation == ast.Query, operation.Name
	return nil
}

// operationOf returns the operation of the name, or the only one if there is no name; nil if that
// is not one.
func operationOf(document *ast.QueryDocument, name string) (found *ast.OperationDefinition) {
	for _, operation := range document.Operations {
		if name != "" && operation.Name != name {
			continue
		}
		if found != nil {
			return nil
		}
		found = operation
	}
	return found
}

// formOf returns the form of a document: its tokens, so white space, commas and comments do not
// count (they are ignored tokens, GraphQL 2.1.7). A document with something in it that not all
// origins read alike counts as it is.
func formOf(document string) ([]byte, error) {
	if isUnusual(document) {
		return append([]byte{asWritten}, document...), nil
	}
	form := append(make([]byte, 0, len(document)), asTokens)
	l := lexer.New(&ast.Source{Input: document})
	var last lexer.Token
	for range MaxTokens {
		token, err := l.ReadToken()
		switch {
		case err != nil:
			return nil, err
		case token.Kind == lexer.EOF:
			return form, nil
		case token.Kind == lexer.Comment:
			continue
		case isNumber(last) && last.Pos.End == token.Pos.Start && (isNumber(token) || token.Kind == lexer.Name || token.Kind == lexer.Spread):
			// `1a` is one token too few for some readers, and none for others.
			return append([]byte{asWritten}, document...), nil
		}
		form = append(form, byte(token.Kind))
		form = binary.AppendUvarint(form, uint64(len(token.Value)))
		form, last = append(form, token.Value...), token
	}
	return nil, fmt.Errorf("it has more than %d tokens", MaxTokens)
}

// How a form begins.
const (
	asWritten = iota
	asTokens
)

// isUnusual reports whether a document has something that origins may read in different ways: block
// strings, of whose indentation the rules have changed, escapes by number (half a surrogate pair,
// braces), a byte order mark, and what ends a line, and so a comment, for some readers only.
func isUnusual(document string) bool {
	for i, r := range document {
		switch {
		case r == '\r' && !strings.HasPrefix(document[i:], "\r\n"):
			return true
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f, r == 0x85, r == 0x2028, r == 0x2029, r == 0xfeff, r == utf8.RuneError:
			return true
		}
	}
	return strings.Contains(document, `"""`) || strings.Contains(document, `\u`)
}

func isNumber(token lexer.Token) bool { return token.Kind == lexer.Int || token.Kind == lexer.Float }

// isName reports whether a text is a name (GraphQL 2.1.9).
func isName(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c == '_', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return text != ""
}

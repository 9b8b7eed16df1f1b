package httpcache

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/larder-cache/larder/canonjson"
	"github.com/larder-cache/larder/graphql"
	"github.com/larder-cache/larder/rfc9111"
)

// BodyForm is how the body of a POST or QUERY counts in the key.
type BodyForm uint8

// The forms.
const (
	// BodyAsSent: byte by byte.
	BodyAsSent BodyForm = iota
	// BodyJSON: as canonical JSON; what has no canonical form counts as it is sent.
	BodyJSON
	// BodyGraphQL: as a GraphQL request. What is no query bypasses, and so does what cannot be
	// read. A query changes nothing, so a POST with one may be stored as a GET. Answers that report
	// errors are not stored.
	BodyGraphQL
)

// content is what a request asks for beside its URL. A nil content is empty.
type content struct {
	body []byte // as it was sent
	form BodyForm
	// json is what the key has instead of body: canonical JSON, of GraphQL without the document.
	json []byte
	// why says why the key has the body as it is, where another form was asked for; of GraphQL, why
	// it is not read.
	why error

	document  []byte // the form of the GraphQL document
	operation string // the name of the GraphQL operation
	graphql   bool   // it is a GraphQL request
	changes   bool   // it may change something at the origin, whatever the method
}

// sent returns the body as it was sent.
func (c *content) sent() []byte {
	if c == nil {
		return nil
	}
	return c.body
}

// isQuery reports whether it asks for a GraphQL query.
func (c *content) isQuery() bool { return c != nil && c.graphql && !c.changes }

// readContent brings the content into the form that the route asks for, and reports why the request
// bypasses, if it does for what it asks for.
func (q *Request) readContent() Bypass {
	switch c := q.keyed.content; q.route.Key.Body {
	case BodyJSON:
		if c != nil {
			c.canonicalize(q.r.Header)
		}
	case BodyGraphQL:
		return q.readGraphQL()
	case BodyAsSent:
	}
	return NotBypassed
}

// canonicalize brings JSON into its canonical form.
func (c *content) canonicalize(h http.Header) {
	if c.why = errNotJSON(h); c.why != nil {
		return
	}
	if c.json, c.why = canonjson.Canonical(c.body); c.why == nil {
		c.form = BodyJSON
	}
}

var (
	errContentCoded = errors.New("it has a Content-Encoding")
	errContentType  = errors.New("its Content-Type is not that of JSON in UTF-8")
)

// errNotJSON says why a body is not to be read as JSON in UTF-8, by its fields. One that says
// nothing may be. Another reader takes a form for a form, whatever its bytes are, and a text in
// Latin-1 for another text.
func errNotJSON(h http.Header) error {
	for _, line := range h["Content-Encoding"] {
		if !rfc9111.EqualFold(rfc9111.TrimOWS(line), "identity") {
			return errContentCoded
		}
	}
	lines := h["Content-Type"]
	if len(lines) == 0 {
		return nil
	}
	mediaType, parameters, err := mime.ParseMediaType(lines[0])
	if len(lines) > 1 || err != nil {
		return errContentType
	}
	if charset, given := parameters["charset"]; given && !rfc9111.EqualFold(charset, "utf-8") {
		return errContentType
	}
	if mediaType != "application/json" && mediaType != "text/json" && !strings.HasSuffix(mediaType, "+json") {
		return errContentType
	}
	return nil
}

// readGraphQL reads the request as one for a GraphQL operation. A GET or HEAD may be one or not. A
// POST or QUERY is, or may change something.
func (q *Request) readGraphQL() Bypass {
	if q.r.Method == http.MethodGet || q.r.Method == http.MethodHead {
		return q.readGraphQLURL()
	}
	if q.keyed.content == nil {
		q.keyed.content = new(content)
	}
	c := q.keyed.content
	c.graphql, c.changes = true, true
	if c.why = errNotJSON(q.r.Header); c.why != nil {
		return BypassGraphQL
	}
	read, err := graphql.ParseBody(c.body)
	if !graphql.Agrees(q.r.URL.RawQuery, read.Operation) {
		read, err = graphql.Request{}, cmp.Or(err, errOtherInURL)
	}
	c.changes, c.operation, c.why = !read.Query, read.Operation, err
	switch {
	case err != nil:
		return BypassGraphQL
	case c.changes:
		return BypassMutation
	}
	c.form, c.document, c.json = BodyGraphQL, read.Document, read.Rest
	return NotBypassed
}

var errOtherInURL = errors.New("its URL names another document or operation, and some origins take that one")

// readGraphQLURL reads the query of a URL. The URL is in the key as it is, so only its operation
// counts.
func (q *Request) readGraphQLURL() Bypass {
	read, asked, err := graphql.ParseURL(q.r.URL.RawQuery)
	if !asked {
		return NotBypassed
	}
	q.keyed.content = &content{graphql: true, operation: read.Operation, changes: !read.Query, why: err}
	switch {
	case err != nil:
		return BypassGraphQL
	case !read.Query:
		return BypassMutation
	}
	return NotBypassed
}

// graphqlTagPrefix begins the tag of an operation.
const graphqlTagPrefix = "graphql-"

// tag is the tag by which answers to its operation are purged, empty if it has none.
func (c *content) tag() string {
	if c == nil || c.operation == "" {
		return ""
	}
	return graphqlTagPrefix + c.operation
}

// write writes what counts of the content into a key.
func (c *content) write(b *keyBytes) {
	if c == nil || c.form == BodyAsSent {
		b.part("body").content(c.sent())
		return
	}
	// No body has so many bytes. So none is taken for another that counts otherwise, also where the
	// rules of a route have changed since.
	b.count(maxKeyedBody + int(c.form))
	if c.form == BodyGraphQL {
		b.part("GraphQL document").content(c.document)
		b.part("GraphQL request").content(c.json)
		return
	}
	b.part("body as JSON").content(c.json)
}

// reader returns the body for the origin.
func (c *content) reader() io.ReadCloser { return io.NopCloser(bytes.NewReader(c.sent())) }

package warm

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of one sitemap, besides those of its size.
const (
	maxSitemapLocs = 50_000    // sitemaps.org's limit, of an index too
	maxXMLDepth    = 32        // a sitemap with extensions has five or so
	maxTokenBytes  = 256 << 10 // of one tag, text or comment
)

// locKind is what a <loc> of a sitemap names.
type locKind int

const (
	pageLoc locKind = iota
	sitemapLoc
)

// parseSitemap calls loc with each location of a sitemap or of an index of sitemaps, in order, up
// to an error. A text file with a URL a line is a sitemap too (sitemaps.org). Everything but the
// locations is ignored. An error is a sentence without its subject.
func parseSitemap(r io.Reader, loc func(kind locKind, text string)) error {
	in := bufio.NewReader(r)
	if err := skipSpace(in); err != nil {
		return err
	}
	counted := countLocs(loc)
	if first, err := in.Peek(1); err == nil && first[0] != '<' {
		return parseTextSitemap(in, counted)
	}
	p := &sitemapParser{loc: counted, tokens: &tokenReader{r: in}}
	p.xml = xml.NewDecoder(p.tokens)
	return p.parse()
}

// skipSpace passes a byte order mark and white space.
func skipSpace(in *bufio.Reader) error {
	if mark, _ := in.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = in.Discard(len(mark))
	}
	for {
		next, err := in.Peek(1)
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("is empty")
		case err != nil:
			return err
		case !strings.Contains(" \t\r\n", string(next)):
			return nil
		}
		_, _ = in.Discard(1)
	}
}

var errTooManyLocs = fmt.Errorf("has more than %d locations; those behind are left out", maxSitemapLocs)

// countLocs ends after as many as a sitemap may have.
func countLocs(loc func(locKind, string)) func(locKind, string) error {
	n := 0
	return func(kind locKind, text string) error {
		if text == "" {
			return nil
		}
		if n++; n > maxSitemapLocs {
			return errTooManyLocs
		}
		loc(kind, text)
		return nil
	}
}

func parseTextSitemap(in io.Reader, loc func(locKind, string) error) error {
	lines := newLines(in)
	for lines.next() {
		text := strings.TrimSpace(string(lines.line))
		if text != "" && !strings.HasPrefix(text, "http://") && !strings.HasPrefix(text, "https://") {
			return errors.New("is no sitemap: it is neither XML nor a URL a line")
		}
		if err := loc(pageLoc, text); err != nil {
			return err
		}
	}
	return lines.err
}

// sitemapParser reads
//
//	<urlset><url><loc>https://example.com/</loc>…</url>…</urlset>
//	<sitemapindex><sitemap><loc>https://example.com/pages.xml</loc>…</sitemap>…</sitemapindex>
//
// Elements of other namespaces than the root's belong to extensions: <image:loc> is no page.
type sitemapParser struct {
	tokens *tokenReader
	xml    *xml.Decoder
	loc    func(locKind, string) error

	depth  int
	space  string // the root's namespace
	kind   locKind
	item   string // what a location stands in
	inItem bool
	inLoc  bool
	text   strings.Builder
}

func (p *sitemapParser) parse() error {
	for {
		p.tokens.left = maxTokenBytes
		token, err := p.xml.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = p.take(token)
		}
		if err != nil {
			return p.explain(err)
		}
	}
}

func (p *sitemapParser) take(token xml.Token) error {
	switch t := token.(type) {
	case xml.StartElement:
		return p.open(t.Name)
	case xml.EndElement:
		return p.close()
	case xml.CharData:
		if p.inLoc && p.depth == 3 && p.text.Len() <= maxURLBytes {
			p.text.Write(t)
		}
	}
	return nil
}

func (p *sitemapParser) open(name xml.Name) error {
	p.depth++
	switch {
	case p.depth > maxXMLDepth:
		return fmt.Errorf("has elements %d deep, which a sitemap has not", maxXMLDepth)
	case p.depth == 1:
		return p.openRoot(name)
	case p.depth == 2:
		p.inItem = name.Space == p.space && name.Local == p.item
	case p.depth == 3 && p.inItem:
		p.inLoc = name.Space == p.space && name.Local == "loc"
		p.text.Reset()
	}
	return nil
}

func (p *sitemapParser) openRoot(name xml.Name) error {
	p.space = name.Space
	switch name.Local {
	case "urlset":
		p.kind, p.item = pageLoc, "url"
	case "sitemapindex":
		p.kind, p.item = sitemapLoc, "sitemap"
	default:
		return fmt.Errorf("is no sitemap: it begins with <%s>", shorten(name.Local))
	}
	return nil
}

func (p *sitemapParser) close() error {
	p.depth--
	if p.depth != 2 || !p.inLoc {
		return nil
	}
	p.inLoc = false
	return p.loc(p.kind, strings.TrimSpace(p.text.String()))
}

// explain says what is wrong with the XML.
func (p *sitemapParser) explain(err error) error {
	var syntax *xml.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("is no sitemap, or a broken one: line %d: %s", syntax.Line, shorten(syntax.Msg))
	case strings.HasPrefix(err.Error(), "xml: "): // encoding/xml has no type for these
		return errors.New("is not XML 1.0 in UTF-8, as sitemaps are")
	}
	return err
}

// tokenReader gives encoding/xml a bounded part for each token, which it holds in memory as a
// whole.
type tokenReader struct {
	r    *bufio.Reader
	left int
}

var errTokenTooLong = fmt.Errorf("has a tag or a text of more than %d KiB, which a sitemap has not", maxTokenBytes>>10)

// ReadByte implements io.ByteReader, by which encoding/xml reads where there is one.
func (t *tokenReader) ReadByte() (byte, error) {
	if t.left--; t.left < 0 {
		return 0, errTokenTooLong
	}
	return t.r.ReadByte()
}

// Read implements io.Reader.
func (t *tokenReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := t.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

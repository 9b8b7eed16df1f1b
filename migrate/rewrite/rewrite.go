package rewrite

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Result is a Caddyfile in Larder's words.
type Result struct {
	Text  []byte // the whole file
	Notes []Note // in the order of the file
	// Bare reports that a site of the file has `cache`, and that the file has no global options: if
	// another file imports it, what that one says to all sites was not seen.
	Bare  bool
	edits []edit
}

// Note says what becomes of a line of the file.
type Note struct {
	Line    int    // counted from 1, in the file that was read
	Text    string // one line
	Missing bool   // it had an effect that it has no more; the file says so in a comment too
}

// Changed reports whether anything of cache-handler was in the file.
func (r *Result) Changed() bool { return len(r.edits) > 0 }

// Missing counts what has no counterpart.
func (r *Result) Missing() (n int) {
	for _, note := range r.Notes {
		if note.Missing {
			n++
		}
	}
	return n
}

// edit replaces bytes of the file.
type edit struct {
	span        // the bytes
	tokens span // the tokens that stand there
	with   string
}

// rewriter makes the edits of a file.
type rewriter struct {
	*finder
	result *Result
	global *settings // of the global option, nil if there is none
	own    bool      // the global option stands in this file
	around Around
	raised uint64 // the largest max_body of a directive
	names  int    // matchers that were written
}

// Around is what is known of the files around one that is rewritten.
type Around struct {
	// Global is the text of a file that imports it. Its sites inherit what the global `cache` of
	// that one says, unless the file has a global `cache` of its own. Empty: no file imports it.
	Global []byte
	// Migrated reports whether no file that it imports has a `cache` any more. nil: it is not
	// known.
	Migrated func(imports []string) bool
}

// Caddyfile writes the `cache` directives and global options of cache-handler as `larder`. All
// other bytes of the file stay as they are. The error says what Caddy's own parser would not take,
// with its line.
func Caddyfile(file []byte) (*Result, error) { return Within(file, Around{}) }

// Within does so with a file of which it is known what is around it.
func Within(file []byte, around Around) (*Result, error) {
	r, err := newRewriter(file)
	if err != nil {
		return nil, err
	}
	if err := r.readGlobal(); err != nil {
		return nil, err
	}
	r.around, r.own = around, r.global != nil
	if !r.own && around.Global != nil {
		if r.global, err = globalOf(around.Global); err != nil {
			return nil, err
		}
	}
	if err := r.rewrite(); err != nil {
		return nil, err
	}
	r.result.splice(file)
	slices.SortStableFunc(r.result.Notes, func(a, b Note) int { return a.Line - b.Line })
	return r.result, r.verify()
}

func newRewriter(file []byte) (*rewriter, error) {
	tokens, err := tokenize(file)
	if err != nil {
		return nil, err
	}
	f, err := find(&document{text: file, tokens: tokens})
	if err != nil {
		return nil, err
	}
	return &rewriter{finder: f, result: &Result{}}, nil
}

// globalOf is what the global `cache` of a file says, nil if there is none. Where there is one of
// Larder, the old text of the file is the one that says it.
func globalOf(file []byte) (*settings, error) {
	r, err := newRewriter(file)
	if err != nil {
		return nil, fmt.Errorf("the file with the global options: %w", err)
	}
	if err := r.readGlobal(); err != nil || r.global != nil {
		return r.global, err
	}
	for _, options := range r.options {
		list, err := r.segments(options.start, options.end)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(list, func(s segment) bool { return r.tokens[s.from].Text == "larder" }) {
			return nil, errors.New("the file with the global options is migrated already; name its old text")
		}
	}
	return nil, nil
}

func (r *rewriter) rewrite() error {
	for _, s := range r.misplaced {
		r.tell(r.line(s.at), false, "cache stands in the block of %s, where it is no directive; it was left as it is", s.within)
	}
	for _, o := range r.orders {
		if err := r.rewriteOrder(o); err != nil {
			return err
		}
	}
	for _, o := range r.found {
		var err error
		if o.unused {
			r.tell(r.line(o.from), false, "cache stands in a snippet that this file does not import; it was taken for a directive of a site, and inherits what this file says")
		}
		switch o.use {
		case asDirective:
			r.result.Bare = len(r.blocks.options) == 0
			err = r.rewriteDirective(o)
		case asOption:
			continue
		default:
			r.tell(r.line(o.from), true, "cache stands in a snippet that is imported both as global options and into a site; it was left as it is")
		}
		if err != nil {
			return err
		}
	}
	for i, o := range r.found { // when the directives are known
		if o.use != asOption {
			continue
		}
		if err := r.rewriteGlobal(o, i); err != nil {
			return err
		}
	}
	return nil
}

// tell adds a note. One that says the same of another line is not repeated, but for what is
// missing.
func (r *rewriter) tell(line int, missing bool, format string, args ...any) {
	n := Note{Line: line, Text: oneLine(fmt.Sprintf(format, args...)), Missing: missing}
	if !slices.ContainsFunc(r.result.Notes, func(other Note) bool {
		return other == n || !missing && !other.Missing && other.Text == n.Text
	}) {
		r.result.Notes = append(r.result.Notes, n)
	}
}

// replace adds an edit of tokens. A quoted one may end where the next begins, and what is written
// in its place does not.
func (r *rewriter) replace(from, to int, with string) {
	if to < len(r.tokens) && r.tokens[to].start == r.tokens[to-1].end {
		with += " "
	}
	r.result.edits = append(r.result.edits, edit{
		span: span{r.tokens[from].start, r.tokens[to-1].end}, tokens: span{from, to}, with: with,
	})
}

// splice makes the text.
func (r *Result) splice(file []byte) {
	slices.SortFunc(r.edits, func(a, b edit) int { return a.start - b.start })
	var text bytes.Buffer
	at := 0
	for _, e := range r.edits {
		text.Write(file[at:e.start])
		text.WriteString(e.with)
		at = e.end
	}
	text.Write(file[at:])
	r.Text = text.Bytes()
}

// rewriteOrder rewrites an `order` that names cache. cache-handler's own place is in front of
// authentication, so that order is left out.
func (r *rewriter) rewriteOrder(o segment) error {
	if o.to < len(r.tokens) && !r.tokens[o.to].first {
		return fmt.Errorf("line %d: %q stands behind order", r.line(o.to), r.tokens[o.to].Text)
	}
	if r.tokens[o.from+1].Text == cacheWord {
		why := "not needed: larder stands behind authentication and in front of encode"
		r.tell(r.line(o.from), false, "order cache: %s", why)
		r.replace(o.from, o.to, "# "+oneLine(r.source(o.from, o.to))+": "+why)
		return nil
	}
	for i := o.from + 2; i < o.argsEnd(); i++ {
		if r.tokens[i].Text == cacheWord {
			r.tell(r.line(i), false, "order: names larder now, whose place is another one; look whether the line is still needed")
			r.replace(i, i+1, "larder")
		}
	}
	return nil
}

// readGlobal reads the global option, for what directives inherit. Its own notes are made when it
// is rewritten.
func (r *rewriter) readGlobal() error {
	for _, o := range r.found {
		if o.use != asOption {
			continue
		}
		list, err := r.optionsOf(o.segment)
		if err != nil {
			return err
		}
		s := (&block{rewriter: r, silent: true, global: true}).read(list)
		r.global = &s
	}
	return nil
}

// block is a larder that is being written.
type block struct {
	*rewriter
	global     bool
	silent     bool // no notes
	lines      []string
	missing    []string // comments
	memoryOnly option   // what says that nothing is stored on disk
	disk       string
	shared     string
}

func (b *block) write(text string) { b.lines = append(b.lines, text) }

func (b *block) note(line int, format string, args ...any) {
	if !b.silent {
		b.tell(line, false, format, args...)
	}
}

func (b *block) miss(o option, why string) { b.missText(o.line, o.title(), why) }

// missText says that something has no counterpart, in a note and in a comment.
func (b *block) missText(line int, what, why string) {
	text := oneLine(what + ": " + why)
	if b.silent {
		return
	}
	b.tell(line, true, "%s", text)
	if comment := "# Not migrated: " + text; !slices.Contains(b.missing, comment) {
		b.missing = append(b.missing, comment)
	}
}

// render writes the block behind its head. margin is what stands in front of the line.
func (b *block) render(head string, comments []string, margin, indent string) string {
	lines := slices.Concat(comments, b.missing, b.lines)
	if len(lines) == 0 {
		return head
	}
	var text strings.Builder
	text.WriteString(head + " {\n")
	for _, l := range lines {
		inner := strings.TrimLeft(l, "\t")
		text.WriteString(margin + strings.Repeat(indent, 1+len(l)-len(inner)) + inner + "\n")
	}
	text.WriteString(margin + "}")
	return text.String()
}

// rewriteDirective rewrites a `cache` of a site.
func (r *rewriter) rewriteDirective(o occurrence) error {
	list, err := r.optionsOf(o.segment)
	if err != nil {
		return err
	}
	b := &block{rewriter: r}
	s := b.read(list).inherit(r.global)
	line := r.line(o.from)
	b.missTwice(o)
	matcher := b.matcher(o, s.exclude)
	b.writeSettings(s, line)
	r.raised = max(r.raised, s.maxBody)
	margin, indent := r.margins(o.segment)
	head := strings.TrimRight("larder "+matcher.text, " ")
	text := b.render(head, r.comments(o.segment), margin, indent)
	if s.defaultControl != "" {
		header := strings.ReplaceAll("header "+matcher.text, "header *", "header")
		text = strings.TrimRight(header, " ") + " ?Cache-Control " + quote(s.defaultControl) + "\n" + margin + text
	}
	if matcher.definition != "" {
		text = matcher.definition + "\n" + margin + text
	}
	r.replace(o.from, o.to, r.newlines(text))
	return nil
}

// newlines has the line ends that the file has.
func (r *rewriter) newlines(text string) string {
	if bytes.Contains(r.text, []byte("\r\n")) {
		return strings.ReplaceAll(text, "\n", "\r\n")
	}
	return text
}

// margins returns what stands before a segment on its line, and by how much more the lines of its
// block are indented.
func (r *rewriter) margins(s segment) (margin, indent string) {
	margin, indent = r.before(s.from), "\t"
	if s.hasBlock() && s.open+1 < s.close {
		if inner, ok := strings.CutPrefix(r.before(s.open+1), margin); ok && inner != "" {
			return margin, inner
		}
	}
	if strings.Contains(margin, " ") {
		indent = "    "
	}
	return margin, indent
}

// before is the white space in front of a token on its line.
func (r *rewriter) before(i int) string {
	line := r.text[:r.tokens[i].start]
	line = line[bytes.LastIndexByte(line, '\n')+1:]
	if len(bytes.Trim(line, " \t")) > 0 {
		return ""
	}
	return string(line)
}

// largestBody is Larder's own bound of a body, in bytes.
const largestBody = 64 << 20

// rewriteGlobal rewrites the global option. Only the stores stand there; the rest is in the
// directives.
func (r *rewriter) rewriteGlobal(o occurrence, at int) error {
	list, err := r.optionsOf(o.segment)
	if err != nil {
		return err
	}
	b := &block{rewriter: r, global: true}
	s := b.read(list)
	line := r.line(o.from)
	if slices.ContainsFunc(r.found[:at], func(other occurrence) bool { return other.use == asOption }) {
		b.missText(line, "a second global cache", "the store is one, so write all of it into one block")
	}
	if slices.ContainsFunc(r.found, func(other occurrence) bool { return other.use == asDirective }) {
		if s.noCoalescing {
			b.missText(line, "disable_coalescing", "write `coalesce off` into each larder that should have it")
		}
		if len(list) > 0 {
			b.note(line, "cache: what it says to all sites stands in each larder now")
		}
		if imported := r.importedFile(); imported != "" && !r.importsMigrated() {
			b.note(line, "cache: sites in other files (import %s) inherit it too; migrate those files with --global and the old text of this one", imported)
		}
	} else {
		b.missInherited(list, s, line)
	}
	r.raised = max(r.raised, s.maxBody) // sites of other files inherit it
	switch {
	case b.disk != "":
		if b.memoryOnly.line > 0 {
			b.note(b.memoryOnly.line, "%s: Larder's own memory tier stands over the one on disk", b.memoryOnly.name)
		}
		b.write(b.disk)
	case b.memoryOnly.line > 0:
		b.note(b.memoryOnly.line, "%s: becomes `disk off`; without that line what is stored survives a restart", b.memoryOnly.name)
		b.write("disk off")
	}
	if b.shared != "" {
		b.write(b.shared)
	}
	if r.raised > largestBody {
		b.write("max_body " + size(r.raised))
		r.raised = 0
	}
	margin, indent := r.margins(o.segment)
	text := b.render("larder", r.comments(o.segment), margin, indent)
	r.replace(o.from, o.to, r.newlines(text))
	return nil
}

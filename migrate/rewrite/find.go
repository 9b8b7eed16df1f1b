package rewrite

import "slices"

// cacheWord is the directive and the global option of cache-handler.
const cacheWord = "cache"

// use says what a `cache` is where it stands.
type use int

const (
	asOption    use = 1 << iota // in the global options
	asDirective                 // where a site's directives stand
)

// occurrence is a `cache` that is to be rewritten.
type occurrence struct {
	segment
	use    use
	nested bool   // within handle, route or the like
	unused bool   // in a snippet that nothing in the file imports
	scopes []span // the blocks around it, the nearest last: where its named matcher may stand
}

// finder walks through a Caddyfile in the order in which Caddy does: snippets where they are
// imported.
type finder struct {
	*document
	blocks
	found     []occurrence
	orders    []segment      // `order` options that name cache
	misplaced []misplaced    // what is left as it is
	walked    map[visit]bool // snippets, so that a circle of imports ends
	used      map[string]bool
	files     []int // the tokens that name files of whole sites
	inner     []int // those that name files of directives
}

// visit is a snippet, and as what it is read.
type visit struct {
	snippet string
	use     use
	nested  bool
}

// misplaced is a line that begins with cache and is no directive.
type misplaced struct {
	at     int
	within string
}

// find looks for everything that belongs to cache-handler.
func find(d *document) (*finder, error) {
	f := &finder{document: d, walked: make(map[visit]bool), used: make(map[string]bool)}
	var err error
	if f.blocks, err = d.split(0, len(d.tokens)); err != nil {
		return nil, err
	}
	if err := f.walkBlocks(f.blocks); err != nil {
		return nil, err
	}
	seen, misplaced := len(f.found), f.misplaced
	for _, name := range f.unusedSnippets() { // other files may import them
		if err := f.importSnippet(name, asDirective, false); err != nil {
			return nil, err
		}
	}
	f.misplaced = misplaced // what they have may be options of a cache
	for i := range f.found[seen:] {
		f.found[seen+i].unused = true
	}
	slices.SortFunc(f.found, func(a, b occurrence) int { return a.from - b.from })
	return f, nil
}

func (f *finder) walkBlocks(b blocks) error {
	for _, s := range b.options {
		if err := f.walkOptions(s); err != nil {
			return err
		}
	}
	for _, s := range b.sites {
		if err := f.walkRoutes(s, false, nil); err != nil {
			return err
		}
	}
	for name, at := range b.imports { // a snippet of whole sites, or a file of them
		s, ok := f.snippets[name]
		f.used[name] = true
		if !ok {
			f.files = append(f.files, at)
		}
		if v := (visit{snippet: name}); !ok || f.walked[v] {
			continue
		} else {
			f.walked[v] = true
		}
		inner, err := f.split(s.start, s.end)
		if err != nil {
			return err
		}
		if err := f.walkBlocks(inner); err != nil {
			return err
		}
	}
	return nil
}

// unusedSnippets are those that nothing in the file imports.
func (f *finder) unusedSnippets() (names []string) {
	for name := range f.snippets {
		if !f.used[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// walkOptions looks through global options.
func (f *finder) walkOptions(s span) error {
	list, err := f.segments(s.start, s.end)
	if err != nil {
		return err
	}
	for _, option := range list {
		switch f.tokens[option.from].Text {
		case cacheWord:
			f.add(occurrence{segment: option, use: asOption})
		case "order":
			if slices.ContainsFunc(f.tokens[option.from+1:option.argsEnd()], func(t token) bool { return t.Text == cacheWord }) &&
				!slices.ContainsFunc(f.orders, func(s segment) bool { return s.from == option.from }) {
				f.orders = append(f.orders, option)
			}
		case "import":
			err = f.importSegment(option, asOption, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// containers are the directives whose blocks have directives in them.
var containers = []string{"handle", "handle_path", "handle_errors", "handle_response", "route"}

// walkRoutes looks through the directives of a site, and through those within them.
func (f *finder) walkRoutes(s span, nested bool, scopes []span) error {
	list, err := f.segments(s.start, s.end)
	if err != nil {
		return err
	}
	scopes = append(slices.Clone(scopes), s)
	for _, directive := range list {
		switch name := f.tokens[directive.from].Text; {
		case name == cacheWord:
			f.add(occurrence{segment: directive, use: asDirective, nested: nested, scopes: scopes})
		case name == "import":
			err = f.importSegment(directive, asDirective, nested)
		case !directive.hasBlock():
		case slices.Contains(containers, name):
			err = f.walkRoutes(span{directive.open + 1, directive.close}, true, scopes)
		default:
			err = f.walkOther(name, span{directive.open + 1, directive.close}, scopes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// walkOther looks through a block of another directive. Of reverse_proxy and intercept
// handle_response has directives in it.
func (f *finder) walkOther(within string, s span, scopes []span) error {
	list, err := f.segments(s.start, s.end)
	if err != nil {
		return err
	}
	for _, line := range list {
		switch name := f.tokens[line.from].Text; {
		case name == cacheWord:
			if m := (misplaced{line.from, within}); !slices.Contains(f.misplaced, m) {
				f.misplaced = append(f.misplaced, m)
			}
		case name == "import":
			f.markImport(line)
		case name == "handle_response" && line.hasBlock():
			err = f.walkRoutes(span{line.open + 1, line.close}, true, scopes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// importedFile is the first file of whole sites that is imported, as it is written. There may be
// none. A file that is imported inside a site has directives of that site.
func (f *finder) importedFile() string {
	if len(f.files) == 0 {
		return ""
	}
	return f.raw(slices.Min(f.files))
}

// importedFiles are the files whose sites or directives may have a cache, as they are written.
func (f *finder) importedFiles() (names []string) {
	for _, at := range slices.Concat(f.files, f.inner) {
		names = append(names, f.tokens[at].Text)
	}
	return names
}

func (f *finder) markImport(s segment) {
	if s.from+1 < s.argsEnd() {
		f.used[f.tokens[s.from+1].Text] = true
	}
}

func (f *finder) importSegment(s segment, as use, nested bool) error {
	f.markImport(s)
	if s.hasBlock() {
		if err := f.walkOther("import", span{s.open + 1, s.close}, nil); err != nil {
			return err
		}
	}
	if s.from+1 >= s.argsEnd() {
		return nil
	}
	name := f.tokens[s.from+1].Text
	if _, ok := f.snippets[name]; !ok && as == asDirective {
		f.inner = append(f.inner, s.from+1)
	}
	return f.importSnippet(name, as, nested)
}

// importSnippet looks through a snippet, if it is one of this file. Matchers around an import are
// not those of another import, so a snippet knows its own alone.
func (f *finder) importSnippet(name string, as use, nested bool) error {
	s, ok := f.snippets[name]
	if v := (visit{name, as, nested}); !ok || f.walked[v] {
		return nil
	} else {
		f.walked[v] = true
	}
	if as == asOption {
		return f.walkOptions(s)
	}
	return f.walkRoutes(s, nested, nil)
}

// add notes an occurrence, once. A snippet's may be met several times.
func (f *finder) add(o occurrence) {
	i := slices.IndexFunc(f.found, func(other occurrence) bool { return other.from == o.from })
	if i < 0 {
		f.found = append(f.found, o)
		return
	}
	f.found[i].use |= o.use
	f.found[i].nested = f.found[i].nested || o.nested
}

// Surveyed is what a Caddyfile, or what a Caddyfile imports, has.
type Surveyed struct {
	Cache    bool     // a line begins with `cache`
	Imports  []string // files and snippets, as they are written
	Snippets []string // names of those that it defines
}

// Survey looks through a Caddyfile, or what a Caddyfile imports.
func Survey(file []byte) (has Surveyed, err error) {
	tokens, err := tokenize(file)
	if err != nil {
		return Surveyed{}, err
	}
	for i, t := range tokens {
		switch {
		case !t.first:
		case t.Text == cacheWord:
			has.Cache = true
		case t.Text == "import" && i+1 < len(tokens):
			has.Imports = append(has.Imports, tokens[i+1].Text)
		case len(t.Text) > 2 && t.Text[0] == '(' && t.Text[len(t.Text)-1] == ')':
			has.Snippets = append(has.Snippets, t.Text[1:len(t.Text)-1])
		}
	}
	return has, nil
}

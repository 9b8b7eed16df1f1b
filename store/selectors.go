package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Selectors say what to purge. They are OR-ed; strings are compared exactly, so the caller
// normalises URLs first.
type Selectors struct {
	// Tags are surrogate keys, internal ones included: at every listener, or at some, as
	// TagElsewhere has it.
	Tags []string
	// URLs are absolute and go with all their variants: at every listener, at one, as URLAt has it,
	// or at some, as URLElsewhere has it; or their paths with any query, as AnyQuery has it.
	URLs []string
	// Prefixes are beginnings of absolute URLs.
	Prefixes []string
	// Hosts are authorities, of http and https alike: in lower case, with a default port only where
	// that is meant, see selectsHost.
	Hosts []string
	// All selects everything.
	All bool
}

// ErrNoSelector is returned for a purge that selects nothing.
var ErrNoSelector = errors.New("purge: no selector")

func (s *Selectors) check() error {
	if !s.All && len(s.Tags)+len(s.URLs)+len(s.Prefixes)+len(s.Hosts) == 0 {
		return ErrNoSelector
	}
	for _, list := range [][]string{s.Tags, s.URLs, s.Prefixes, s.Hosts} {
		if slices.Contains(list, "") {
			return fmt.Errorf("purge: empty selector: %w", ErrNoSelector)
		}
	}
	return nil
}

// distinct copies the lists, which belong to the caller, each selector once, and none that another
// one takes in: those that stand there many times would cost their number each, where they are
// noted and counted.
func (s *Selectors) distinct() Selectors {
	if s.All {
		return Selectors{All: true}
	}
	once := func(list []string) []string {
		list = slices.Clone(list)
		slices.Sort(list)
		return slices.Compact(list)
	}
	return Selectors{Tags: once(s.Tags), URLs: once(s.URLs), Prefixes: shortest(once(s.Prefixes)), Hosts: once(s.Hosts)}
}

// shortest leaves of sorted prefixes those that no other one is a beginning of. A beginning stands
// before all that begin with it, and these next to each other.
func shortest(prefixes []string) []string {
	var kept []string
	for _, p := range prefixes {
		if len(kept) == 0 || !strings.HasPrefix(p, kept[len(kept)-1]) {
			kept = append(kept, p)
		}
	}
	return kept
}

// match tells whether any selector names the entry.
func (s *Selectors) match(url string, tags []string) bool {
	if s.All || slices.ContainsFunc(s.URLs, func(selector string) bool { return selectsURL(selector, url) }) {
		return true
	}
	for _, selector := range s.Tags {
		if slices.ContainsFunc(tags, func(tag string) bool { return selectsTag(selector, tag, url) }) {
			return true
		}
	}
	for _, p := range s.Prefixes {
		if strings.HasPrefix(url, p) {
			return true
		}
	}
	return slices.ContainsFunc(s.Hosts, func(selector string) bool { return selectsHost(selector, url) })
}

// selector is one of Selectors.
type selector struct {
	kind  selectorKind
	value string // the tag, URL, prefix or host
}

type selectorKind uint8

const (
	byTag selectorKind = iota
	byURL
	byPrefix
	byHost
	byAll
)

// each calls fn with every selector.
func (s *Selectors) each(fn func(s selector)) {
	for kind, list := range [...][]string{byTag: s.Tags, byURL: s.URLs, byPrefix: s.Prefixes, byHost: s.Hosts} {
		for _, value := range list {
			fn(selector{selectorKind(kind), value})
		}
	}
	if s.All {
		fn(selector{kind: byAll})
	}
}

// bySelector has a value for each of many selectors, and finds those of the selectors that name a
// response, however many others there are.
type bySelector[V comparable] struct {
	tags, urls      map[string]V
	hosts, prefixes map[string]V
	lengths         map[int]int // of prefixes, with how many are that long
	// The servers that selectors of URLs and of tags leave out, with how many do. They are those of
	// a configuration, so there are few.
	urlsElsewhere, tagsElsewhere map[Servers]int
	anyQueries                   int // of urls, those of AnyQuery
	all                          V
}

func newBySelector[V comparable]() bySelector[V] {
	return bySelector[V]{
		tags: make(map[string]V), urls: make(map[string]V),
		hosts: make(map[string]V), prefixes: make(map[string]V), lengths: make(map[int]int),
		urlsElsewhere: make(map[Servers]int), tagsElsewhere: make(map[Servers]int),
	}
}

// of are the values of a kind, nil for that of everything.
func (b *bySelector[V]) of(kind selectorKind) map[string]V {
	switch kind {
	case byTag:
		return b.tags
	case byURL:
		return b.urls
	case byPrefix:
		return b.prefixes
	case byHost:
		return b.hosts
	case byAll:
	}
	return nil
}

// get is the value of a selector, the zero value where it has none.
func (b *bySelector[V]) get(s selector) V {
	if s.kind == byAll {
		return b.all
	}
	return b.of(s.kind)[s.value]
}

// put sets the value of a selector that has none.
func (b *bySelector[V]) put(s selector, v V) {
	if s.kind == byAll {
		b.all = v
		return
	}
	b.of(s.kind)[s.value] = v
	b.count(s, 1)
}

// count counts a selector in or out, where it is looked for by a part of it.
func (b *bySelector[V]) count(s selector, n int) {
	switch s.kind {
	case byPrefix:
		add(b.lengths, len(s.value), n)
	case byURL:
		if strings.Contains(s.value, anyQuery) {
			b.anyQueries += n
		}
		if _, servers, elsewhere := CutURLElsewhere(s.value); elsewhere {
			add(b.urlsElsewhere, servers, n)
		}
	case byTag:
		if _, servers, elsewhere := CutTagElsewhere(s.value); elsewhere {
			add(b.tagsElsewhere, servers, n)
		}
	case byHost, byAll:
	}
}

// add adds to a count, which goes when it is none.
func add[K comparable](counts map[K]int, of K, n int) {
	if counts[of] += n; counts[of] == 0 {
		delete(counts, of)
	}
}

// remove takes the value of a selector that has one away.
func (b *bySelector[V]) remove(s selector) {
	if s.kind == byAll {
		var none V
		b.all = none
		return
	}
	delete(b.of(s.kind), s.value)
	b.count(s, -1)
}

// naming calls fn with the value of every selector that names a response.
func (b *bySelector[V]) naming(url string, tags []string, fn func(v V)) {
	var none V
	hit := func(v V) {
		if v != none {
			fn(v)
		}
	}
	hit(b.all)
	for _, t := range tags {
		hit(b.tags[t])
	}
	for servers := range b.tagsElsewhere {
		if isElsewhere(url, servers) {
			for _, t := range tags {
				hit(b.tags[TagElsewhere(t, servers)])
			}
		}
	}
	if len(b.urls) > 0 {
		b.namingURL(url, hit)
	}
	if b.anyQueries > 0 {
		b.namingURL(AnyQuery(url), hit)
	}
	if len(b.hosts) > 0 {
		host, full := HostOf(url), withPort(url)
		if hit(b.hosts[host]); full != host {
			hit(b.hosts[full])
		}
	}
	for n := range b.lengths {
		if n <= len(url) {
			hit(b.prefixes[url[:n]])
		}
	}
}

// namingURL calls hit with the value of every selector of URLs that names one.
func (b *bySelector[V]) namingURL(url string, hit func(v V)) {
	hit(b.urls[url])
	bare := BareURL(url)
	if len(bare) < len(url) {
		hit(b.urls[bare])
	}
	for servers := range b.urlsElsewhere {
		if isElsewhere(url, servers) {
			hit(b.urls[URLElsewhere(bare, servers)])
		}
	}
}

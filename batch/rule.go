package batch

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The placeholders of a rule's texts.
const (
	idPlaceholder  = "{id}"
	idsPlaceholder = "{ids}"
)

// The defaults of a [Config].
const (
	DefaultJoin   = ","
	DefaultWindow = 5 * time.Millisecond
	DefaultMax    = 100
)

// The bounds of a [Config].
const (
	// MaxWindow is the longest window: each request waits for it.
	MaxWindow = 10 * time.Second
	// MaxIDs is the largest Max.
	MaxIDs = 10_000
	// minIDs is the smallest: one id asks on its own.
	minIDs = 2
)

// Missing is what is answered for an id that the answer lacks.
type Missing uint8

// What it may be.
const (
	// MissingSingle: the request asks on its own.
	MissingSingle Missing = iota
	// Missing404: the answer is a 404.
	Missing404
)

// Config is a rule as it is written. A zero field means the default.
type Config struct {
	// Path is what the requests ask for, with one {id}: /products/{id}.
	Path string
	// URL is what is asked for in their place, path and query, with one {ids}: /products?ids={ids}.
	URL string
	// Join stands between two ids. Default: [DefaultJoin].
	Join string
	// Window is how long the first request waits for others. Default: 5ms; at most [MaxWindow].
	Window time.Duration
	// Max is how many ids one request may have, from 2 to 10,000. Default: 100.
	Max int
	// Items is the path of the array or object that holds the items, member names with dots
	// between them. Empty: the whole answer.
	Items string
	// ID is the path of the id in an item. Empty: the items are members of an object, named by
	// their ids.
	ID string
	// Missing is what becomes of an id that the answer lacks.
	Missing Missing
	// Tags are texts that may have {id}, and placeholders of the server.
	Tags []string
}

// Rule is a Config that can be meant, made ready. It is read only.
type Rule struct {
	// Path is the Config's.
	Path string
	// Window, Max and Missing are the Config's, or their defaults.
	Window  time.Duration
	Max     int // ids in a request
	Missing Missing

	prefix, suffix string // of the escaped path, around the id
	target         string
	join           string
	items, id      []string
	tags           [][]string // between one {id} and the next
}

// New returns the rule of a Config. An error says what to write instead.
func New(c Config) (*Rule, error) {
	r := &Rule{Path: c.Path, Window: c.Window, Max: c.Max, Missing: c.Missing, target: c.URL, join: c.Join}
	if r.Window == 0 {
		r.Window = DefaultWindow
	}
	if r.Max == 0 {
		r.Max = DefaultMax
	}
	if r.join == "" {
		r.join = DefaultJoin
	}
	var err error
	if r.prefix, r.suffix, err = pattern(c.Path); err != nil {
		return nil, err
	}
	if r.items, err = members("items", c.Items); err != nil {
		return nil, err
	}
	if r.id, err = members("id", c.ID); err != nil {
		return nil, err
	}
	for _, text := range c.Tags {
		r.tags = append(r.tags, strings.Split(text, idPlaceholder))
	}
	return r, errors.Join(r.checkNumbers(), r.checkTarget())
}

func (r *Rule) checkNumbers() error {
	switch {
	case r.Window < 0 || r.Window > MaxWindow:
		return fmt.Errorf("window %v is not a time to wait; write one of up to %v, such as 5ms", r.Window, MaxWindow)
	case r.Max < minIDs || r.Max > MaxIDs:
		return fmt.Errorf("max %d is not a number of ids for one request; write one from %d to %d", r.Max, minIDs, MaxIDs)
	}
	return nil
}

// pattern splits a path at its {id}. The parts are as URLs spell them.
func pattern(path string) (prefix, suffix string, err error) {
	before, after, found := strings.Cut(path, idPlaceholder)
	switch {
	case !strings.HasPrefix(path, "/"):
		return "", "", fmt.Errorf("%q is not a path; write one that begins with a slash, such as /products/{id}", path)
	case !found, strings.ContainsAny(before+after, "{}"):
		return "", "", fmt.Errorf("path %q has not one {id} and no other placeholder; write it as in /products/{id}", path)
	case strings.ContainsAny(path, "?#*"):
		return "", "", fmt.Errorf("path %q has ?, # or *; write the path alone, such as /products/{id}", path)
	}
	return escapedPath(before), escapedPath(after), nil
}

// escapedPath returns a path as URLs spell it, whether it is written so or not.
func escapedPath(path string) string {
	if plain, err := url.PathUnescape(path); err == nil {
		path = plain
	}
	return (&url.URL{Path: path}).EscapedPath()
}

func (r *Rule) checkTarget() error {
	before, after, found := strings.Cut(r.target, idsPlaceholder)
	switch {
	case r.target == "":
		return errors.New("url is missing; write what is asked for in place of the single requests: url /products?ids={ids}")
	case !strings.HasPrefix(r.target, "/") || strings.HasPrefix(r.target, "//"):
		return fmt.Errorf("url %q is not a path of the same site; write path and query, such as /products?ids={ids}", r.target)
	case !found, strings.ContainsAny(before+after, "{}"):
		return fmt.Errorf("url %q has not one {ids} and no other placeholder; write it as in /products?ids={ids}", r.target)
	case strings.ContainsFunc(r.target, notInURL):
		return fmt.Errorf("url %q has what stands in no URL; write it escaped: a space is %%20", r.target)
	case strings.ContainsFunc(r.join, notInURL):
		return fmt.Errorf("join %q has what stands in no URL; write one such as `,` or `&ids=`, and a space as %%20", r.join)
	}
	if _, err := url.ParseRequestURI(r.Target([]string{"1", "2"})); err != nil {
		return fmt.Errorf("url %q: %w; write it as in /products?ids={ids}", r.target, err)
	}
	return nil
}

// notInURL reports whether a byte stands in no path and no query as it is.
func notInURL(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("#\"<>\\^`", c) }

// members splits a path of member names.
func members(word, path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	names := strings.Split(path, ".")
	if slices.Contains(names, "") {
		return nil, fmt.Errorf("%s %q is not a path in JSON; write member names with dots between them, such as data.products", word, path)
	}
	return names, nil
}

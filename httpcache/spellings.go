package httpcache

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/larder-cache/larder/store"
	"github.com/larder-cache/larder/urlform"
)

// A purge of a URL has to name what every query rule may have made of its query, and what a route
// behind another has made of that. Rules that each leave out another parameter make a query of each
// subset. A client chooses the query of what it invalidates, so this is bounded, and what it comes
// to is never cut off: a purge of more than that takes every query of the path.
const (
	maxSpellings = 16       // of one query, it counted
	maxRespelled = 32 << 10 // bytes that rules are applied to for one query, the same ones each time
)

// StoredURLs returns the URLs under which the routes of a configuration may have stored an absolute
// URL: selectors of URLs, by store's terms. Each route has its own query rules, and a route behind
// another is asked for the query that the other's rules have left, and for a path that was sent
// with raw bytes by another form (see urlform.Proxied). Where the queries come to more than 16
// or to more than 32 KiB of work, it returns the path with any query instead (see
// store.AnyQuery). The rules are to be DistinctRules. An error says that raw is no such URL.
func StoredURLs(raw string, rules []*KeyRules) ([]string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("not a URL: %w", err)
	}
	authority, err := urlform.Authority(u.Scheme, u.Host)
	if err != nil {
		return nil, fmt.Errorf("not an authority: %w", err)
	}
	paths := []*url.URL{u}
	if proxied, differs := urlform.Proxied(u); differs {
		paths = append(paths, proxied)
	}
	s := spellings{of: []spelling{{query: urlform.Query(u.RawQuery)}}}
	all := s.complete(rules)
	var urls []string
	for _, path := range paths {
		if !all {
			urls = append(urls, store.AnyQuery(urlform.Join(u.Scheme, authority, path, "")))
			continue
		}
		for _, each := range s.of {
			urls = append(urls, urlform.Join(u.Scheme, authority, path, each.query))
		}
	}
	return urls, nil
}

// Respelled returns selectors of URLs, as StoredURLs and store.URLAt make them, and beside them
// those of what rules make of their queries: another machine has made them by the rules that it
// knows. The rules are to be DistinctRules.
func Respelled(selectors []string, rules []*KeyRules) []string {
	if len(rules) == 0 {
		return selectors
	}
	all := slices.Clip(selectors)
	for _, selector := range selectors {
		url := store.BareURL(selector)
		path, query, _ := strings.Cut(url, "?")
		if query == "" || selector == store.AnyQuery(selector) {
			continue
		}
		s := spellings{of: []spelling{{query: query}}}
		if !s.complete(rules) {
			all = append(all, store.AnyQuery(selector))
			continue
		}
		for _, each := range s.of[1:] {
			if each.query != "" {
				each.query = "?" + each.query
			}
			all = append(all, path+each.query+selector[len(url):])
		}
	}
	return all
}

// StoredPrefixes returns the prefixes under which what has a prefix may be stored: itself and, if
// its path may have been sent with raw bytes, the form in which a proxy asks for it. Without an
// escape in the prefix these may be behind it. An error says that raw is no URL.
func StoredPrefixes(raw string) ([]string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("not a URL: %w", err)
	}
	proxied, differs := urlform.ProxiedPrefix(u)
	if !differs {
		return []string{raw}, nil
	}
	return []string{raw, urlform.Absolute(u.Scheme, u.Host, proxied)}, nil
}

// spellings are a query and what rules make of it.
type spellings struct {
	of      []spelling
	applied int // bytes that rules were applied to
}

// spelling is one of them, and the rules that it is the result of; nil for the query itself.
type spelling struct {
	query string
	by    *KeyRules
}

// complete adds to the query the results of applying the rules to it, and of applying them to these
// results. It reports false where that passes a bound.
func (s *spellings) complete(rules []*KeyRules) bool {
	for i := 0; i < len(s.of); i++ {
		from := s.of[i]
		for _, r := range rules {
			if r == from.by { // which change nothing that they have made
				continue
			}
			if s.applied+len(from.query) > maxRespelled {
				return false
			}
			s.applied += len(from.query)
			next := r.Query.apply(from.query)
			if slices.ContainsFunc(s.of, func(known spelling) bool { return known.query == next }) {
				continue
			}
			if len(s.of) == maxSpellings {
				return false
			}
			s.of = append(s.of, spelling{next, r})
		}
	}
	return true
}

// DistinctRules returns those of rules that do something to a query, each once: many sites have the
// same.
func DistinctRules(rules []*KeyRules) (distinct []*KeyRules) {
	seen := make(map[string]bool)
	for _, r := range rules {
		if r.Query.None() {
			continue
		}
		if label := r.Query.label(); !seen[label] {
			seen[label] = true
			distinct = append(distinct, r)
		}
	}
	return distinct
}

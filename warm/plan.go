package warm

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/larder-cache/larder/adminapi"
	"github.com/larder-cache/larder/urlform"
)

// Limits of a plan.
const (
	defaultLimit = 1_000_000 // URLs
	maxPlanBytes = 256 << 20 // of their text
	maxURLBytes  = 8 << 10   // of one URL: what servers take as a request line
)

// plan is which URLs are to be asked for, each once and in the order in which they were found.
type plan struct {
	urls    []string
	limit   int
	bytes   int
	seen    map[string]struct{}
	skipped Skipped
	failed  failures
}

// Skipped counts what was found and is not asked for.
type Skipped struct {
	Duplicates int `json:"duplicates"`  // URLs that were found before
	OtherHosts int `json:"other_hosts"` // URLs not of the site of a sitemap, and of none that --site names
	OverLimit  int `json:"over_limit"`  // URLs beyond what --limit allows
	Lines      int `json:"lines"`       // lines of logs that are none of a log
	Forgotten  int `json:"forgotten"`   // responses that a purge has dropped and the cache does not remember
	Resumed    int `json:"resumed"`     // requests that a run of before has made
}

func newPlan(limit int) *plan { return &plan{limit: limit, seen: make(map[string]struct{})} }

// add takes in a URL in its normal form.
func (p *plan) add(normal string) {
	if _, found := p.seen[normal]; found {
		p.skipped.Duplicates++
		return
	}
	if p.full() {
		p.skipped.OverLimit++
		return
	}
	p.seen[normal] = struct{}{}
	p.urls = append(p.urls, normal)
	p.bytes += len(normal)
}

// full reports whether no URL more is taken in.
func (p *plan) full() bool { return len(p.urls) >= p.limit || p.bytes >= maxPlanBytes }

// has reports whether a URL in its normal form is asked for anyway.
func (p *plan) has(normal string) bool {
	_, found := p.seen[normal]
	return found
}

// normalize gives an absolute URL the form in which requests are made for it, and entries are
// stored. A fragment is left out, as clients do. The error is a sentence without its subject.
func normalize(text string) (string, error) {
	if len(text) > maxURLBytes {
		return "", fmt.Errorf("has %d bytes; a URL has at most %d", len(text), maxURLBytes)
	}
	text, _, _ = strings.Cut(text, "#")
	return urlform.Parse(text)
}

// site is a host that URLs may be of. Scheme and port are left out where the port is the default
// one, so that http://example.com and https://example.com are one site.
type site string

// siteOf returns the site of a URL in its normal form.
func siteOf(normal string) site {
	_, rest, _ := strings.Cut(normal, "://")
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest = rest[:end]
	}
	return site(rest)
}

// sites are those that logs, purges and sitemaps may name, the last besides their own, and what
// paths without a host belong to.
type sites struct {
	known map[site]bool
	bases []string // scheme://authority of each
}

// newSites reads the values of --site.
func newSites(texts []string) (*sites, error) {
	s := &sites{known: make(map[site]bool)}
	for _, text := range texts {
		normal, err := normalize(text)
		if err != nil {
			return nil, fmt.Errorf("--site %s %w", shorten(text), err)
		}
		u, err := url.Parse(normal)
		if err != nil || u.Path != "/" || u.RawQuery != "" {
			return nil, fmt.Errorf("--site %s has a path; give scheme and host, such as https://example.com", shorten(text))
		}
		s.known[siteOf(normal)] = true
		s.bases = append(s.bases, strings.TrimSuffix(normal, "/"))
	}
	return s, nil
}

// leaveOut reports whether sites are given, and a URL in its normal form is of none of them.
func (s *sites) leaveOut(normal string) bool { return len(s.known) > 0 && !s.known[siteOf(normal)] }

// base is what paths without a host belong to, empty unless exactly one site is given.
func (s *sites) base() string {
	if len(s.bases) != 1 {
		return ""
	}
	return s.bases[0]
}

// shorten is for texts of others in messages: one line, printable, not too long.
func shorten(text string) string {
	const most = 300
	text = strings.ToValidUTF8(text, "?")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return adminapi.Printable(text)
}

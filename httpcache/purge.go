package httpcache

import (
	"context"
	"fmt"
	"hash/maphash"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/larder-cache/larder/store"
	"github.com/larder-cache/larder/urlform"
)

// Purger carries out purges: of the admin API, of the command, and of unsafe requests
// (RFC 9111 4.4).
type Purger interface {
	// Purge purges what the selectors name and returns how many responses matched. When it has
	// returned without an error, no request that starts later is answered with any of them, nor
	// with what was on its way, whatever becomes of the process.
	Purge(ctx context.Context, selectors store.Selectors, options PurgeOptions) (matched int, err error)
}

// PurgeOptions are how a purge is carried out.
type PurgeOptions struct {
	store.PurgeOptions
	// UnlessNoop leaves a purge out that would change nothing. The selectors are URLs and tags.
	UnlessNoop bool
}

// Purge implements Purger, for this Cache alone.
func (c *Cache) Purge(_ context.Context, selectors store.Selectors, options PurgeOptions) (matched int, err error) {
	if !options.UnlessNoop || c.MayReachBySearch(&selectors) {
		ReachSearched(&selectors)
	}
	if options.UnlessNoop && c.IsNoop(&selectors) {
		return 0, nil
	}
	return c.store.Purge(selectors, options.PurgeOptions)
}

// IsNoop reports whether a purge of the selectors, which are URLs and tags, would change nothing of
// what is stored or on its way.
func (c *Cache) IsNoop(selectors *store.Selectors) bool {
	return c.store.PurgeIsNoop(selectors, func() bool { return c.inFlight.any(selectors) })
}

// MayReachBySearch reports whether anything may be stored, or on its way, that answers for the URLs
// of selectors without being stored under them. Else most unsafe requests would make tags for
// nothing.
func (c *Cache) MayReachBySearch(selectors *store.Selectors) bool {
	return c.onDisk || c.varianceHints.used.Load() ||
		slices.ContainsFunc(selectors.URLs, func(url string) bool { return c.inFlight.of(url).Load() > 0 })
}

// StoredURLs returns the URLs under which the handlers of a configuration may have stored an absolute URL: each has its own query rules, and
// one behind another is asked for what the other's rules have left.
func StoredURLs(raw string, rules []*KeyRules) ([]string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("not a URL: %w", err)
	}
	authority, err := urlform.Authority(u.Scheme, u.Host)
	if err != nil {
		return nil, fmt.Errorf("not an authority: %w", err)
	}
	var urls []string
	for _, query := range spellings(urlform.Query(u.RawQuery), rules) {
		urls = append(urls, urlform.Join(u.Scheme, authority, u, query))
	}
	return urls, nil
}

// maxSpellings bounds what rules make of the results of others. What one handler makes of the query itself is never left out.
const maxSpellings = 64

// spellings are a query and what the rules make of it, and of what others have made of it.
func spellings(query string, rules []*KeyRules) []string {
	all := []string{query}
	for i := 0; i < len(all) && (i == 0 || len(all) < maxSpellings); i++ {
		for _, r := range rules {
			if next := r.Query.apply(all[i]); !slices.Contains(all, next) {
				all = append(all, next)
			}
		}
	}
	return all
}

// inFlight counts the fetches under way by the hash of their URL without the query, so that an invalidation can tell, nearly always,
// whether there is one that it could hit: by its path too, see searchTag. URLs with the same place are taken for one.
type inFlight struct {
	total  atomic.Int32
	byPath [1 << 10]atomic.Int32
}

var fetchingSeed = maphash.MakeSeed()

func (f *inFlight) of(url string) *atomic.Int32 {
	path, _, _ := strings.Cut(store.BareURL(url), "?")
	return &f.byPath[maphash.String(fetchingSeed, path)%uint64(len(f.byPath))]
}

// any reports whether a fetch is under way whose response the selectors, which are URLs and tags, may name. Its tags nobody knows yet, but
// those of its path.
func (f *inFlight) any(selectors *store.Selectors) bool {
	if slices.ContainsFunc(selectors.Tags, func(tag string) bool { return !strings.HasPrefix(tag, searchTagPrefix) }) {
		return f.total.Load() > 0
	}
	return slices.ContainsFunc(selectors.URLs, func(url string) bool { return f.of(url).Load() > 0 })
}

// ticket is the store's, counted in fetching from before it is opened until after it has ended.
type ticket struct {
	*store.Ticket
	fetching *inFlight
	byPath   *atomic.Int32
}

// begin opens the ticket of a fetch of url.
func (c *Cache) begin(url string) ticket {
	t := ticket{fetching: &c.inFlight, byPath: c.inFlight.of(url)}
	t.fetching.total.Add(1)
	t.byPath.Add(1)
	t.Ticket = c.store.Begin()
	return t
}

// End closes the ticket, once.
func (t ticket) End() {
	t.Ticket.End()
	t.byPath.Add(-1)
	t.fetching.total.Add(-1)
}

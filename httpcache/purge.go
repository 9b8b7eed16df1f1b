package httpcache

import (
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/larder-cache/larder/store"
)

// Purger carries out the purges of the admin API, of the command, and of unsafe requests (RFC 9111
// 4.4).
type Purger interface {
	// Purge purges the responses that the selectors name and returns how many matched. After it has
	// returned without an error, no request that starts later is answered with any of them, nor
	// with one of them that was still being fetched. A crash of the process does not change that.
	Purge(ctx context.Context, selectors store.Selectors, options PurgeOptions) (matched int, err error)
	// PastRules returns the query rules by which anything that Purge reaches may have been stored.
	// The list must not be changed.
	PastRules() []*KeyRules
}

// PurgeOptions say how a purge is carried out.
type PurgeOptions struct {
	store.PurgeOptions
	// UnlessNoop skips a purge that would change nothing. The selectors must be URLs and tags.
	UnlessNoop bool
	// Named says that an operator's rule or the origin names the selectors. Other machines may have
	// what they name, even if this one has not.
	Named bool
}

// Purge implements Purger for this Cache alone. Its errors are those of [store.Store.Purge].
func (c *Cache) Purge(
	_ context.Context, selectors store.Selectors, options PurgeOptions,
) (matched int, err error) {
	if !options.UnlessNoop || c.MayReachBySearch(&selectors) {
		ReachSearched(&selectors)
	}
	if options.UnlessNoop && c.IsNoop(&selectors, options.Labels) {
		return 0, nil
	}
	return c.store.Purge(selectors, options.PurgeOptions)
}

// IsNoop reports whether a purge of the selectors, which are URLs and tags, would change nothing
// that is stored or being fetched. read is when the labels were read by which they were made: what
// is found in a file that has brought others since, says nothing.
func (c *Cache) IsNoop(selectors *store.Selectors, read store.LabelsTime) bool {
	return c.store.PurgeIsNoop(selectors, func() bool { return c.inFlight.any(selectors) }) && !c.store.LabelsSince(read)
}

// MayReachBySearch reports whether a response may be stored, or be on its way, that answers for the
// URLs of selectors but is stored under others. Without this check most unsafe requests would make
// tags for nothing.
func (c *Cache) MayReachBySearch(selectors *store.Selectors) bool {
	return c.store.HasDisk() || c.varianceHints.used.Load() || c.inFlight.anyOf(selectors.URLs)
}

// inFlight counts the fetches under way by a hash of their URL's path. So an invalidation can tell,
// nearly always, whether it could hit one of them, by its path as well (see searchTag). URLs with
// the same hash count as one.
type inFlight struct {
	total  atomic.Int32
	byPath [1 << 14]atomic.Int32
}

var fetchingSeed = maphash.MakeSeed()

func (f *inFlight) of(url string) *atomic.Int32 {
	path, _, _ := strings.Cut(store.BareURL(url), "?")
	return &f.byPath[maphash.String(fetchingSeed, path)%uint64(len(f.byPath))]
}

// any reports whether a fetch is under way whose response the selectors, which are URLs and tags,
// may name. Its tags are not known before it has a header, except for that of its path.
func (f *inFlight) any(selectors *store.Selectors) bool {
	if slices.ContainsFunc(selectors.Tags, func(tag string) bool {
		bare, _, _ := store.CutTagElsewhere(tag)
		return !strings.HasPrefix(bare, searchTagPrefix)
	}) {
		return f.total.Load() > 0
	}
	return f.anyOf(selectors.URLs)
}

// anyOf reports whether a fetch of one of the URLs, or of another with its path, is under way.
func (f *inFlight) anyOf(urls []string) bool {
	return f.total.Load() > 0 && slices.ContainsFunc(urls, func(url string) bool { return f.of(url).Load() > 0 })
}

// ticket is the store's ticket. It is counted as in flight from before the store opens it until
// after it has ended.
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

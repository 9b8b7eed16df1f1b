package purge

import (
	"context"
	"errors"
)

// Selectors is a decoded purge request. An entry that matches any of the lists is selected, with
// all its variants. Everything is normalised: URLs and prefixes are absolute, with scheme and
// authority in lower case, without default port and trailing dot; hosts are authorities in the same
// form.
type Selectors struct {
	Tags     []string `json:"tags,omitempty"`     // exact tags
	URLs     []string `json:"urls,omitempty"`     // absolute URLs, before the key's query rules
	Prefixes []string `json:"prefixes,omitempty"` // beginnings of absolute URLs, past the authority
	Hosts    []string `json:"hosts,omitempty"`    // authorities
	All      bool     `json:"all,omitempty"`      // everything

	Soft   bool `json:"soft,omitempty"`    // mark stale instead of removing
	DryRun bool `json:"dry_run,omitempty"` // count only
}

// Empty reports whether nothing is selected.
func (s Selectors) Empty() bool {
	return len(s.Tags) == 0 && len(s.URLs) == 0 && len(s.Prefixes) == 0 && len(s.Hosts) == 0 && !s.All
}

// Query asks for a page of the listing. Filters that are set must all match; they are normalised as
// in Selectors.
type Query struct {
	Tag    string // exact tag, or empty
	Prefix string // beginning of an absolute URL, or empty
	Host   string // authority, or empty
	Limit  int    // 1 to 1000
	Cursor string // Next of the page before, or empty for the first
}

// Listing is a page of stored responses.
type Listing struct {
	Entries []Entry `json:"entries"` // may be empty although more pages follow
	Next    string  `json:"next"`    // the cursor of the next page, empty after the last
}

// Entry describes a stored response. Each variant of a URL is an item.
type Entry struct {
	URL     string   `json:"url"`               // as the client sent it, authority normalised
	Status  int      `json:"status"`            // of the response
	Size    int64    `json:"size"`              // of the body, in bytes
	Age     int64    `json:"age"`               // seconds, RFC 9111, section 4.2.3
	TTL     int64    `json:"ttl"`               // seconds of freshness left, negative when stale
	Tags    []string `json:"tags"`              // in no particular order
	Tier    string   `json:"tier"`              // memory, disk or both
	Variant string   `json:"variant,omitempty"` // what Vary chose it by
	// FetchMS is how long the origin takes for it: milliseconds, a moving average of its fetches.
	FetchMS float64 `json:"fetch_ms,omitempty"`
}

// ErrCursor is what Cache.Entries returns, wrapped or not, for a cursor that it never gave out. The
// caller has made a mistake then, and not the cache.
var ErrCursor = errors.New("the cursor is not one that a listing gave")

// Purged is what became of a purge.
type Purged struct {
	Matched int    // stored responses of this process
	Reach   *Reach // nil where there is no fleet
}

// Cache is what the admin API needs of the running cache.
type Cache interface {
	// Purge carries a purge out, or only counts if s.DryRun. When it returns nil the purge holds:
	// no request that starts later gets a response that was stored, or whose fetch began, before.
	// An error means that the purge could not be made durable, that a dry run could not count, or,
	// if it wraps ErrNotEverywhere, that the purge holds on this node of a fleet, and may not on
	// others.
	Purge(ctx context.Context, s Selectors) (Purged, error)

	// Stats returns a value that encoding/json can marshal to an object.
	Stats() any

	// Entries returns a page of the listing, or an error that wraps ErrCursor.
	Entries(q Query) (Listing, error)

	// Fleet returns the nodes of the fleet, or an error that wraps ErrNoFleet.
	Fleet(ctx context.Context) (Fleet, error)
}

// Register adds the admin API and the command to Caddy. cache returns the running cache, or nil
// while there is none (no configuration with larder has been loaded); requests are then answered
// 503. It is called at every request, from any goroutine. Register panics if another plugin has
// taken the names, and is called once, from an init function.
func Register(cache func() Cache) {
	registerAdmin(cache)
	registerCommand()
}

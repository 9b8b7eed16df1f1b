package purge

import "context"

// Selectors is a decoded purge request. An entry that matches any of the lists is selected, with
// all its variants. Everything is normalised: URLs and prefixes are absolute, with scheme and
// authority in lower case, without default port and trailing dot; hosts are authorities in the same
// form.
type Selectors struct {
	Tags     []string `json:"tags,omitempty"`     // exact tags
	URLs     []string `json:"urls,omitempty"`     // absolute URLs, before the key's query rules
	Prefixes []string `json:"prefixes,omitempty"` // beginnings of absolute URLs, past the authority
	Hosts    []string `json:"hosts,omitempty"`    // authorities
	IDs      []string `json:"ids,omitempty"`      // entries, each alone
	All      bool     `json:"all,omitempty"`      // everything

	Soft   bool `json:"soft,omitempty"`    // mark stale instead of removing
	DryRun bool `json:"dry_run,omitempty"` // count only

	Zones []string `json:"zones,omitempty"` // only in these; in all where there are none
}

// Empty reports whether nothing is selected.
func (s Selectors) Empty() bool {
	return len(s.Tags) == 0 && len(s.URLs) == 0 && len(s.Prefixes) == 0 && len(s.Hosts) == 0 && len(s.IDs) == 0 && !s.All
}

// Purged is what became of a purge.
type Purged struct {
	Matched int    // how many stored responses of this process
	Reach   *Reach // nil where there is no fleet
}

// Cache is what this package needs of the running cache.
type Cache interface {
	// Purge carries a purge out, or only counts if s.DryRun. When it returns nil the purge holds:
	// no request that starts later gets a response that was stored, or whose fetch began, before.
	// An error means that the purge could not be made durable, that a dry run could not count, or,
	// if it wraps ErrNotEverywhere, that the purge holds on this node of a fleet, and may not on
	// others; or it wraps ErrIDsInFleet or ErrZonesInFleet, and nothing was purged.
	Purge(ctx context.Context, s Selectors) (Purged, error)

	// Zones returns the names of the stores that there are.
	Zones() []string
}

package larder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/larder-cache/larder/purge"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
	"github.com/larder-cache/larder/urlform"
)

// adminView is the running cache as the admin API sees it.
type adminView struct{ *App }

// runningCache returns nil while no configuration with larder runs.
func runningCache() purge.Cache {
	if app := running.newest(); app != nil {
		return adminView{app}
	}
	return nil
}

// Purge implements purge.Cache. During a reload that switches the disk path two stores serve
// requests: both are purged, by the URLs that the rules of any configuration make.
func (t adminView) Purge(_ context.Context, s purge.Selectors) (matched int, err error) {
	all := t.cache.withOthers(nil)
	var rules []*keying
	for _, p := range all {
		for _, app := range p.apps() {
			rules = append(rules, app.rules()...)
		}
	}
	selectors := store.Selectors{Tags: slices.Clone(s.Tags), Prefixes: s.Prefixes, Hosts: s.Hosts, All: s.All}
	for _, raw := range s.URLs {
		urls, err := normalizeURL(raw, rules)
		if err != nil {
			return 0, err
		}
		selectors.URLs = append(selectors.URLs, urls...)
	}
	reachSearched(&selectors)
	matched, err = t.cache.purgeAll(all, selectors, store.PurgeOptions{Soft: s.Soft, DryRun: s.DryRun})
	if !s.DryRun {
		t.countPurge(s)
		t.emitPurged(s, matched)
	}
	return matched, err
}

// purgeAll purges stores, all at once: each may wait for its disk. Another one than p's may have been
// closed since it was listed: then the purge goes to what may have taken its file over.
func (p *cache) purgeAll(all []*cache, selectors store.Selectors, options store.PurgeOptions) (matched int, err error) {
	if !options.DryRun {
		purges.Add(1)
	}
	for left := all; len(left) > 0; {
		n, closed, purgeErr := p.purgeOnce(left, selectors, options)
		matched, err = matched+n, cmp.Or(err, purgeErr)
		if left = nil; closed && !options.DryRun {
			left = slices.DeleteFunc(p.withOthers(nil), func(other *cache) bool { return slices.Contains(all, other) })
			all = slices.Concat(all, left)
			purges.Add(1) // the second count, see withOthers
		}
	}
	return matched, err
}

// purgeOnce is one round of purgeAll; closed says that another store than p's takes no purge any more.
func (p *cache) purgeOnce(all []*cache, selectors store.Selectors, options store.PurgeOptions) (matched int, closed bool, err error) {
	var mu sync.Mutex
	var waiting sync.WaitGroup
	for _, each := range all {
		waiting.Go(func() {
			n, purgeErr := each.store.Purge(selectors, options)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(purgeErr, store.ErrClosed) && each != p {
				closed, purgeErr = true, nil // it answers nothing any more
			}
			matched += n
			err = cmp.Or(err, purgeErr)
		})
	}
	waiting.Wait()
	return matched, closed, err
}

// emitPurged tells Caddy's event subscribers.
func (t adminView) emitPurged(s purge.Selectors, matched int) {
	t.events.Emit(t.ctx, "larder.purged", map[string]any{
		"tags": s.Tags, "urls": s.URLs, "prefixes": s.Prefixes, "hosts": s.Hosts, "all": s.All,
		"soft": s.Soft, "matched": matched,
	})
}

// normalizeURL returns the URLs under which the handlers of a configuration may have stored an absolute URL: each has its own query rules, and
// one behind another is asked for what the other's rules have left.
func normalizeURL(raw string, rules []*keying) ([]string, error) {
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
func spellings(query string, rules []*keying) []string {
	all := []string{query}
	for i := 0; i < len(all) && (i == 0 || len(all) < maxSpellings); i++ {
		for _, r := range rules {
			if next := r.query.apply(all[i]); !slices.Contains(all, next) {
				all = append(all, next)
			}
		}
	}
	return all
}

// tierStats and stats are the JSON of GET /larder/stats. Its fields are those of store.Stats; the counts of requests and fetches are the
// process's, and begin with it.
type tierStats struct {
	Entries int64  `json:"entries"`
	Bytes   int64  `json:"bytes"`
	Budget  int64  `json:"budget"`
	State   string `json:"state"`
}

type stats struct {
	Memory        tierStats         `json:"memory"`
	Disk          tierStats         `json:"disk"`
	Requests      map[string]uint64 `json:"requests"`   // by outcome
	NotStored     map[string]uint64 `json:"not_stored"` // by reason; those that have not happened are left out
	InFlight      int               `json:"in_flight"`
	Queue         int64             `json:"queue_bytes"`
	Skipped       uint64            `json:"disk_writes_skipped"`
	PurgesPending int               `json:"purges_pending"`
	Errors        map[string]uint64 `json:"errors"` // by tier
}

// Stats implements purge.Cache.
func (t adminView) Stats() any {
	s := t.cache.store.Stats()
	return stats{
		Memory:        tierStats(s.Memory),
		Disk:          tierStats(s.Disk),
		Requests:      collectors.requestCounts(),
		NotStored:     collectors.notStoredCounts(),
		InFlight:      fetchesUnderWay(),
		Queue:         s.Queue,
		Skipped:       s.Skipped,
		PurgesPending: s.PurgesPending,
		Errors: map[string]uint64{
			store.MemoryTier.String(): s.Errors[store.MemoryTier],
			store.DiskTier.String():   s.Errors[store.DiskTier],
		},
	}
}

// Entries implements purge.Cache.
func (t adminView) Entries(query purge.Query) (purge.Listing, error) {
	items, next, err := t.cache.store.List(store.Filter{Tag: query.Tag, Prefix: query.Prefix, Host: query.Host}, query.Limit, query.Cursor)
	if errors.Is(err, store.ErrCursor) {
		return purge.Listing{}, purge.ErrCursor // which is the client's fault
	}
	if err != nil {
		return purge.Listing{}, err
	}
	now := time.Now()
	listing := purge.Listing{Entries: make([]purge.Entry, 0, len(items)), Next: next}
	for _, item := range items {
		listing.Entries = append(listing.Entries, listed(&item, now))
	}
	return listing, nil
}

func listed(item *store.Item, now time.Time) purge.Entry {
	ttl := item.FreshUntil.Sub(now)
	if item.Soft {
		ttl = min(ttl, 0)
	}
	x := rfc9111.Exchange{Method: item.Method, Status: item.Status, Header: item.Header, RequestTime: item.RequestTime, ResponseTime: item.StoredAt}
	freshness := new(rfc9111.Policy).Freshness(&x)
	variant := url.Values{}
	for i, name := range item.Variant.Names {
		variant.Set(name, item.Variant.Values[i])
	}
	return purge.Entry{
		URL: item.URL, Status: item.Status, Size: item.Size,
		Age: int64(freshness.Age(now) / time.Second), TTL: int64(ttl / time.Second),
		Tags: append([]string{}, item.Tags...), Tier: item.Tier.String(), Variant: variant.Encode(),
	}
}

// countPurge counts the selectors of a purge by kind.
func (t adminView) countPurge(s purge.Selectors) {
	for kind, n := range map[string]int{"tag": len(s.Tags), "url": len(s.URLs), "prefix": len(s.Prefixes), "host": len(s.Hosts)} {
		collectors.purged.WithLabelValues(kind).Add(float64(n))
	}
	if s.All {
		collectors.purged.WithLabelValues("all").Inc()
	}
}

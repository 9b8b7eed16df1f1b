package larder

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/inspect"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
	"github.com/larder-cache/larder/warm"
)

// sorting is full while a sorted listing looks at what is stored. Another one waits: each takes a
// processor for a while.
var sorting = make(chan struct{}, 1)

// Entries implements inspect.Cache.
func (t adminView) Entries(ctx context.Context, q inspect.Query) (inspect.Listing, error) {
	now := time.Now()
	hits := hitCounts(q.Zone, now)
	zones := t.zonesOf(q.Zone)
	items, next, err := list(ctx, zones, q, now, hits)
	if errors.Is(err, store.ErrCursor) {
		return inspect.Listing{}, inspect.ErrCursor // which is the client's fault
	}
	if err != nil {
		return inspect.Listing{}, err
	}
	listing := inspect.Listing{Entries: make([]inspect.Entry, 0, len(items)), Next: next}
	looks := int64(listedSlices)
	for i := range items {
		z := zones[items[i].Of]
		entry := listed(&items[i].Item, now)
		entry.Hits, entry.Zone = hits[entry.URL], z.Zone
		if entry.Slices = z.slices(&items[i].Item, looks); entry.Slices != nil {
			looks -= entry.Slices.Looked
		}
		if q.Headers {
			entry.Header = items[i].Header
		}
		listing.Entries = append(listing.Entries, entry)
	}
	return listing, nil
}

// list asks the stores. The order that they have anyway costs nothing.
func list(
	ctx context.Context, zones []*zone, q inspect.Query, now time.Time, hits map[string]uint64,
) (items []store.Listed, next string, err error) {
	filter := store.Filter{Tag: q.Tag, Host: q.Host}
	if q.Prefix != "" { // as a purge names it
		if filter.Prefixes, err = httpcache.StoredPrefixes(q.Prefix); err != nil {
			return nil, "", err
		}
	}
	if q.URL != "" {
		if filter.URLs, err = httpcache.StoredURLs(q.URL, keyRules()); err != nil {
			return nil, "", err
		}
	}
	stores := make([]*store.Store, 0, len(zones))
	for _, z := range zones {
		stores = append(stores, z.cache.Store())
	}
	if q.Sort == "" || q.Sort == inspect.SortURL && !q.Falling && q.Tag == "" {
		return store.ListAll(stores, filter, q.Limit, q.Cursor)
	}
	select {
	case sorting <- struct{}{}:
		defer func() { <-sorting }()
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
	order := store.Order{By: orderBy(q.Sort, now, hits), Falling: q.Falling}
	return store.ListAllSorted(ctx, stores, filter, order, q.Limit, q.Cursor)
}

// orderBy returns what a sorted listing goes by.
func orderBy(by inspect.Sort, now time.Time, hits map[string]uint64) func(*store.Item) int64 {
	switch by {
	case inspect.SortSize:
		return httpcache.Length
	case inspect.SortAge:
		return func(i *store.Item) int64 { return -i.StoredAt.UnixNano() }
	case inspect.SortTTL:
		return func(i *store.Item) int64 {
			if i.Severity != store.NotPurged && i.FreshUntil.After(now) {
				return now.UnixNano()
			}
			return i.FreshUntil.UnixNano()
		}
	case inspect.SortHits:
		return func(i *store.Item) int64 { return int64(hits[i.URL]) }
	case inspect.SortURL:
	}
	return func(*store.Item) int64 { return 0 } // equals are in the order of their URLs
}

// hitCounts returns what the ranking of a zone by hits knows, by URL.
func hitCounts(zone string, now time.Time) map[string]uint64 {
	rows := topOf(zone, inspect.ByHits, rankedURLs, now)
	hits := make(map[string]uint64, len(rows))
	for _, row := range rows {
		hits[row.Key] = row.Count
	}
	return hits
}

// droppedURLs are the process's: what purges by tags have dropped, in all stores.
var droppedURLs = warm.NewDropped()

// Purged implements warm.Cache.
func (adminView) Purged(tag string) warm.PurgedURLs {
	purged, hits := droppedURLs.Of(tag), hitCounts("", time.Now())
	slices.SortStableFunc(purged.URLs, func(a, b string) int { return cmp.Compare(hits[b], hits[a]) })
	return purged
}

func listed(item *store.Item, now time.Time) inspect.Entry {
	ttl := item.FreshUntil.Sub(now)
	if item.Severity != store.NotPurged {
		ttl = min(ttl, 0)
	}
	x := rfc9111.Exchange{
		Method: item.Method, Status: item.Status, Header: item.Header,
		RequestTime: item.RequestTime, ResponseTime: item.StoredAt,
	}
	freshness := new(rfc9111.Policy).Freshness(&x)
	variant := url.Values{}
	for i, name := range item.Variant.Names {
		variant.Set(name, item.Variant.Values[i])
	}
	return inspect.Entry{
		ID: item.EntryID().String(), URL: item.URL, Status: item.Status, Size: httpcache.Length(item), StoredSize: item.Stored,
		Age: int64(freshness.Age(now) / time.Second), TTL: int64(ttl / time.Second),
		Tags: append([]string{}, item.Tags...), Tier: item.Tier.String(), Variant: variant.Encode(),
		FetchMS: float64(item.FetchTime.Microseconds()) / 1e3,
	}
}

// listedSlices is how many slices are looked up for a page of a listing. A look-up may be one of
// the disk.
const listedSlices = 1024

// slices tells what of a file in slices is stored, nil of any other entry.
func (z *zone) slices(item *store.Item, limit int64) *inspect.Slices {
	s := z.cache.SlicesOf(item, limit)
	if s.Count == 0 {
		return nil
	}
	return &inspect.Slices{Size: s.Size, Count: s.Count, Looked: s.Looked, Stored: s.Stored, Bytes: s.Bytes}
}

// Entry implements inspect.Cache.
func (t adminView) Entry(zone, id string) (*inspect.Detail, error) {
	entryID, err := store.ParseEntryID(id)
	if err != nil {
		return nil, err
	}
	for _, z := range t.zonesOf(zone) {
		item, err := z.cache.Store().Find(entryID)
		if err != nil {
			return nil, err
		}
		if item != nil {
			return z.detail(item), nil
		}
	}
	return nil, nil
}

// detail describes an entry of the zone.
func (z *zone) detail(item *store.Item) *inspect.Detail {
	now := time.Now()
	d := &inspect.Detail{
		Entry: listed(item, now), Vary: make(map[string]string), Coding: item.Variant.Coding,
		Key: inspect.EntryKey{Hash: hex.EncodeToString(item.Key[:]), Parts: []inspect.EntryKeyPart{
			{Part: "method", Values: []string{item.Method}}, {Part: "url", Values: []string{item.URL}},
		}},
		Times: inspect.DetailTimes{
			Requested: item.RequestTime.UTC(), Stored: item.StoredAt.UTC(),
			FreshUntil: item.FreshUntil.UTC(), KeepUntil: item.KeepUntil.UTC(),
		},
	}
	d.Header, d.Hits, d.Zone = item.Header, hitCounts(z.Zone, now)[item.URL], z.Zone
	d.Slices = z.slices(item, listedSlices)
	if item.Listener != "" {
		d.Key.Parts = append(d.Key.Parts, inspect.EntryKeyPart{Part: "listener", Values: []string{item.Listener}})
	}
	for i, name := range item.Variant.Names {
		d.Vary[name] = item.Variant.Values[i]
	}
	if item.Severity != store.NotPurged {
		d.Purged = item.Severity.String()
	}
	return d
}

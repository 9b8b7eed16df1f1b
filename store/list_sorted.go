package store

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
)

// Order is what a sorted listing goes by.
type Order struct {
	// By tells what, of an item with ID, Key, URL, Size, StoredAt, FreshUntil and Severity; its
	// other fields are empty, but where Flags has FlagHead. It is called for every entry that
	// passes the filter.
	By func(i *Item) int64
	// Falling puts the highest first.
	Falling bool
}

// ListSorted returns up to limit entries that pass a filter, in an order, behind cursor: among
// equals by URL, then by age. Each call looks at everything that may pass the filter, in short
// steps, holds limit entries and decodes those that it returns. What changes meanwhile, or between
// two calls, may be missed. It ends early when ctx does, with the error of that. Its other errors
// are those of List.
func (s *Store) ListSorted(ctx context.Context, f Filter, o Order, limit int, cursor string) (items []Item, next string, err error) {
	after, err := decodeRank(cursor)
	if err != nil {
		return nil, "", err
	}
	best := &bestItems{order: o, after: after, most: limit + 1}
	step := &listing{filter: f, limit: sortedStep, light: true}
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return nil, "", err
		}
		seen, end, err := s.list(step)
		if err != nil {
			return nil, "", err
		}
		for i := range seen {
			best.add(&seen[i])
		}
		if more = end != nil; more {
			step = &listing{filter: f, limit: sortedStep, light: true, after: *end}
		}
	}
	found := best.items
	if len(found) > limit {
		found = found[:limit]
		next = found[limit-1].rank.cursor()
	}
	for i := range found {
		item, err := s.Find(found[i].EntryID())
		if err != nil {
			return nil, "", err
		}
		if item != nil {
			items = append(items, *item)
		}
	}
	return items, next, nil
}

// sortedStep is how many entries one step returns at most. No lock is held from one to the next.
const sortedStep = 512

// rank is a place in a sorted listing.
type rank struct {
	by int64
	place
}

// bestItems are the first items in an order behind a rank, most at most.
type bestItems struct {
	order Order
	after *rank // nil: from the beginning
	most  int
	items []rankedItem
}

type rankedItem struct {
	Item
	rank rank
}

func (b *bestItems) compare(x, y rank) int {
	c := cmp.Or(cmp.Compare(x.by, y.by), x.compare(y.place))
	if b.order.Falling {
		return -c
	}
	return c
}

func (b *bestItems) add(i *Item) {
	r := rank{b.order.By(i), place{i.URL, i.ID}}
	if b.after != nil && b.compare(r, *b.after) <= 0 {
		return
	}
	at, there := slices.BinarySearchFunc(b.items, r, func(o rankedItem, r rank) int { return b.compare(o.rank, r) })
	if there || at >= b.most {
		return
	}
	if len(b.items) == b.most {
		b.items = b.items[:b.most-1]
	}
	b.items = slices.Insert(b.items, at, rankedItem{*i, r})
}

// cursor is the inverse of decodeRank.
func (r rank) cursor() string {
	raw := binary.BigEndian.AppendUint64([]byte{rankVersion}, uint64(r.by))
	return base64.RawURLEncoding.EncodeToString(append(raw, urlRowKey(r.url, r.id)...))
}

// rankVersion tells the cursors of sorted listings from those of others, which begin with a URL or
// an id.
const rankVersion = 0xff

func decodeRank(cursor string) (*rank, error) {
	if cursor == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(raw) < 9 || raw[0] != rankVersion {
		return nil, ErrCursor
	}
	url, id, ok := cutURLRowKey(raw[9:])
	if !ok || strings.Contains(url, AtListener) {
		return nil, ErrCursor
	}
	return &rank{int64(binary.BigEndian.Uint64(raw[1:])), place{url, id}}, nil
}

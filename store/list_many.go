package store

import (
	"cmp"
	"context"
	"slices"
)

// Listed is an item of one of several stores.
type Listed struct {
	Item
	Of int // the index of its store, from 0
}

// pageOf is a page of one store, before it is put together with those of others.
type pageOf[P any] struct {
	items  []Listed
	places []P
	end    *P // where it ends, if more may follow
}

// ListAll is List of several stores, as if they were one. Its errors are those of List; one store
// that cannot be read is enough.
func ListAll(stores []*Store, f Filter, limit int, cursor string) (items []Listed, next string, err error) {
	after, err := decodeCursor(&f, cursor)
	if err != nil {
		return nil, "", err
	}
	if limit <= 0 {
		return nil, "", nil
	}
	pages := make([]pageOf[place], len(stores))
	for i, s := range stores {
		l := &listing{filter: f, limit: limit, after: after}
		found, end, err := s.list(l)
		if err != nil {
			return nil, "", err
		}
		pages[i].end = end
		for n := range found {
			pages[i].items = append(pages[i].items, Listed{found[n], i})
			pages[i].places = append(pages[i].places, l.found[n].place)
		}
	}
	items, end := mergePages(pages, limit, place.compare)
	if end != nil {
		next = end.cursor(&f)
	}
	return items, next, nil
}

// ListAllSorted is ListSorted of several stores, as if they were one. Its errors are those of
// ListSorted; one store that cannot be read is enough.
func ListAllSorted(
	ctx context.Context, stores []*Store, f Filter, o Order, limit int, cursor string,
) (items []Listed, next string, err error) {
	best := &bestItems{order: o}
	pages := make([]pageOf[rank], len(stores))
	for i, s := range stores {
		found, more, err := s.ListSorted(ctx, f, o, limit, cursor)
		if err != nil {
			return nil, "", err
		}
		for n := range found {
			pages[i].items = append(pages[i].items, Listed{found[n], i})
			pages[i].places = append(pages[i].places, rank{o.By(&found[n]), place{found[n].URL, found[n].ID}})
		}
		if pages[i].end, err = decodeRank(more); err != nil {
			return nil, "", err
		}
	}
	items, end := mergePages(pages, limit, best.compare)
	if end != nil {
		next = end.cursor()
	}
	return items, next, nil
}

// mergePages puts the pages of several stores in one order. It ends where the first of them does,
// because what that store has behind its page is not known.
func mergePages[P any](pages []pageOf[P], limit int, compare func(a, b P) int) (items []Listed, end *P) {
	type found struct {
		item  Listed
		place P
	}
	var all []found
	for _, p := range pages {
		for i := range p.items {
			all = append(all, found{p.items[i], p.places[i]})
		}
		if p.end != nil && (end == nil || compare(*p.end, *end) < 0) {
			end = p.end
		}
	}
	slices.SortStableFunc(all, func(a, b found) int { return cmp.Or(compare(a.place, b.place), cmp.Compare(a.item.Of, b.item.Of)) })
	for i := range all {
		switch {
		case end != nil && compare(all[i].place, *end) > 0:
			return items, end
		case len(items) == limit:
			return items, &all[i-1].place
		}
		items = append(items, all[i].item)
	}
	return items, end
}

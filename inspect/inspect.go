package inspect

import (
	"context"

	"github.com/larder-cache/larder/adminapi"
)

// Features returns the endpoints and commands of this package. cache returns the running cache, or
// nil while there is none (no configuration with larder has been loaded); requests are then
// answered 503. It is called at every request, from any goroutine.
func Features(cache func() Cache) []adminapi.Feature {
	var features []adminapi.Feature
	for _, feature := range []func(runningCache) adminapi.Feature{
		statsFeature,
		listFeature,
		fleetFeature,
	} {
		features = append(features, feature(cache))
	}
	return features
}

// Cache is what this package asks of the running cache.
type Cache interface {
	// Stats returns a value that encoding/json can marshal to an object.
	Stats() any

	// Entries returns a page of the listing, or an error that wraps ErrCursor.
	Entries(q Query) (Listing, error)

	// Fleet returns the nodes of the fleet, or an error that wraps ErrNoFleet.
	Fleet(ctx context.Context) (Fleet, error)
}

// runningCache returns the cache that serves requests now, nil while there is none.
type runningCache func() Cache

func (r runningCache) cache() (Cache, error) {
	if cache := r(); cache != nil {
		return cache, nil
	}
	return nil, adminapi.ErrNoCache
}

package warm

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/larder-cache/larder/adminapi"
)

// Cache is what this package asks of the running cache.
type Cache interface {
	// Purged returns the URLs that purges of a tag have dropped, those asked for most first.
	Purged(tag string) PurgedURLs
}

func purgedEndpoint(running func() Cache) adminapi.Endpoint {
	return adminapi.Endpoint{
		Method: http.MethodGet, Path: "/larder/purged",
		Answer: func(r *http.Request) (any, error) { return answerPurged(r, running) },
	}
}

func answerPurged(r *http.Request, running func() Cache) (any, error) {
	var tag string
	if err := adminapi.ReadParams(r, adminapi.TextParam("tag", &tag, adminapi.Tag)); err != nil {
		return nil, err
	}
	if tag == "" {
		return nil, adminapi.BadRequest(errors.New("no tag is given; send ?tag="))
	}
	cache := running()
	if cache == nil {
		return nil, adminapi.ErrNoCache
	}
	return cache.Purged(tag), nil
}

// How long the command waits for the sweep of a purge, which goes on in the background, and how
// often it asks.
const (
	sweepWait  = 30 * time.Second
	sweepEvery = 200 * time.Millisecond
)

// purgedURLs asks the admin API, until the purge is swept or no more of it is remembered.
func purgedURLs(ctx context.Context, api *adminapi.Client, tag string) (p PurgedURLs, err error) {
	for waited := time.Duration(0); ; waited += sweepEvery {
		p = PurgedURLs{}
		if err := api.Call(http.MethodGet, "/larder/purged?tag="+url.QueryEscape(tag), nil, &p); err != nil {
			return p, err
		}
		if !p.Sweeping || p.More > 0 || waited >= sweepWait {
			return p, nil
		}
		select {
		case <-time.After(sweepEvery):
		case <-ctx.Done():
			return p, nil
		}
	}
}

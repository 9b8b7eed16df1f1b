package purge

import (
	"errors"

	"github.com/larder-cache/larder/adminapi"
)

// decodeSelectors reads the body of a purge request.
func decodeSelectors(body []byte) (Selectors, error) {
	var s Selectors
	err := adminapi.DecodeObject(
		body, `{"tags":["product-1"]}`,
		adminapi.ListField("tags", &s.Tags, adminapi.Tag),
		adminapi.ListField("urls", &s.URLs, adminapi.URL),
		adminapi.ListField("prefixes", &s.Prefixes, adminapi.Prefix),
		adminapi.ListField("hosts", &s.Hosts, adminapi.Host),
		adminapi.ListField("ids", &s.IDs, adminapi.ID),
		adminapi.FlagField("all", &s.All),
		adminapi.FlagField("soft", &s.Soft),
		adminapi.FlagField("dry_run", &s.DryRun),
		adminapi.ListField("zones", &s.Zones, func(zone string) (string, error) { return zone, nil }),
	)
	switch {
	case err != nil:
	case s.Empty():
		err = errors.New(`nothing is selected; send at least one of "tags", "urls", "prefixes", "hosts", "ids" or "all":true`)
	case s.Soft && len(s.IDs) > 0:
		err = errors.New(`ids: an entry is removed by its id and not made stale; send "ids" without "soft"`)
	case s.Zones != nil && len(s.Zones) == 0:
		err = errors.New(`zones: the list is empty; send the names of zones, or leave it out for all`)
	}
	if err != nil {
		return Selectors{}, err
	}
	return s, nil
}

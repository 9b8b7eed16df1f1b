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
		adminapi.FlagField("all", &s.All),
		adminapi.FlagField("soft", &s.Soft),
		adminapi.FlagField("dry_run", &s.DryRun),
	)
	if err != nil {
		return Selectors{}, err
	}
	if s.Empty() {
		return Selectors{}, errors.New(`nothing is selected; send at least one of "tags", "urls", "prefixes", "hosts" or "all":true`)
	}
	return s, nil
}

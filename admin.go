package larder

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/larder-cache/larder/adminapi"
	"github.com/larder-cache/larder/check"
	"github.com/larder-cache/larder/dashboard"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/inspect"
	"github.com/larder-cache/larder/migrate"
	"github.com/larder-cache/larder/purge"
	"github.com/larder-cache/larder/store"
	"github.com/larder-cache/larder/warm"
)

// adminView is the running cache as the admin API sees it.
type adminView struct{ *App }

// registerAdmin adds the admin API and the command to Caddy.
func registerAdmin() {
	purging := purge.Feature(func() purge.Cache {
		if app := cmp.Or(running.newest(), claiming.newest()); app != nil {
			return adminView{app} // sites may be served from its caches before its stores are open
		}
		return nil
	})
	inspecting := inspect.Features(func() inspect.Cache { return runningCache() })
	explaining := inspect.ExplainFeature(func() inspect.Explainer {
		if app := running.newest(); app != nil {
			return adminView{app}
		}
		return nil
	})
	warming := warm.Feature(func() warm.Cache { return runningCache() })
	adminapi.Register(slices.Concat([]adminapi.Feature{purging}, inspecting, []adminapi.Feature{explaining, dashboard.Feature(), warming, migrate.Feature(), check.Feature(), versionFeature()})...)
}

// adminCache is what the admin API asks of the running cache.
type adminCache interface {
	purge.Cache
	inspect.Cache
	warm.Cache
}

// runningCache returns nil while no configuration with larder runs.
func runningCache() adminCache {
	if app := running.newest(); app != nil {
		return adminView{app}
	}
	return nil
}

// Purge implements purge.Cache. It purges a URL in all the forms that the rules of any
// configuration make of it.
func (t adminView) Purge(ctx context.Context, s purge.Selectors) (purge.Purged, error) {
	read := store.LabelsNow()
	rules := keyRules()
	selectors := store.Selectors{Tags: slices.Clone(s.Tags), Hosts: s.Hosts, All: s.All}
	for _, raw := range s.Prefixes {
		prefixes, err := httpcache.StoredPrefixes(raw)
		if err != nil {
			return purge.Purged{}, err
		}
		selectors.Prefixes = append(selectors.Prefixes, prefixes...)
	}
	for _, raw := range s.URLs {
		urls, err := httpcache.StoredURLs(raw, rules)
		if err != nil {
			return purge.Purged{}, err
		}
		selectors.URLs = append(selectors.URLs, urls...)
	}
	purged, err := t.purgeSelected(ctx, s, selectors, read)
	if errors.Is(err, purge.ErrIDsInFleet) || errors.Is(err, purge.ErrZonesInFleet) {
		return purged, err
	}
	if !s.DryRun {
		t.countPurge(s)
		t.emitPurged(s, purged.Matched)
	}
	return purged, err
}

// purgeSelected purges by selectors first, so that an entry that is named by its id too counts
// once.
func (t adminView) purgeSelected(
	ctx context.Context, s purge.Selectors, selectors store.Selectors, read store.LabelsTime,
) (purged purge.Purged, err error) {
	switch {
	case len(s.IDs) > 0 && t.node != nil:
		return purge.Purged{}, purge.ErrIDsInFleet
	case len(s.Zones) > 0 && t.node != nil:
		return purge.Purged{}, purge.ErrZonesInFleet
	}
	ids := s.IDs
	if s.IDs = nil; !s.Empty() {
		options := httpcache.PurgeOptions{PurgeOptions: store.PurgeOptions{Severity: severityOf(s), DryRun: s.DryRun, Labels: read}}
		if len(s.Zones) > 0 {
			purged.Matched, err = purgeZones(s.Zones, selectors, options)
		} else {
			purged, err = t.purgeAll(ctx, selectors, options)
		}
	}
	dropped, dropErr := dropEntries(ids, s.DryRun, selectors, s.Zones)
	purged.Matched += dropped
	return purged, cmp.Or(err, dropErr)
}

// purgeZones purges some zones of the process.
func purgeZones(zones []string, selectors store.Selectors, options httpcache.PurgeOptions) (matched int, err error) {
	httpcache.ReachSearched(&selectors)
	begun := beginPurge(inZones(zones, everyCache()), nil, selectors, options.PurgeOptions, zones...)
	return begun.wait()
}

// inZones leaves the caches of some zones in a list, all where none is named.
func inZones(zones []string, all []*pooled) []*pooled {
	if len(zones) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(p *pooled) bool { return !p.isOf(zones) })
}

// dropEntries removes entries by their ids from every store of some zones, of all where none is
// named, and returns how many there were.
func dropEntries(ids []string, dryRun bool, others store.Selectors, zones []string) (matched int, err error) {
	if len(ids) == 0 {
		return 0, nil
	}
	parsed := make([]store.EntryID, 0, len(ids))
	for _, text := range ids {
		id, err := store.ParseEntryID(text)
		if err != nil {
			return 0, err
		}
		parsed = append(parsed, id)
	}
	all := listCaches(nil)
	if !dryRun {
		all = everyCache() // a file that is not open has missed this
	}
	for _, p := range inZones(zones, all) {
		n, dropErr := p.Store().Drop(parsed, dryRun, others)
		matched, err = matched+n, cmp.Or(err, dropErr)
	}
	return matched, err
}

func severityOf(s purge.Selectors) store.Severity {
	if s.Soft {
		return store.Soft
	}
	return store.Hard
}

// emitPurged tells Caddy's event subscribers.
func (t adminView) emitPurged(s purge.Selectors, matched int) {
	t.events.Emit(t.ctx, "larder.purged", map[string]any{
		"tags": s.Tags, "urls": s.URLs, "prefixes": s.Prefixes, "hosts": s.Hosts, "ids": s.IDs, "all": s.All,
		"soft": s.Soft, "matched": matched, "zones": s.Zones,
	})
}

// countPurge counts the selectors of a purge by kind, for each zone that it reaches.
func (t adminView) countPurge(s purge.Selectors) {
	for _, zone := range t.zoneNames() {
		if len(s.Zones) > 0 && !slices.Contains(s.Zones, zone) {
			continue
		}
		purged := recordOf(zone).metrics.purged
		for kind, n := range map[string]int{
			"tag": len(s.Tags), "url": len(s.URLs), "prefix": len(s.Prefixes), "host": len(s.Hosts), "id": len(s.IDs),
		} {
			purged.WithLabelValues(kind).Add(float64(n))
		}
		if s.All {
			purged.WithLabelValues("all").Inc()
		}
	}
}

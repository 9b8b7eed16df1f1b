package larder

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/inspect"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/stats"
	"github.com/larder-cache/larder/store"
)

// zone is a store as a configuration describes it, and the cache that has it. Zones have nothing in
// common but the process, the fleet and the budgets of origins.
type zone struct {
	cfg.Store
	settings store.Settings
	cache    *pooled
	claim    *claim // on the cache
}

// newZone completes what the configuration says of a zone, and claims nothing yet.
func newZone(s *cfg.Store) (*zone, error) {
	z := &zone{Store: *s}
	path, err := s.Disk.Path, error(nil)
	if s.Required { // placeholders are allowed, as in a log's file name: {env.STATE_DIRECTORY}
		path, err = caddy.NewReplacer().ReplaceOrErr(path, true, true)
	}
	if err == nil && path != "" {
		path, err = filepath.Abs(path) // as the log and the statistics name it
	}
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	disk := *s.Disk
	disk.Path, z.Disk = path, &disk
	eviction, err := store.ParseEviction(s.Eviction)
	if err != nil {
		return nil, fmt.Errorf("eviction: %w", err)
	}
	compression, err := store.ParseCompression(s.Compress)
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	z.settings = store.Settings{
		Memory: int64(s.Memory), Disk: int64(z.Disk.Budget), Eviction: eviction, MaxBody: int64(s.MaxBody), Compress: compression,
	}
	return z, nil
}

// addZones completes the zones of the configuration. Two that have one folder once placeholders are
// replaced and links followed are an error.
func (a *App) addZones() error {
	folders := map[string]string{}
	for _, s := range a.Stores() {
		z, err := newZone(&s)
		if err != nil {
			return ofZone(s.Zone, err)
		}
		key := poolKey(z.Zone, z.Disk.Path)
		if other, taken := folders[key]; taken {
			return ofZone(s.Zone, fmt.Errorf("disk: %s is the folder of the zone %s as well; give each zone its own", z.Disk.Path, other))
		}
		folders[key] = z.Zone
		if z.SmallDisk() {
			a.logger.Info(
				"the disk budget is below 16MiB: with large bodies the file may take up to twice as much",
				zap.String("zone", z.Zone), zap.Int64("budget", int64(z.Disk.Budget)))
		}
		a.zones = append(a.zones, z)
	}
	return nil
}

// ofZone names the zone of an error, unless it is the one that needs no name.
func ofZone(zone string, err error) error {
	if zone == cfg.DefaultZone {
		return err
	}
	return fmt.Errorf("zone %s: %w", zone, err)
}

// claimZones claims the caches of all zones.
func (a *App) claimZones() error {
	for _, z := range a.zones {
		cache, err := fromPool(z.Zone, z.Disk.Path, z.Required, z.settings, storeLogger())
		if err != nil {
			return ofZone(z.Zone, err)
		}
		z.cache, z.claim = cache, &claim{z.Zone, &a.routes, z.settings, a.node}
		cache.add(z.claim)
	}
	a.cache = a.zones[0].cache
	return nil
}

// zone returns the zone with a name, or an error that names those that there are.
func (a *App) zone(name string) (*zone, error) {
	for _, z := range a.zones {
		if z.Zone == name {
			return z, nil
		}
	}
	if err := cfg.CheckZone(name, a.zoneNames()); err != nil {
		return nil, fmt.Errorf("zone: %w", err)
	}
	return nil, nil
}

func (a *App) zoneNames() []string {
	names := make([]string, 0, len(a.zones))
	for _, z := range a.zones {
		names = append(names, z.Zone)
	}
	return names
}

// zonesOf returns the zone with a name, or all of them where that is empty.
func (a *App) zonesOf(name string) []*zone {
	if name == "" {
		return a.zones
	}
	return slices.DeleteFunc(slices.Clone(a.zones), func(z *zone) bool { return z.Zone != name })
}

// has reports whether the configuration uses the file of a zone of another one.
func (a *App) has(file *zone) bool {
	return slices.ContainsFunc(a.zones, func(z *zone) bool { return z.cache.key == file.cache.key })
}

// logDropped says where the files stay that the running configuration, which has taken the place of
// this one, does not use.
func (a *App) logDropped() {
	newest := running.newest()
	if newest == nil || caddy.Exiting() {
		return
	}
	for _, z := range a.zones {
		if z.cache != nil && !z.Disk.Off && z.cache.opened.Load() && !newest.has(z) {
			newest.logger.Info("a zone's file is not used any more, and stays where it is",
				zap.String("zone", z.Zone), zap.String("file", filepath.Join(z.Disk.Path, store.FileName)))
		}
	}
}

// zoneRecord is what is counted of a zone. Like the metrics it outlives configurations, so that a
// reload loses nothing: there are as many as zones have been named.
type zoneRecord struct {
	name     string
	metrics  *metrics
	rankings *trafficRankings
	history  *stats.History
	counts   countAll // all of the former that count
}

var zoneRecords struct {
	sync.Mutex
	list []*zoneRecord
}

// recordOf returns the record of the zone with a name.
func recordOf(name string) *zoneRecord {
	zoneRecords.Lock()
	defer zoneRecords.Unlock()
	for _, r := range zoneRecords.list {
		if r.name == name {
			return r
		}
	}
	r := &zoneRecord{name: name, history: newHistory()}
	if name == cfg.DefaultZone {
		r.metrics, r.rankings = collectors, rankings
	} else {
		r.metrics, r.rankings = newMetrics(name), newTrafficRankings()
	}
	r.counts = countAll{r.metrics, r.rankings}
	zoneRecords.list = append(zoneRecords.list, r)
	return r
}

// everyRecord lists the records that there are.
func everyRecord() []*zoneRecord {
	zoneRecords.Lock()
	defer zoneRecords.Unlock()
	return slices.Clone(zoneRecords.list)
}

// counting counts for a cache, in the record of the zone that it has now.
type counting struct{ record atomic.Pointer[zoneRecord] }

// Request implements httpcache.Metrics.
func (c *counting) Request(q *httpcache.Request) { c.record.Load().counts.Request(q) }

// FetchDone implements httpcache.Metrics.
func (c *counting) FetchDone(kind httpcache.FetchKind, result httpcache.FetchResult, took time.Duration, of httpcache.Subject) {
	c.record.Load().counts.FetchDone(kind, result, took, of)
}

// NotStored implements httpcache.Metrics.
func (c *counting) NotStored(reason rfc9111.Reason, of httpcache.Subject) {
	c.record.Load().counts.NotStored(reason, of)
}

// Observed implements httpcache.Metrics.
func (c *counting) Observed(found *httpcache.Observed) { c.record.Load().counts.Observed(found) }

// zone is the name of the zone that has the cache now.
func (p *pooled) zone() string { return p.counts.record.Load().name }

// isOf reports whether the cache is that of one of some zones. While a reload gives its folder to
// another zone it is that of both.
func (p *pooled) isOf(zones []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.claims) == 0 { // its last requests are under way
		return slices.Contains(zones, p.zone())
	}
	return slices.ContainsFunc(p.claims, func(c *claim) bool { return slices.Contains(zones, c.zone) })
}

// topOf ranks the URLs of a zone, or of all where that is empty.
func topOf(zone string, by inspect.By, limit int, now time.Time) []stats.Row {
	var tops []*stats.Top
	for _, r := range everyRecord() {
		if zone == "" || r.name == zone {
			tops = append(tops, r.rankings.by[by])
		}
	}
	return stats.RowsOf(now, limit, tops...)
}

// Interface guard.
var _ httpcache.Metrics = (*counting)(nil)

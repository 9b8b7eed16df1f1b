package larder

import (
	"github.com/prometheus/client_golang/prometheus"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/store"
)

// storeCollector reads the state of the running stores, and of the fleet, when it is scraped.
type storeCollector struct{}

var (
	entriesDesc   = zoneDesc("entries", "Stored responses.", "tier")
	bytesDesc     = zoneDesc("bytes", "Bytes that count against the budget.", "tier")
	budgetDesc    = zoneDesc("budget_bytes", "Budget in force, 0 for a tier that is off.", "tier")
	fileDesc      = zoneDesc("disk_file_bytes", "Size of the file of the disk tier, 0 while there is none open.")
	queueDesc     = zoneDesc("queue_bytes", "Bytes that wait to be written to disk.")
	skippedDesc   = zoneDesc("disk_writes_skipped_total", "Responses kept in memory only, for good because the disk is too small, or for a while: it had failed, its queue was full, or clients held the room. The latter are written later, if memory has them still.")
	heldDesc      = zoneDesc("disk_held_bytes", "Bytes of the disk tier's file whose bodies are deleted and still read by clients.")
	brokenOffDesc = zoneDesc("readers_broken_off_total", "Clients that took nothing of a body deleted from disk, or of a small one in memory, and were broken off for its room.")
	plainDesc     = zoneDesc("compressed_bytes_total", "Bytes of bodies that were written to disk compressed.")
	packedDesc    = zoneDesc("compressed_stored_bytes_total", "Bytes that bodies took which were written to disk compressed.")
	purgesDesc    = zoneDesc("purges_pending", "Purges that are in force and whose responses are not all deleted yet.")
	evictionsDesc = zoneDesc("evictions_total", "Responses that left a tier, by reason.", "tier", "reason")
	errorsDesc    = zoneDesc("errors_total", "Failures of a tier, damaged records included.", "tier")
	inFlightDesc  = zoneDesc("in_flight", "Fetches under way.")
	onTheWayDesc  = zoneDesc("in_flight_bytes", "Bytes in memory of bodies that are on their way: to be stored, which count among the bytes of the tier; beyond that, on their way to disk; only passed on. And what the fetches take beside their bodies, about.", "account")

	sharedStateDesc = processDesc("shared_state", "1 for how this node stands to its fleet, 0 for the other states.", "state")
	sharedLagDesc   = processDesc("shared_lag_seconds", "For how long this node has not been known to have applied every purge.")
	fleetNodesDesc  = processDesc("fleet_nodes", "Nodes of the fleet.")
)

// zoneDesc describes what each zone has.
func zoneDesc(name, help string, labels ...string) *prometheus.Desc {
	o := options(cfg.DefaultZone, name, help)
	return prometheus.NewDesc(prometheus.BuildFQName(o.Namespace, o.Subsystem, o.Name), o.Help, append([]string{"zone"}, labels...), nil)
}

// processDesc describes what the process has. It stands beside the default zone.
func processDesc(name, help string, labels ...string) *prometheus.Desc {
	o := options(cfg.DefaultZone, name, help)
	return prometheus.NewDesc(prometheus.BuildFQName(o.Namespace, o.Subsystem, o.Name), o.Help, labels, o.ConstLabels)
}

// Describe implements prometheus.Collector.
func (*storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		entriesDesc, bytesDesc, budgetDesc, fileDesc, queueDesc, skippedDesc, heldDesc, brokenOffDesc,
		plainDesc, packedDesc, purgesDesc, evictionsDesc, errorsDesc, inFlightDesc, onTheWayDesc,
		sharedStateDesc, sharedLagDesc, fleetNodesDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (*storeCollector) Collect(ch chan<- prometheus.Metric) {
	collectFleet(ch)
	for _, z := range running.zones() {
		collectZone(ch, z)
	}
}

func collectZone(ch chan<- prometheus.Metric, z *zone) {
	s := z.cache.Store().Stats()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{z.Zone}, labels...)...)
	}
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), append([]string{z.Zone}, labels...)...)
	}
	gauge(inFlightDesc, float64(fetchesUnderWay(z.Zone)))
	gauge(onTheWayDesc, float64(s.InFlight.Kept), "stored")
	gauge(onTheWayDesc, float64(s.InFlight.Beyond), "beyond")
	gauge(onTheWayDesc, float64(s.InFlight.Passed), "passed_on")
	gauge(onTheWayDesc, float64(s.InFlight.Fetches), "fetches")
	gauge(fileDesc, float64(s.FileBytes))
	gauge(queueDesc, float64(s.Queue))
	counter(skippedDesc, s.Skipped)
	gauge(heldDesc, float64(s.DiskHeld))
	counter(brokenOffDesc, s.Interrupted)
	counter(plainDesc, s.Compressed)
	counter(packedDesc, s.CompressedStored)
	gauge(purgesDesc, float64(s.PurgesPending))
	for tier, t := range map[store.Tier]store.TierStats{store.MemoryTier: s.Memory, store.DiskTier: s.Disk} {
		gauge(entriesDesc, float64(t.Entries), tier.String())
		gauge(bytesDesc, float64(t.Bytes), tier.String())
		gauge(budgetDesc, float64(t.Budget), tier.String())
		counter(errorsDesc, s.Errors[tier], tier.String())
	}
	for _, e := range s.Evictions {
		counter(evictionsDesc, e.Count, e.Tier.String(), e.Reason.String())
	}
}

func collectFleet(ch chan<- prometheus.Metric) {
	n := running.node()
	if n == nil {
		return
	}
	s := n.Stats()
	for _, condition := range fleet.Conditions {
		value := 0.0
		if condition == s.Condition {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(sharedStateDesc, prometheus.GaugeValue, value, condition.String())
	}
	ch <- prometheus.MustNewConstMetric(sharedLagDesc, prometheus.GaugeValue, s.Lag.Seconds())
	ch <- prometheus.MustNewConstMetric(fleetNodesDesc, prometheus.GaugeValue, float64(s.Nodes))
}

// Interface guard.
var _ prometheus.Collector = (*storeCollector)(nil)

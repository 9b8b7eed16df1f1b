package larder

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/store"
)

// storeCollector reads the state of the running store when it is scraped.
type storeCollector struct {
	stats   func() (store.Stats, bool) // false while no store runs
	fetches func() int                 // under way
	node    func() *node               // nil without a fleet
}

var (
	entriesDesc   = storeDesc("entries", "Stored responses.", "tier")
	bytesDesc     = storeDesc("bytes", "Bytes that count against the budget.", "tier")
	budgetDesc    = storeDesc("budget_bytes", "Budget in force, 0 for a tier that is off.", "tier")
	fileDesc      = storeDesc("disk_file_bytes", "Size of the file of the disk tier, 0 while there is none open.")
	queueDesc     = storeDesc("queue_bytes", "Bytes that wait to be written to disk.")
	skippedDesc   = storeDesc("disk_writes_skipped_total", "Responses kept in memory only, because the queue was full or the disk too small.")
	purgesDesc    = storeDesc("purges_pending", "Purges that are in force and whose responses are not all deleted yet.")
	evictionsDesc = storeDesc("evictions_total", "Responses that left a tier, by reason.", "tier", "reason")
	errorsDesc    = storeDesc("errors_total", "Failures of a tier, damaged records included.", "tier")
	inFlightDesc  = storeDesc("in_flight", "Fetches under way.")

	sharedStateDesc = storeDesc("shared_state", "1 for how this node stands to its fleet, 0 for the other states.", "state")
	sharedLagDesc   = storeDesc("shared_lag_seconds", "For how long this node has not been known to have applied every purge.")
	fleetNodesDesc  = storeDesc("fleet_nodes", "Nodes of the fleet.")
)

func storeDesc(name, help string, labels ...string) *prometheus.Desc {
	o := options(defaultZone, name, help)
	return prometheus.NewDesc(prometheus.BuildFQName(o.Namespace, o.Subsystem, o.Name), o.Help, labels, o.ConstLabels)
}

// Describe implements prometheus.Collector.
func (*storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		entriesDesc, bytesDesc, budgetDesc, fileDesc, queueDesc, skippedDesc, purgesDesc, evictionsDesc, errorsDesc, inFlightDesc,
		sharedStateDesc, sharedLagDesc, fleetNodesDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(c.fetches()))
	c.collectFleet(ch)
	s, ok := c.stats()
	if !ok {
		return
	}
	ch <- prometheus.MustNewConstMetric(fileDesc, prometheus.GaugeValue, float64(s.FileBytes))
	ch <- prometheus.MustNewConstMetric(queueDesc, prometheus.GaugeValue, float64(s.Queue))
	ch <- prometheus.MustNewConstMetric(skippedDesc, prometheus.CounterValue, float64(s.Skipped))
	ch <- prometheus.MustNewConstMetric(purgesDesc, prometheus.GaugeValue, float64(s.PurgesPending))
	for tier, t := range map[store.Tier]store.TierStats{store.MemoryTier: s.Memory, store.DiskTier: s.Disk} {
		ch <- prometheus.MustNewConstMetric(entriesDesc, prometheus.GaugeValue, float64(t.Entries), tier.String())
		ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.GaugeValue, float64(t.Bytes), tier.String())
		ch <- prometheus.MustNewConstMetric(budgetDesc, prometheus.GaugeValue, float64(t.Budget), tier.String())
		ch <- prometheus.MustNewConstMetric(errorsDesc, prometheus.CounterValue, float64(s.Errors[tier]), tier.String())
	}
	for _, e := range s.Evictions {
		ch <- prometheus.MustNewConstMetric(evictionsDesc, prometheus.CounterValue, float64(e.Count), e.Tier.String(), e.Reason.String())
	}
}

func (c *storeCollector) collectFleet(ch chan<- prometheus.Metric) {
	n := c.node()
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

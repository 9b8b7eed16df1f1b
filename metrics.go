package larder

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// collectors are the process's metrics. Caddy makes a new registry for each configuration. So they
// are made once and registered in each, and a reload loses no count. No label carries a key, URL,
// host or tag.
var collectors = newMetrics()

// metrics are the counts of the process.
type metrics struct {
	requests      [httpcache.OutcomeCount]prometheus.Counter
	requestsVec   *prometheus.CounterVec
	notStoredVec  *prometheus.CounterVec
	reasons       map[rfc9111.Reason]prometheus.Counter
	purged        *prometheus.CounterVec
	fetchDuration prometheus.Histogram
	purgeWait     prometheus.Histogram
	originWaiting *prometheus.GaugeVec
	originRefused *prometheus.CounterVec

	sharedRequests    [fleet.OpCount][fleet.OutcomeCount]prometheus.Counter
	sharedRequestsVec *prometheus.CounterVec
	sharedSeconds     [fleet.OpCount]prometheus.Observer
	sharedSecondsVec  *prometheus.HistogramVec
	leases            [fleet.LeaseOutcomeCount]prometheus.Counter
	leasesVec         *prometheus.CounterVec
}

func newMetrics() *metrics {
	const namespace, subsystem = "caddy", moduleName
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
		}, labels)
	}
	m := &metrics{
		requestsVec:  counter("requests_total", "Requests by how they were answered.", "outcome"),
		notStoredVec: counter("not_stored_total", "Responses from the origin that were not stored, by reason.", "reason"),
		purged:       counter("purged_total", "Selectors of purges that were carried out, by kind.", "selector"),
		fetchDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "fetch_duration_seconds",
			Help:    "Time from the start of a fetch to the end of its response.",
			Buckets: prometheus.DefBuckets,
		}),
		purgeWait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "purge_wait_seconds",
			Help:    "Time until a purge held on every node of the fleet.",
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 60},
		}),
		originWaiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "origin_waiting",
			Help: "Requests that wait for a place at an origin.",
		}, []string{"origin"}),
		originRefused: counter("origin_refused_total", "Requests that did not go to an origin, by why.", "origin", "why"),
		reasons:       make(map[rfc9111.Reason]prometheus.Counter),

		sharedRequestsVec: counter("shared_requests_total", "Requests to the server that the fleet shares, by what was asked for and what came of it.", "op", "outcome"),
		sharedSecondsVec: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "shared_seconds",
			Help:    "Time that requests to the server of the fleet took.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5},
		}, []string{"op"}),
		leasesVec: counter("leases_total", "Fetches that asked to be the fleet's only one, by how they went on.", "outcome"),
	}
	for o := range httpcache.OutcomeCount {
		m.requests[o] = m.requestsVec.WithLabelValues(o.String())
	}
	for _, reason := range rfc9111.Reasons() {
		m.reasons[reason] = m.notStoredVec.WithLabelValues(reason.String())
	}
	for _, kind := range []string{"tag", "url", "prefix", "host", "all"} {
		m.purged.WithLabelValues(kind)
	}
	m.resolveShared()
	return m
}

// resolveShared finds the counters of a fleet once, as newMetrics does with the others.
func (m *metrics) resolveShared() {
	for op := range fleet.OpCount {
		m.sharedSeconds[op] = m.sharedSecondsVec.WithLabelValues(op.String())
		for o := range fleet.OutcomeCount {
			m.sharedRequests[op][o] = m.sharedRequestsVec.WithLabelValues(op.String(), o.String())
		}
	}
	for o := range fleet.LeaseOutcomeCount {
		m.leases[o] = m.leasesVec.WithLabelValues(o.String())
	}
}

// register registers the counts in the registry of a new configuration, and what is read of the
// store.
func (m *metrics) register(registry prometheus.Registerer, ofStore *storeCollector) error {
	return registerAll(registry, m.requestsVec, m.notStoredVec, m.purged, m.fetchDuration, m.originWaiting, m.originRefused, ofStore)
}

// registerShared registers what is counted where there is a fleet.
func (m *metrics) registerShared(registry prometheus.Registerer) error {
	return registerAll(registry, m.purgeWait, m.sharedRequestsVec, m.sharedSecondsVec, m.leasesVec)
}

func registerAll(registry prometheus.Registerer, collectors ...prometheus.Collector) error {
	for _, c := range collectors {
		if err := registry.Register(c); err != nil && !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			return err
		}
	}
	return nil
}

// Request implements httpcache.Metrics.
func (m *metrics) Request(q *httpcache.Request) { m.requests[q.Decision().Outcome].Inc() }

// FetchDone implements httpcache.Metrics. What is passed on is not among the durations: an event
// stream is open for hours.
func (m *metrics) FetchDone(kind httpcache.FetchKind, result httpcache.FetchResult, took time.Duration, _ httpcache.Subject) {
	if kind != httpcache.FetchPass && result != httpcache.FetchRefused {
		m.fetchDuration.Observe(took.Seconds())
	}
}

// NotStored implements httpcache.Metrics.
func (m *metrics) NotStored(reason rfc9111.Reason, _ httpcache.Subject) {
	if c := m.reasons[reason]; c != nil {
		c.Inc()
	}
}

// SharedRequest implements fleet.TierMetrics.
func (m *metrics) SharedRequest(op fleet.Op, outcome fleet.Outcome, took time.Duration) {
	m.sharedRequests[op][outcome].Inc()
	m.sharedSeconds[op].Observe(took.Seconds())
}

// Lease implements fleet.TierMetrics.
func (m *metrics) Lease(outcome fleet.LeaseOutcome) { m.leases[outcome].Inc() }

// countAll counts with each of several.
type countAll []httpcache.Metrics

// Request implements httpcache.Metrics.
func (all countAll) Request(q *httpcache.Request) {
	for _, m := range all {
		m.Request(q)
	}
}

// FetchDone implements httpcache.Metrics.
func (all countAll) FetchDone(kind httpcache.FetchKind, result httpcache.FetchResult, took time.Duration, of httpcache.Subject) {
	for _, m := range all {
		m.FetchDone(kind, result, took, of)
	}
}

// NotStored implements httpcache.Metrics.
func (all countAll) NotStored(reason rfc9111.Reason, of httpcache.Subject) {
	for _, m := range all {
		m.NotStored(reason, of)
	}
}

// requestCounts returns the requests by outcome.
func (m *metrics) requestCounts() map[string]uint64 {
	counts := make(map[string]uint64, httpcache.OutcomeCount)
	for o := range httpcache.OutcomeCount {
		counts[o.String()] = read(m.requests[o])
	}
	return counts
}

// notStoredCounts returns the responses not stored by reason.
func (m *metrics) notStoredCounts() map[string]uint64 {
	counts := make(map[string]uint64)
	for reason, c := range m.reasons {
		if n := read(c); n > 0 {
			counts[reason.String()] = n
		}
	}
	return counts
}

func read(c prometheus.Counter) uint64 {
	var metric dto.Metric
	if err := c.Write(&metric); err != nil {
		return 0
	}
	return uint64(metric.GetCounter().GetValue())
}

// storeCollector reads the state of the running store when it is scraped.
type storeCollector struct {
	stats   func() (store.Stats, bool) // false while no store runs
	fetches func() int                 // under way
	node    func() *node               // nil without a fleet
}

var (
	entriesDesc   = storeDesc("entries", "Stored responses.", "tier")
	bytesDesc     = storeDesc("bytes", "Bytes that count against the budget.", "tier")
	evictionsDesc = storeDesc("evictions_total", "Responses that left a tier, by reason.", "tier", "reason")
	errorsDesc    = storeDesc("errors_total", "Failures of a tier, damaged records included.", "tier")
	inFlightDesc  = storeDesc("in_flight", "Fetches under way.")

	sharedStateDesc = storeDesc("shared_state", "1 for how this node stands to its fleet, 0 for the other states.", "state")
	sharedLagDesc   = storeDesc("shared_lag_seconds", "For how long this node has not been known to have applied every purge.")
	fleetNodesDesc  = storeDesc("fleet_nodes", "Nodes of the fleet.")
)

func storeDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("caddy", moduleName, name), help, labels, nil)
}

// Describe implements prometheus.Collector.
func (*storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		entriesDesc, bytesDesc, evictionsDesc, errorsDesc, inFlightDesc, sharedStateDesc, sharedLagDesc, fleetNodesDesc,
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
	for tier, t := range map[store.Tier]store.TierStats{store.MemoryTier: s.Memory, store.DiskTier: s.Disk} {
		ch <- prometheus.MustNewConstMetric(entriesDesc, prometheus.GaugeValue, float64(t.Entries), tier.String())
		ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.GaugeValue, float64(t.Bytes), tier.String())
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

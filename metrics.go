package larder

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/rfc9111"
)

// collectors are the metrics of the default zone, and those of the process. Caddy makes a new
// registry for each configuration. So they are made once and registered in each, as are those of
// other zones, and a reload loses no count. No label carries a key, URL, host or tag.
var collectors = newMetrics(cfg.DefaultZone)

// metrics are the counts of a zone. Those of origins and of the fleet are the process's.
type metrics struct {
	requests      [httpcache.OutcomeCount]prometheus.Counter
	requestsVec   *prometheus.CounterVec
	sent          [httpcache.OutcomeCount]prometheus.Counter
	sentVec       *prometheus.CounterVec
	stale         map[httpcache.Detail]prometheus.Counter
	staleVec      *prometheus.CounterVec
	notStoredVec  *prometheus.CounterVec
	reasons       map[rfc9111.Reason]prometheus.Counter
	fetches       [httpcache.FetchKindCount][httpcache.FetchResultCount]prometheus.Counter
	fetchesVec    *prometheus.CounterVec
	purged        *prometheus.CounterVec
	fetchDuration prometheus.Histogram
	purgeWait     prometheus.Histogram
	originWaiting *prometheus.GaugeVec
	originRefused *prometheus.CounterVec
	observed      observedCounter
	marked        prometheus.Counter
	refused       prometheus.Counter
	repeatsVec    *prometheus.CounterVec

	sharedRequests    [fleet.OpCount][fleet.OutcomeCount]prometheus.Counter
	sharedRequestsVec *prometheus.CounterVec
	sharedSeconds     [fleet.OpCount]prometheus.Observer
	sharedSecondsVec  *prometheus.HistogramVec
	leases            [fleet.LeaseOutcomeCount]prometheus.Counter
	leasesVec         *prometheus.CounterVec
}

func newMetrics(zone string) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts(options(zone, name, help)), labels)
	}
	m := &metrics{
		requestsVec:  counter("requests_total", "Requests by how they were answered.", "outcome"),
		sentVec:      counter("response_bytes_total", "Bytes of response bodies that clients were sent, by how their requests were answered.", "outcome"),
		staleVec:     counter("stale_total", "Requests that were answered with a stale response, by what allowed it.", "cause"),
		notStoredVec: counter("not_stored_total", "Responses from the origin that were not stored, by reason.", "reason"),
		fetchesVec:   counter("fetches_total", "Requests to the origin, by why it was asked and what came of it.", "kind", "result"),
		purged:       counter("purged_total", "Selectors of purges that were carried out, by kind.", "selector"),
		fetchDuration: prometheus.NewHistogram(histogram(zone, "fetch_duration_seconds",
			"Time from the start of a fetch to the end of its response. What is passed on is not among them.", prometheus.DefBuckets)),
		purgeWait: prometheus.NewHistogram(histogram(zone, "purge_wait_seconds",
			"Time until a purge held on every node of the fleet.",
			[]float64{.002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 60})),
		originWaiting: prometheus.NewGaugeVec(prometheus.GaugeOpts(
			options(zone, "origin_waiting", "Requests that wait for a place at an origin.")), []string{"origin"}),
		originRefused: counter("origin_refused_total", "Requests that did not go to an origin, by why.", "origin", "why"),
		observed:      newObservedCounter(zone),
		repeatsVec:    counter("repeats_total", "Requests of clients that repeat themselves, by what became of them.", "action"),

		sharedRequestsVec: counter("shared_requests_total", "Requests to the server that the fleet shares, by what was asked for and what came of it.", "op", "outcome"),
		sharedSecondsVec: prometheus.NewHistogramVec(histogram(zone, "shared_seconds",
			"Time that requests to the server of the fleet took.",
			[]float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5}), []string{"op"}),
		leasesVec: counter("leases_total", "Fetches that asked to be the fleet's only one, by how they went on.", "outcome"),
	}
	m.resolve()
	m.resolveShared()
	return m
}

// options are those of the metric with this name in a zone.
func options(zone, name, help string) prometheus.Opts {
	return prometheus.Opts{
		Namespace: "caddy", Subsystem: moduleName, Name: name, Help: help, ConstLabels: prometheus.Labels{"zone": zone},
	}
}

func histogram(zone, name, help string, buckets []float64) prometheus.HistogramOpts {
	o := options(zone, name, help)
	return prometheus.HistogramOpts{
		Namespace: o.Namespace, Subsystem: o.Subsystem, Name: o.Name, Help: o.Help, ConstLabels: o.ConstLabels, Buckets: buckets,
	}
}

// resolve finds the counters once, because to find one costs more than to count. So each is there
// from the start, as 0.
func (m *metrics) resolve() {
	for o := range httpcache.OutcomeCount {
		m.requests[o] = m.requestsVec.WithLabelValues(o.String())
		m.sent[o] = m.sentVec.WithLabelValues(o.String())
	}
	m.stale = map[httpcache.Detail]prometheus.Counter{httpcache.NoDetail: m.staleVec.WithLabelValues("max-stale")}
	for _, d := range []httpcache.Detail{httpcache.DetailSWR, httpcache.DetailSIE, httpcache.DetailOriginBusy} {
		m.stale[d] = m.staleVec.WithLabelValues(d.String())
	}
	m.marked, m.refused = m.repeatsVec.WithLabelValues("marked"), m.repeatsVec.WithLabelValues("refused")
	for kind := range httpcache.FetchKindCount {
		for result := range httpcache.FetchResultCount {
			m.fetches[kind][result] = m.fetchesVec.WithLabelValues(kind.String(), result.String())
		}
	}
	m.reasons = make(map[rfc9111.Reason]prometheus.Counter)
	for _, reason := range rfc9111.Reasons() {
		m.reasons[reason] = m.notStoredVec.WithLabelValues(reason.String())
	}
	for _, kind := range []string{"tag", "url", "prefix", "host", "id", "all"} {
		m.purged.WithLabelValues(kind)
	}
}

// resolveShared finds the counters of a fleet.
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

// register registers the counts of the zone in the registry of a new configuration.
func (m *metrics) register(registry prometheus.Registerer) error {
	return registerAll(registry, m.requestsVec, m.sentVec, m.staleVec, m.notStoredVec, m.fetchesVec, m.purged, m.fetchDuration, m.observed.vec, m.repeatsVec)
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
func (m *metrics) Request(q *httpcache.Request) {
	d := q.Decision()
	m.requests[d.Outcome].Inc()
	m.sent[d.Outcome].Add(float64(q.Sent()))
	if d.Outcome == httpcache.OutcomeStale {
		m.countStale(d.Detail)
	}
	switch {
	case q.Repeats() == 0:
	case d.Detail == httpcache.DetailRepeats:
		m.refused.Inc()
	default:
		m.marked.Inc()
	}
}

// countStale counts a stale answer. One of which there is nothing else to say is what the client
// has asked for, by max-stale.
func (m *metrics) countStale(detail httpcache.Detail) {
	c := m.stale[detail]
	if c == nil {
		c = m.stale[httpcache.NoDetail]
	}
	c.Inc()
}

// FetchDone implements httpcache.Metrics. What is passed on is not among the durations: an event
// stream is open for hours.
func (m *metrics) FetchDone(kind httpcache.FetchKind, result httpcache.FetchResult, took time.Duration, _ httpcache.Subject) {
	m.fetches[kind][result].Inc()
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
func (all *countAll) Request(q *httpcache.Request) {
	for _, m := range *all {
		m.Request(q)
	}
}

// FetchDone implements httpcache.Metrics.
func (all *countAll) FetchDone(kind httpcache.FetchKind, result httpcache.FetchResult, took time.Duration, of httpcache.Subject) {
	for _, m := range *all {
		m.FetchDone(kind, result, took, of)
	}
}

// NotStored implements httpcache.Metrics.
func (all *countAll) NotStored(reason rfc9111.Reason, of httpcache.Subject) {
	for _, m := range *all {
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

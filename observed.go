package larder

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/inspect"
)

// observedCounter counts requests that were only observed, by what their outcome would have been.
type observedCounter struct {
	vec    *prometheus.CounterVec
	counts [httpcache.OutcomeCount][2]prometheus.Counter // by agrees
}

func newObservedCounter(zone string) observedCounter {
	c := observedCounter{vec: prometheus.NewCounterVec(prometheus.CounterOpts(options(zone, "observed_total",
		"Requests that were only observed, by what their outcome would have been; "+
			"agrees is false where the origin's answer differed from what would have been served.")),
		[]string{"outcome", "agrees"})}
	for o := range httpcache.OutcomeCount {
		for i := range c.counts[o] {
			c.counts[o][i] = c.vec.WithLabelValues(o.String(), strconv.FormatBool(i == 1))
		}
	}
	return c
}

// Observed implements httpcache.Metrics.
func (m *metrics) Observed(found *httpcache.Observed) {
	agrees := 0
	if found.Agrees() {
		agrees = 1
	}
	m.observed.counts[found.Would][agrees].Inc()
}

// Observed implements httpcache.Metrics. It ranks each answer that differs from what would have
// been served, with what differs.
func (t *trafficRankings) Observed(found *httpcache.Observed) {
	now := time.Now()
	if !found.Agrees() {
		t.by[inspect.ByDisagree].Add(now, found.URL, 1, found.Differs)
	}
	o := &inspect.Observation{
		URL: found.URL, Would: found.Would.String(), Bypass: found.Bypass.String(), NotStored: found.NotStored.String(),
		Compared: found.Compared, Differs: found.Differs, Failed: found.Failed, Bytes: found.Bytes, Cookies: found.Cookies,
		Refreshes: found.Refreshes, StoredForCookie: found.StoredForCookie, Authorized: found.Authorized, Parameters: found.Parameters,
	}
	t.observed.Add(now, o)
	observedEverywhere.Add(now, o)
}

// observedEverywhere is what was observed in all zones.
var observedEverywhere = inspect.NewObservations()

// Observed implements inspect.Cache.
func (adminView) Observed(zone string) inspect.ObservedReport {
	if zone == "" {
		return observedEverywhere.Report()
	}
	return recordOf(zone).rankings.observed.Report()
}

// Observed implements httpcache.Metrics.
func (all *countAll) Observed(found *httpcache.Observed) {
	for _, m := range *all {
		m.Observed(found)
	}
}

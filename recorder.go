package larder

import (
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/inspect"
	"github.com/larder-cache/larder/stats"
	"github.com/larder-cache/larder/store"
)

// history is the process's: what was counted in each step of time. Like the metrics it outlives
// configurations. Each zone has its own in its record.
var history = &recorder{all: newHistory()}

// recorder reads the counts every 10 s while a configuration runs. No request pays for it.
type recorder struct {
	all *stats.History // the sums over zones

	mu    sync.Mutex
	timer *time.Timer // of the next time, nil while no configuration runs
}

func newHistory() *stats.History {
	sums := []string{
		inspect.SeriesServed, inspect.SeriesSaved, inspect.SeriesHitMS, inspect.SeriesHitsTimed,
		inspect.SeriesFetches, inspect.SeriesFetchMS,
	}
	gauges := []string{
		inspect.SeriesMemoryEntries, inspect.SeriesMemoryBytes, inspect.SeriesDiskEntries, inspect.SeriesDiskBytes,
	}
	series := make([]stats.Series, 0, int(httpcache.OutcomeCount)+len(sums)+len(gauges))
	for o := range httpcache.OutcomeCount {
		series = append(series, stats.Series{Name: inspect.SeriesRequests + o.String()})
	}
	for _, name := range sums {
		series = append(series, stats.Series{Name: name})
	}
	for _, name := range gauges {
		series = append(series, stats.Series{Name: name, Gauge: true})
	}
	return stats.NewHistory(series...)
}

// values are those of all series of a zone now, in the order of newHistory.
func (z *zoneRecord) values() (values []float64) {
	requests := z.metrics.requestCounts()
	for o := range httpcache.OutcomeCount {
		values = append(values, float64(requests[o.String()]))
	}
	samples := &z.rankings.samples
	served, saved := z.metrics.sentBytes()
	fetches, seconds := z.metrics.fetchTimes()
	values = append(values,
		float64(served), float64(saved),
		time.Duration(samples.hitTime.Load()).Seconds()*1e3, float64(samples.hitsTimed.Load()),
		float64(fetches), seconds*1e3,
	)
	var s store.Stats
	for _, has := range running.zones() {
		if has.Zone == z.name {
			s = has.cache.Store().Stats()
		}
	}
	return append(values,
		float64(s.Memory.Entries), float64(s.Memory.Bytes), float64(s.Disk.Entries), float64(s.Disk.Bytes))
}

// record records what has been counted up to now. The counts of a zone that is not configured any
// more stay in the sums.
func (r *recorder) record(now time.Time) {
	var sums []float64
	for _, z := range everyRecord() {
		values := z.values()
		z.history.Record(now, values)
		if sums == nil {
			sums = make([]float64, len(values))
		}
		for i, value := range values {
			sums[i] += value
		}
	}
	if sums != nil {
		r.all.Record(now, sums)
	}
}

// sentBytes returns the bytes of bodies that clients were sent, and those of them that the origin
// did not send for the request.
func (m *metrics) sentBytes() (served, saved uint64) {
	for o := range httpcache.OutcomeCount {
		bytes := read(m.sent[o])
		served += bytes
		if o != httpcache.OutcomeMiss && o != httpcache.OutcomeBypass {
			saved += bytes
		}
	}
	return served, saved
}

// fetchTimes returns how many fetches have ended, and how long they took together.
func (m *metrics) fetchTimes() (fetches uint64, seconds float64) {
	var metric dto.Metric
	if err := m.fetchDuration.Write(&metric); err != nil {
		return 0, 0
	}
	return metric.GetHistogram().GetSampleCount(), metric.GetHistogram().GetSampleSum()
}

// start begins to record, unless that goes on already.
func (r *recorder) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		return
	}
	now := time.Now()
	r.record(now)
	r.timer = time.AfterFunc(untilNextStep(now), r.tick)
}

// stop ends it. What was recorded stays.
func (r *recorder) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}

func (r *recorder) tick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer == nil {
		return
	}
	now := time.Now()
	r.record(now)
	for _, z := range everyRecord() {
		z.rankings.settle(now)
	}
	r.timer.Reset(untilNextStep(now))
}

func untilNextStep(now time.Time) time.Duration {
	return now.Truncate(stats.Finest).Add(stats.Finest).Sub(now)
}

// read returns what was counted in each step up to now, in a zone, or in all where that is empty.
func (r *recorder) read(zone string, step time.Duration) stats.Window {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, kept := time.Now(), r.all
	r.record(now)
	if zone != "" {
		kept = recordOf(zone).history
	}
	w, _ := kept.Read(now, step)
	return w
}

// History implements inspect.Cache.
func (adminView) History(zone string, step time.Duration) (stats.Window, error) {
	return history.read(zone, step), nil
}

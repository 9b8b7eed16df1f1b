package larder

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/inspect"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/stats"
)

// rankings are those of the default zone: which URLs weigh the most. Like the metrics they outlive
// configurations, so that a reload loses nothing.
var rankings = newTrafficRankings()

const (
	// rankedURLs is how many URLs a ranking keeps, each in up to 1 KiB. A count is too low by a
	// thousandth of all at most.
	rankedURLs = 1000
	// rankingHalfLife is when the counts are halved: they are those of today.
	rankingHalfLife = 6 * time.Hour
	// sampledPerSecond bounds the events of a kind that are looked at in a second, about: below,
	// each one is. Between requests over sockets, where nothing of it is in the processor's caches,
	// it takes 7 to 10 µs of a request that is no hit. A minute of samples tells the requests of a
	// URL that has a hundredth of all to a quarter.
	sampledPerSecond = 128
)

// trafficRankings counts what GET /larder/top tells. It looks at samples, so that a hit pays next
// to nothing.
type trafficRankings struct {
	by map[inspect.By]*stats.Top
	// Each kind of event has a sample of its own, so that many hits do not hide the misses.
	hits, others, fetches, notStored *stats.Sampler
	samples                          sampledSums
	observed                         *inspect.Observations
}

// sampledSums are of the requests that were looked at.
type sampledSums struct {
	hitTime   atomic.Int64  // nanoseconds that hits took together,
	hitsTimed atomic.Uint64 // so many of them
}

func newTrafficRankings() *trafficRankings {
	t := &trafficRankings{
		by:   make(map[inspect.By]*stats.Top),
		hits: stats.NewSampler(sampledPerSecond), others: stats.NewSampler(sampledPerSecond),
		fetches: stats.NewSampler(sampledPerSecond), notStored: stats.NewSampler(sampledPerSecond),
		observed: inspect.NewObservations(),
	}
	for _, by := range []inspect.By{
		inspect.ByHits, inspect.ByMisses, inspect.ByNotStored, inspect.ByBytes, inspect.ByFetchTime, inspect.ByDisagree,
	} {
		t.by[by] = stats.NewTop(rankedURLs, rankingHalfLife)
	}
	return t
}

// Request implements httpcache.Metrics.
func (t *trafficRankings) Request(q *httpcache.Request) {
	sampler := t.others
	if o := q.Decision().Outcome; o == httpcache.OutcomeHit || o == httpcache.OutcomeStale {
		sampler = t.hits
	}
	if times := draw(sampler); times > 0 {
		now := time.Now()
		sampler.Drawn(now)
		t.sampled(q, times, now)
	}
}

// draw returns for how many events the one in hand stands, 0 if it is not looked at.
func draw(s *stats.Sampler) uint64 {
	return s.Draw(rand.Uint32()) //nolint:gosec // G404: it is no secret which events are looked at
}

// sampled counts a request for as many as it stands for.
func (t *trafficRankings) sampled(q *httpcache.Request, times uint64, now time.Time) {
	url, d, bytes := q.ListedURL(), q.Decision(), times*uint64(q.Sent())
	t.by[inspect.ByBytes].Add(now, url, bytes, d.Outcome.String())
	switch d.Outcome {
	case httpcache.OutcomeHit, httpcache.OutcomeStale:
		t.samples.hitTime.Add(int64(now.Sub(q.Arrived())))
		t.samples.hitsTimed.Add(1)
		t.by[inspect.ByHits].Add(now, url, times, d.Reason())
	case httpcache.OutcomeRevalidated, httpcache.OutcomeCollapsed:
		t.by[inspect.ByMisses].Add(now, url, times, d.Outcome.String())
	case httpcache.OutcomeMiss:
		t.by[inspect.ByMisses].Add(now, url, times, missReason(d))
	case httpcache.OutcomeBypass, httpcache.OutcomeCount:
	}
}

// missReason is why the origin was asked: that the answer is not stored, if so, else what the
// look-up found.
func missReason(d *httpcache.Decision) string {
	if reason := d.Reason(); reason != "" {
		return reason
	}
	return d.Forward.String()
}

// NotStored implements httpcache.Metrics.
func (t *trafficRankings) NotStored(reason rfc9111.Reason, of httpcache.Subject) {
	t.add(t.notStored, inspect.ByNotStored, 1, reason.String(), of)
}

// FetchDone implements httpcache.Metrics. What is passed on is not ranked: an event stream is open
// for hours.
func (t *trafficRankings) FetchDone(
	kind httpcache.FetchKind, result httpcache.FetchResult, took time.Duration, of httpcache.Subject,
) {
	if kind != httpcache.FetchPass && result != httpcache.FetchRefused {
		t.add(t.fetches, inspect.ByFetchTime, uint64(took), result.String(), of)
	}
}

func (t *trafficRankings) add(sampler *stats.Sampler, by inspect.By, weight uint64, why string, of httpcache.Subject) {
	times := draw(sampler)
	if times == 0 {
		return
	}
	now := time.Now()
	sampler.Drawn(now)
	t.by[by].Add(now, of.URL(), times*weight, why)
}

// settle has more be looked at where there is less than there was.
func (t *trafficRankings) settle(now time.Time) {
	for _, s := range []*stats.Sampler{t.hits, t.others, t.fetches, t.notStored} {
		s.Settle(now)
	}
}

// Top implements inspect.Cache.
func (adminView) Top(q inspect.TopQuery) ([]inspect.TopRow, error) {
	ranked := topOf(q.Zone, q.By, q.Limit, time.Now())
	rows := make([]inspect.TopRow, 0, len(ranked))
	for _, r := range ranked {
		count := float64(r.Count)
		if q.By == inspect.ByFetchTime {
			count = float64(time.Duration(r.Count).Microseconds()) / 1e3
		}
		rows = append(rows, inspect.TopRow{URL: r.Key, Count: count, Share: r.Share, Reason: r.Why})
	}
	return rows, nil
}

// Interface guard.
var _ httpcache.Metrics = (*trafficRankings)(nil)

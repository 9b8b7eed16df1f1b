package larder

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/cputime"
	"github.com/larder-cache/larder/stats"
)

const (
	// hitsInRound take some milliseconds, and several of them are drawn.
	hitsInRound = 4096
	// servedHit is what a hit of 1 KiB over HTTP/1.1 takes of a processor, Caddy's server and the
	// system's calls included: `CPU µs/req` of bench/.
	servedHit = 20 * time.Microsecond
)

// BenchmarkHitRankings measures what a hit pays for `top` and `history`: for the update of the
// rankings, on top of the counts of the metrics. The hit is that of BenchmarkHit. Rounds with the
// update and without it take turns in one process, on one stored response, now the one first and
// now the other. What counts is processor time, and of that the median of the pairs.
//
//	go test -run '^$' -bench BenchmarkHitRankings -benchtime 10s -cpu 1 .
//
// "sampled" is as it is under load: few of the hits are drawn, and the others pay for the draw.
// "each" has every hit drawn, as where few come in a second. Reported are, for each hit:
//
//	alone-ns      the hit without the update
//	rankings-ns   the update
//	±ns           by how much rankings-ns may be off, with a probability of 95 %
//	%-of-hit      rankings-ns in alone-ns; sampled, at most 1 is wanted
//	%-of-served   rankings-ns in a hit over a socket
//
// Only half of the hits can be drawn here, and as many are drawn in a second as always. So
// "sampled" has each of these hits pay twice for that.
func BenchmarkHitRankings(b *testing.B) {
	counts := &recordOf("default").counts
	all, sampler := *counts, rankings.hits
	without := all[:len(all)-1]
	if all[len(without)] != rankings {
		b.Fatal("the rankings are not the last that counts")
	}
	for name, hits := range map[string]*stats.Sampler{
		"sampled": stats.NewSampler(sampledPerSecond), "each": stats.NewSampler(math.MaxInt),
	} {
		b.Run(name, func(b *testing.B) {
			serve := benchmarkedHit(b, 1<<10)
			rankings.hits = hits
			b.Cleanup(func() { *counts, rankings.hits = all, sampler })
			for range 1 << 18 { // until few are drawn, as under load
				serve()
			}
			var alone, update []float64
			for pair := 0; b.Loop(); pair++ {
				var took [2]float64
				for i := range took {
					kind := (pair + i) % 2
					*counts = [...]countAll{without, all}[kind]
					took[kind] = nanosecondsPerHit(serve)
				}
				alone, update = append(alone, took[0]), append(update, took[1]-took[0])
			}
			reportUpdate(b, alone, update)
		})
	}
}

func reportUpdate(b *testing.B, alone, update []float64) {
	hit, _ := median(alone)
	ranked, off := median(update)
	b.ReportMetric(0, "ns/op") // a pair of rounds, which says nothing
	b.ReportMetric(hit, "alone-ns")
	b.ReportMetric(ranked, "rankings-ns")
	b.ReportMetric(off, "±ns")
	b.ReportMetric(100*ranked/hit, "%-of-hit")
	b.ReportMetric(100*ranked/float64(servedHit), "%-of-served")
}

func nanosecondsPerHit(serve func()) float64 {
	begin := cputime.Used()
	for range hitsInRound {
		serve()
	}
	return float64(cputime.Used()-begin) / hitsInRound
}

// median returns the median of a sample, and half of the interval between the order statistics that
// have the median of what was sampled between them with a probability of 95 %.
func median(sample []float64) (middle, off float64) {
	slices.Sort(sample)
	n := len(sample)
	rank := int(0.98 * math.Sqrt(float64(n)))
	low, high := sample[max(n/2-rank, 0)], sample[min(n/2+rank, n-1)]
	return sample[n/2], (high - low) / 2
}

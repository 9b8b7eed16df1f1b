package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/larder-cache/larder/bench/traces"
	"github.com/larder-cache/larder/store"
)

// hitRow is what one cache made of one trace: shares of hits among the requests and among the
// bytes, a crawler's left out.
type hitRow struct {
	Trace   string  `json:"trace"`
	Cache   string  `json:"cache"`
	Objects float64 `json:"objects"`
	Bytes   float64 `json:"bytes"`
}

// The caches of the table, in its order. The policies are the real store's, W-TinyLFU and S3-FIFO
// those of the otter library, the others the simulator's.
var (
	policies = []store.Eviction{store.LRU, store.LFU, store.FIFO}
	caches   = []string{"lru", "lfu", "fifo", otterCaches[0], otterCaches[1], plainLRU, clairvoyant}
)

const (
	plainLRU    = "plain LRU"
	clairvoyant = "clairvoyant"
	// A scan leaves at least this share of the hits that plain LRU has without it.
	scanKeeps = 0.9
)

// hitRatio drives the store, and the simulators beside it, with every trace.
func hitRatio(ctx context.Context, b *bench, c *benchCase, r *report) (err error) {
	scale := traces.Full
	if b.short {
		scale = traces.Scale{Objects: 3000, Requests: 20_000, Scan: 20_000, Fit: 300}
	}
	fmt.Fprintf(os.Stderr, "hit-ratio: seed %d\n", b.seed)
	all := traces.All(scale, b.seed)
	overhead, err := traces.Overhead(all[0])
	if err != nil {
		return err
	}
	memory := scale.Memory(overhead)
	others, err := startOtters(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, others.stop()) }()
	for _, t := range all {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), t.Name)
		rows, err := ratiosOf(t, memory, overhead, others)
		if err != nil {
			return err
		}
		if !b.short {
			r.Hits = append(r.Hits, rows...)
		}
	}
	if b.short {
		return nil
	}
	r.note(c, "seed", float64(b.seed), "")
	r.note(c, "memory budget", float64(memory)/mib, "MiB")
	r.note(c, "charged for an object beside its body", float64(overhead), "bytes")
	for _, policy := range policies[:2] {
		for _, name := range []string{"Zipf 0.7", "Zipf 0.9", "Zipf 1.1"} {
			before, during := r.hitRow(name, plainLRU), r.hitRow(name+traces.Crawled, policy.String())
			r.atLeast(c, fmt.Sprintf("hits of %v, %s, under a scan, by those of plain LRU without", policy, name), during.Objects/before.Objects, "", scanKeeps)
		}
	}
	return nil
}

// ratiosOf gives one row for each cache.
func ratiosOf(t *traces.Trace, memory, overhead int64, others *otters) ([]hitRow, error) {
	var rows []hitRow
	add := func(cache string, ratio traces.Ratio) {
		rows = append(rows, hitRow{t.Name, cache, ratio.Objects, ratio.Bytes})
	}
	for _, policy := range policies {
		ratio, err := traces.Drive(t, memory, policy)
		if err != nil {
			return nil, err
		}
		add(policy.String(), ratio)
	}
	beside, err := others.ratios(t, memory, overhead)
	if err != nil {
		return nil, err
	}
	rows = append(rows, beside...)
	add(plainLRU, traces.LRU(t, memory, overhead))
	add(clairvoyant, traces.Clairvoyant(t, memory, overhead))
	return rows, nil
}

// hitRow finds the row of one cache and trace.
func (r *report) hitRow(trace, cache string) hitRow {
	for _, row := range r.Hits {
		if row.Trace == trace && row.Cache == cache {
			return row
		}
	}
	return hitRow{}
}

// hitTable is a line for each trace, in Markdown.
func (r *report) hitTable() string {
	if len(r.Hits) == 0 {
		return ""
	}
	var out strings.Builder
	fmt.Fprintf(&out, "| hits in percent: requests / bytes | %s |\n|---|%s\n", strings.Join(caches, " | "), strings.Repeat("---:|", len(caches)))
	for i, row := range r.Hits {
		if i%len(caches) == 0 {
			fmt.Fprintf(&out, "| %s ", row.Trace)
		}
		fmt.Fprintf(&out, "| %.1f / %.1f ", 100*row.Objects, 100*row.Bytes)
		if i%len(caches) == len(caches)-1 {
			out.WriteString("|\n")
		}
	}
	return out.String()
}

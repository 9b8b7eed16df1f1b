package inspect

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
	"github.com/larder-cache/larder/stats"
)

// The names of the series of a history.
const (
	SeriesRequests = "requests_" // and an outcome
	SeriesServed   = "bytes_served"
	SeriesSaved    = "bytes_saved" // of SeriesServed, those that the origin did not send for the request
	SeriesFetches  = "fetches"     // that have ended
	SeriesFetchMS  = "fetch_ms"    // what they took together, in milliseconds
	// Of the hits that were looked at, what they took together, in milliseconds, and how many these
	// are.
	SeriesHitMS     = "hit_ms"
	SeriesHitsTimed = "hits_timed"
	// What the tiers have at the end of a step.
	SeriesMemoryEntries = "memory_entries"
	SeriesMemoryBytes   = "memory_bytes"
	SeriesDiskEntries   = "disk_entries"
	SeriesDiskBytes     = "disk_bytes"
)

func historyFeature(running runningCache) adminapi.Feature {
	return adminapi.Feature{
		Endpoints: []adminapi.Endpoint{{
			Method: http.MethodGet, Path: "/larder/history",
			Answer: func(r *http.Request) (any, error) { return answerHistory(r, running) },
		}},
		Commands: []func(*adminapi.Client) *cobra.Command{historyCommand},
	}
}

// steps are the words of the query.
func steps() []string {
	all := stats.Steps()
	words := make([]string, 0, len(all))
	for _, step := range all {
		words = append(words, stats.Step(step).String())
	}
	return words
}

func answerHistory(r *http.Request, running runningCache) (any, error) {
	word, zone := steps()[0], ""
	cache, err := running.asked(
		r, &zone,
		adminapi.TextParam("step", &word, func(text string) (string, error) { return chosen(text, steps()) }),
	)
	if err != nil {
		return nil, err
	}
	step, err := time.ParseDuration(word)
	if err != nil {
		return nil, err
	}
	window, err := cache.History(zone, step)
	if err != nil {
		return nil, adminapi.Unavailable(fmt.Errorf("the history could not be read: %w", err))
	}
	return window, nil
}

func historyCommand(api *adminapi.Client) *cobra.Command {
	var flags answerFlags
	var step string
	cmd := &cobra.Command{
		Use:   "history [--step 10s] [--zone Z] [--json]",
		Short: "Prints what was counted in each step of the last hour, day or fortnight",
		Long: `
Prints a line for each step of time: when it began, requests, the hit ratio,
bytes that clients were sent, fetches from the origin, how long one took on
average, bytes in memory and on disk. The hit ratio is the share of hit, stale
and collapsed in all but bypass. --step is one of 10s (the last hour), 1m (the
last day), 15m (the last fortnight). A dash stands where nothing was recorded.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, out := flags.query(cmd), cmd.OutOrStdout()
			query.Set("step", step)
			return adminapi.Show(api, out, "/larder/history?"+query.Encode(), flags.raw, func(h *printedHistory) error { return h.print(out) })
		},
	}
	cmd.Flags().StringVar(&step, "step", steps()[0], "How long a step is: 10s, 1m or 15m")
	flags.register(cmd)
	return cmd
}

// print prints a line for each step.
func (h *printedHistory) print(out io.Writer) error {
	step, err := time.ParseDuration(h.Step)
	if err != nil {
		return errors.New("decoding the answer: its step is no duration")
	}
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "FROM\tREQUESTS\tHIT RATIO\tSERVED\tFETCHES\tFETCH TIME\tMEMORY\tDISK")
	for i := range h.Series[SeriesFetches] {
		at := time.Unix(h.From, 0).Add(time.Duration(i) * step).UTC()
		fmt.Fprintln(table, at.Format(time.RFC3339)+"\t"+h.line(i))
	}
	return table.Flush()
}

// printedHistory is a stats.Window with nils for what is not known.
type printedHistory struct {
	Step   string                `json:"step"`
	From   int64                 `json:"from"`
	Series map[string][]*float64 `json:"series"`
}

// at returns a value, 0 where there is none.
func (h *printedHistory) at(name string, i int) float64 {
	if values := h.Series[name]; i < len(values) && values[i] != nil {
		return *values[i]
	}
	return 0
}

func (h *printedHistory) line(i int) string {
	if h.Series[SeriesFetches][i] == nil {
		return "-\t-\t-\t-\t-\t-\t-"
	}
	all, requests := 0.0, make(map[string]float64)
	for name := range h.Series {
		if outcome, ok := strings.CutPrefix(name, SeriesRequests); ok {
			requests[outcome] = h.at(name, i)
			all += requests[outcome]
		}
	}
	hits, took := "-", "-"
	if ratio := hitRatio(requests); !math.IsNaN(ratio) {
		hits = fmt.Sprintf("%.1f%%", 100*ratio)
	}
	if fetches := h.at(SeriesFetches, i); fetches > 0 {
		took = fmt.Sprintf("%.1fms", h.at(SeriesFetchMS, i)/fetches)
	}
	size := func(name string) string { return humanize.IBytes(uint64(h.at(name, i))) }
	return fmt.Sprintf("%.0f\t%s\t%s\t%.0f\t%s\t%s\t%s",
		all, hits, size(SeriesServed), h.at(SeriesFetches, i), took, size(SeriesMemoryBytes), size(SeriesDiskBytes))
}

// hitRatio is the share of the requests that were answered without one to the origin of their own
// in those that go through the cache, by outcome. It is NaN where none do. The dashboard and the
// queries for Prometheus have the same: docs/operating.md defines it.
func hitRatio(requests map[string]float64) float64 {
	spared, through := 0.0, 0.0
	for outcome, n := range requests {
		switch outcome {
		case "hit", "stale", "collapsed":
			spared += n
			through += n
		case "bypass":
		default:
			through += n
		}
	}
	return spared / through
}

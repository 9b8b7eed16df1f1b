package inspect

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
)

// By is what URLs are ranked by.
type By string

// What URLs are ranked by.
const (
	// ByHits: requests that were answered from the store, fresh or stale.
	ByHits By = "hits"
	// ByMisses: requests that were not, and could have been: the origin was asked.
	ByMisses By = "misses"
	// ByNotStored: answers of the origin that were not stored.
	ByNotStored By = "not_stored"
	// ByBytes: bytes of bodies that clients were sent.
	ByBytes By = "bytes"
	// ByFetchTime: milliseconds at the origin, of all fetches together.
	ByFetchTime By = "fetch_time"
	// ByDisagree: answers of the origin that differ from what a hit would have given.
	ByDisagree By = "disagree"
)

// bys are the words of the query.
var bys = []string{
	string(ByHits), string(ByMisses), string(ByNotStored), string(ByBytes), string(ByFetchTime), string(ByDisagree),
}

// Limits of a ranking.
const (
	defaultRows = 20
	maxRows     = 1000
)

// TopQuery asks for a ranking of URLs.
type TopQuery struct {
	By    By     // what is ranked by
	Limit int    // how many URLs at most, 1 to 1000
	Zone  string // empty: all zones
}

// TopRow is a URL of a ranking.
type TopRow struct {
	URL    string  `json:"url"`    // cut at 512 bytes, and ends with … then
	Count  float64 `json:"count"`  // of what it is ranked by, whole but for milliseconds
	Share  float64 `json:"share"`  // of that of all URLs, 0 to 1
	Reason string  `json:"reason"` // the commonest one, empty where there is none
}

// Ranking is the answer to a TopQuery.
type Ranking struct {
	By   By       `json:"by"`
	Rows []TopRow `json:"rows"`
}

func topFeature(running runningCache) adminapi.Feature {
	return adminapi.Feature{
		Endpoints: []adminapi.Endpoint{{
			Method: http.MethodGet, Path: "/larder/top",
			Answer: func(r *http.Request) (any, error) { return answerTop(r, running) },
		}},
		Commands: []func(*adminapi.Client) *cobra.Command{topCommand},
	}
}

func answerTop(r *http.Request, running runningCache) (any, error) {
	by, query := string(ByMisses), TopQuery{Limit: defaultRows}
	cache, err := running.asked(
		r, &query.Zone,
		adminapi.TextParam("by", &by, func(text string) (string, error) { return chosen(text, bys) }),
		limitParam(&query.Limit, maxRows),
	)
	if err != nil {
		return nil, err
	}
	query.By = By(by)
	rows, err := cache.Top(query)
	if err != nil {
		return nil, adminapi.Unavailable(fmt.Errorf("the ranking could not be read: %w", err))
	}
	return Ranking{By: query.By, Rows: append([]TopRow{}, rows...)}, nil
}

func topCommand(api *adminapi.Client) *cobra.Command {
	var flags answerFlags
	var by string
	var limit int
	cmd := &cobra.Command{
		Use:   "top [--by misses] [--limit 20] [--zone Z] [--json]",
		Short: "Ranks URLs by misses, hits, bytes and other counts",
		Long: `
Prints the URLs with the most of what --by names, one a line: the count, its
share in that of all URLs, the commonest reason, the URL. --by is one of
hits, misses, not_stored, bytes, fetch_time (milliseconds at the origin),
disagree.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, out := flags.query(cmd), cmd.OutOrStdout()
			query.Set("by", by)
			query.Set("limit", strconv.Itoa(limit))
			return adminapi.Show(api, out, "/larder/top?"+query.Encode(), flags.raw, func(r *Ranking) error { return r.print(out) })
		},
	}
	cmd.Flags().StringVar(&by, "by", string(ByMisses), "What to rank by")
	cmd.Flags().IntVar(&limit, "limit", defaultRows, "How many URLs, at most 1000")
	flags.register(cmd)
	return cmd
}

// print prints the ranking for people.
func (r *Ranking) print(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "COUNT\tSHARE\tREASON\tURL")
	for _, row := range r.Rows {
		fmt.Fprintf(table, "%s\t%.1f%%\t%s\t%s\n", strconv.FormatFloat(row.Count, 'f', -1, 64), 100*row.Share, orDash(row.Reason), row.URL)
	}
	return table.Flush()
}

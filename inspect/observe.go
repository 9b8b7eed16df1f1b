package inspect

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
)

// defaultGroups is how many groups a report has unless it is asked for another number.
const defaultGroups = 50

func observedFeature(running runningCache) adminapi.Feature {
	return adminapi.Feature{
		Endpoints: []adminapi.Endpoint{{
			Method: http.MethodGet, Path: "/larder/observed",
			Answer: func(r *http.Request) (any, error) { return answerObserved(r, running) },
		}},
		Commands: []func(*adminapi.Client) *cobra.Command{observeCommand},
	}
}

func answerObserved(r *http.Request, running runningCache) (any, error) {
	limit, zone := defaultGroups, ""
	cache, err := running.asked(r, &zone, limitParam(&limit, maxRows))
	if err != nil {
		return nil, err
	}
	report := cache.Observed(zone)
	report.Groups = report.Groups[:min(limit, len(report.Groups))]
	return report, nil
}

func observeCommand(api *adminapi.Client) *cobra.Command {
	var flags answerFlags
	var limit int
	cmd := &cobra.Command{
		Use:   "observe [--limit 50] [--zone Z] [--json]",
		Short: "Reports what routes with `observe` would have done, and where it would have been wrong",
		Long: `
Prints what was observed on the routes that have the directive's word observe,
since Caddy started: what would have been answered without the origin, and a
line for each host and first path segment. Its verdict is

  serve    requests would have been saved, and no compared answer differs
  check    some header fields differ
  wrong    some clients would have got another answer than the origin's
  nothing  nothing would have been saved

Below the table stand the reasons, and what to add to the configuration.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, out := flags.query(cmd), cmd.OutOrStdout()
			query.Set("limit", strconv.Itoa(limit))
			return adminapi.Show(api, out, "/larder/observed?"+query.Encode(), flags.raw, func(r *ObservedReport) error { return r.print(out) })
		},
	}
	cmd.Flags().IntVar(&limit, "limit", defaultGroups, "How many lines, at most 1000")
	flags.register(cmd)
	return cmd
}

// print prints the report for people.
func (r *ObservedReport) print(out io.Writer) error {
	if r.Requests == 0 {
		_, err := fmt.Fprintln(out, "Nothing was observed. The word `observe` in the larder directive of a site makes it observe.")
		return err
	}
	fmt.Fprintf(out, "Since %s: %s. They would have been: %s.\n",
		r.Since.Format(time.DateTime), plural(r.Requests, "request"), r.outcomes())
	fmt.Fprintf(out, "%s of them would not have reached the origin.\n", percent(r.SavedRequests, r.Requests))
	fmt.Fprintf(out, "The origin would have had %s of the requests, and sent %s of %s.\n",
		percent(r.Requests-r.SavedRequests, r.Requests), size(r.Bytes-r.SavedBytes), size(r.Bytes))
	fmt.Fprintf(out, "%s with what would have been served: %s.\n\n", compared(r.Compared), differing(r.Differ))
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "GROUP\tREQUESTS\tSAVED\tBYTES SAVED\tCOMPARED\tDIFFER\tVERDICT")
	for i := range r.Groups {
		g := &r.Groups[i]
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%d\t%d\t%s\n",
			g.Group, g.Requests, percent(g.SavedRequests, g.Requests), size(g.SavedBytes), g.Compared, g.Differ, g.Verdict)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for i := range r.Groups {
		r.Groups[i].print(out)
	}
	_, err := fmt.Fprintf(out, "\n%s\n", r.conclusion())
	return err
}

// outcomes has the outcomes in the order in which they save.
func (r *ObservedReport) outcomes() string {
	var texts []string
	for _, outcome := range []string{"hit", "stale", "collapsed", "revalidated", "miss", "bypass"} {
		if n := r.Would[outcome]; n > 0 {
			texts = append(texts, fmt.Sprintf("%s %d", outcome, n))
		}
	}
	return strings.Join(texts, ", ")
}

func (g *ObservedGroup) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s: %s\n", g.Group, g.Verdict)
	for _, sentence := range g.Because {
		fmt.Fprintf(out, "  %s\n", sentence)
	}
	for _, e := range g.Examples {
		fmt.Fprintf(out, "  differs by %s: %s\n", e.Reason, e.URL)
	}
	for _, advice := range g.Advice {
		fmt.Fprintf(out, "  → %s\n", advice)
	}
}

// conclusion says whether to switch from observing to serving.
func (r *ObservedReport) conclusion() string {
	var wrong []string
	for i := range r.Groups {
		if r.Groups[i].Verdict == VerdictWrong {
			wrong = append(wrong, r.Groups[i].Group)
		}
	}
	switch {
	case len(wrong) > 0:
		return "Do not serve yet: see to " + strings.Join(wrong, ", ") + " first."
	case r.SavedRequests == 0:
		return "To serve would save nothing so far."
	}
	return "Nothing was observed that speaks against serving: take `observe` out, and what is stored is served at once."
}

func percent(n, of int64) string { return fmt.Sprintf("%.1f%%", 100*float64(n)/float64(max(of, 1))) }

func compared(n int64) string {
	if n == 1 {
		return "1 answer was compared"
	}
	return fmt.Sprintf("%d answers were compared", n)
}

func differing(n int64) string {
	switch n {
	case 0:
		return "all agree"
	case 1:
		return "1 differs"
	}
	return fmt.Sprintf("%d differ", n)
}

// size is a number of bytes for people.
func size(n int64) string {
	const unit = 1 << 10
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, units := float64(n)/unit, "KMGTP"
	for value >= unit && len(units) > 1 {
		value, units = value/unit, units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", value, units[0])
}

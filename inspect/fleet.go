package inspect

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
)

// Fleet is the list of the machines that share a cache.
type Fleet struct {
	Name  string `json:"name"`  // of the configuration
	Epoch string `json:"epoch"` // of the server's log
	Tail  uint64 `json:"tail"`  // the newest record of the log
	Nodes []Node `json:"nodes"`
}

// Node is one machine of a fleet.
type Node struct {
	ID       string    `json:"id"`        // random, of one process
	Name     string    `json:"name"`      // of its machine
	Version  string    `json:"version"`   // of Larder there
	Address  string    `json:"address"`   // of its machine
	State    string    `json:"state"`     // as "shared.state" of the statistics
	This     bool      `json:"this"`      // it answers this request
	LastBeat time.Time `json:"last_beat"` // by the server's clock
	Silent   int64     `json:"silent_ms"` // milliseconds since then
	Applied  uint64    `json:"applied"`   // the newest record of the log that it has applied
	// How many purges it has yet to apply, -1 if that is not known.
	Lag int64 `json:"lag"`
}

// ErrNoFleet is what Cache.Fleet returns, wrapped or not, where the running configuration has no
// fleet.
var ErrNoFleet = errors.New("this configuration has no fleet; write shared in the global option larder")

func fleetFeature(running runningCache) adminapi.Feature {
	return adminapi.Feature{
		Endpoints: []adminapi.Endpoint{{
			Method: http.MethodGet, Path: "/larder/fleet",
			Answer: func(r *http.Request) (any, error) { return answerFleet(r, running) },
		}},
		Commands: []func(*adminapi.Client) *cobra.Command{fleetCommand},
	}
}

func answerFleet(r *http.Request, running runningCache) (any, error) {
	var zone string // which says nothing here: a fleet is the process's
	cache, err := running.asked(r, &zone)
	if err != nil {
		return nil, err
	}
	fleet, err := cache.Fleet(r.Context())
	switch {
	case errors.Is(err, ErrNoFleet):
		return nil, adminapi.NotFound(err)
	case err != nil:
		return nil, adminapi.Unavailable(fmt.Errorf("the nodes could not be read: %w", err))
	}
	if fleet.Nodes == nil {
		fleet.Nodes = []Node{}
	}
	return fleet, nil
}

func fleetCommand(api *adminapi.Client) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:   "fleet [--json]",
		Short: "Lists the machines that share the cache, one a line",
		Long: `
Lists the machines that share the cache: name, version, address, state, time
since the last beat, and how many purges a machine has yet to apply. The one
that answers has a star.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			return adminapi.Show(api, out, "/larder/fleet", raw, func(f *Fleet) error { return f.print(out) })
		},
	}
	cmd.Flags().BoolVar(&raw, "json", false, "Print the answer of the admin API")
	return cmd
}

// print prints a line for each node.
func (f *Fleet) print(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tVERSION\tADDRESS\tSTATE\tLAST BEAT\tLAG")
	for _, node := range f.Nodes {
		fmt.Fprintln(table, node.line())
	}
	return table.Flush()
}

func (n Node) line() string {
	name := orDash(n.Name)
	if n.This {
		name += " *"
	}
	lag := "-"
	if n.Lag >= 0 {
		lag = strconv.FormatInt(n.Lag, 10)
	}
	silent := (time.Duration(n.Silent) * time.Millisecond).String() + " ago"
	return name + "\t" + orDash(n.Version) + "\t" + orDash(n.Address) + "\t" + orDash(n.State) + "\t" + silent + "\t" + lag
}

// orDash keeps a column from being empty.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

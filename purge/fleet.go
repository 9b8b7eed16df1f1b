package purge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// Reach says how far a purge reaches in a fleet.
type Reach struct {
	Nodes     int      `json:"nodes"`     // that hold it now, this one counted
	Fenced    []string `json:"fenced"`    // names of those that gave no answer and were waited out
	Uncertain []string `json:"uncertain"` // names of those that may answer from older content
}

// Fleet is the list of the machines that share a cache.
type Fleet struct {
	Name  string `json:"name"`
	Epoch string `json:"epoch"` // of the server's log
	Tail  uint64 `json:"tail"`  // the newest record of the log
	Nodes []Node `json:"nodes"`
}

// Node is one machine of a fleet.
type Node struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Address  string    `json:"address"`
	State    string    `json:"state"`
	This     bool      `json:"this"`      // it answers this request
	LastBeat time.Time `json:"last_beat"` // by the server's clock
	Silent   int64     `json:"silent_ms"` // since then
	Applied  uint64    `json:"applied"`   // the newest record of the log that it has applied
	Lag      int64     `json:"lag"`       // how many purges it has yet to apply, -1 if that is not known
}

// Errors of Cache.Fleet and Cache.Purge, wrapped or not.
var (
	// ErrNoFleet says that the running configuration has no fleet.
	ErrNoFleet = errors.New("this configuration has no fleet; write shared in the global option larder")
	// ErrNotEverywhere says that a purge holds on this node, and may not on others.
	ErrNotEverywhere = errors.New("it holds on this node only")
)

func (a *adminAPI) serveFleet(w http.ResponseWriter, r *http.Request) error {
	if err := allowMethods(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	cache, err := a.runningCache()
	if err != nil {
		return err
	}
	fleet, err := cache.Fleet(r.Context())
	switch {
	case errors.Is(err, ErrNoFleet):
		return notFound(err)
	case err != nil:
		return unavailable(fmt.Errorf("the nodes could not be read: %w", err))
	}
	if fleet.Nodes == nil {
		fleet.Nodes = []Node{}
	}
	return writeJSON(w, fleet)
}

func fleetCommand(api *client) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:   "fleet [--json]",
		Short: "Lists the machines that share the cache, one a line",
		Long: `
Lists the machines that share the cache: name, version, address, state, time
since the last beat, and how many purges a machine has yet to apply. The one
that answers has a star.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return listFleet(cmd.OutOrStdout(), api, raw) },
	}
	cmd.Flags().BoolVar(&raw, "json", false, "Print the answer of the admin API")
	return cmd
}

func listFleet(out io.Writer, api *client, raw bool) error {
	var answer json.RawMessage
	if err := api.call(http.MethodGet, "/larder/fleet", nil, &answer); err != nil {
		return err
	}
	if raw {
		return printIndented(out, answer)
	}
	var fleet Fleet
	if err := json.Unmarshal(answer, &fleet); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tVERSION\tADDRESS\tSTATE\tLAST BEAT\tLAG")
	for _, node := range fleet.Nodes {
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

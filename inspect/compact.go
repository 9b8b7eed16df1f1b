package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
)

// Compactions are the files that were compacted, by zone.
type Compactions struct {
	Zones map[string]Compaction `json:"zones"`
}

// Compaction is the size of a file before and after it was compacted.
type Compaction struct {
	Before int64 `json:"before"` // in bytes
	After  int64 `json:"after"`  // in bytes
}

// ErrNoFile is what Cache.Compact returns, wrapped or not, where there is no file.
var ErrNoFile = errors.New("there is no disk tier, so there is no file to compact")

func compactFeature(running runningCache) adminapi.Feature {
	return adminapi.Feature{
		Endpoints: []adminapi.Endpoint{{
			Method: http.MethodPost, Path: "/larder/compact",
			Answer: func(r *http.Request) (any, error) { return answerCompact(r, running) },
		}},
		Commands: []func(*adminapi.Client) *cobra.Command{compactCommand},
	}
}

func answerCompact(r *http.Request, running runningCache) (any, error) {
	var zone string
	cache, err := running.asked(r, &zone)
	if err != nil {
		return nil, err
	}
	compactions, err := cache.Compact(r.Context(), zone)
	switch {
	case errors.Is(err, ErrNoFile):
		return nil, adminapi.BadRequest(err)
	case err != nil:
		return nil, adminapi.Unavailable(fmt.Errorf("not all files could be compacted, and those stay as they are: %w", err))
	}
	return compactions, nil
}

func compactCommand(api *adminapi.Client) *cobra.Command {
	var flags answerFlags
	cmd := &cobra.Command{
		Use:   "compact [--zone Z] [--json]",
		Short: "Gives room that the files of the disk tier do not use back to the file system",
		Long: `
Copies what is in the file of each zone to a new file, which takes its place,
and prints the sizes. Hits, purges and what is stored go on meanwhile. A file
needs as much room beside it as is in use in it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, out := flags.query(cmd), cmd.OutOrStdout()
			return compact(api, out, query, flags.raw)
		},
	}
	flags.register(cmd)
	return cmd
}

func compact(api *adminapi.Client, out io.Writer, query url.Values, raw bool) error {
	var answer json.RawMessage
	if err := api.Call(http.MethodPost, "/larder/compact?"+query.Encode(), nil, &answer); err != nil {
		return err
	}
	return adminapi.Print(out, answer, raw, func(c *Compactions) error {
		for _, zone := range slices.Sorted(maps.Keys(c.Zones)) {
			of := c.Zones[zone]
			if _, err := fmt.Fprintf(out, "%s: %s, was %s\n", zone, size(of.After), size(of.Before)); err != nil {
				return err
			}
		}
		return nil
	})
}

package inspect

import (
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
)

func statsFeature(running runningCache) adminapi.Feature {
	return adminapi.Feature{
		Endpoints: []adminapi.Endpoint{{
			Method: http.MethodGet, Path: "/larder/stats",
			Answer: func(r *http.Request) (any, error) { return answerStats(r, running) },
		}},
		Commands: []func(*adminapi.Client) *cobra.Command{statsCommand},
	}
}

func answerStats(r *http.Request, running runningCache) (any, error) {
	var zone string
	cache, err := running.asked(r, &zone)
	if err != nil {
		return nil, err
	}
	return cache.Stats(zone), nil
}

func statsCommand(api *adminapi.Client) *cobra.Command {
	var zone string
	cmd := &cobra.Command{
		Use:   "stats [--zone Z] [--json]",
		Short: "Prints what the cache holds and has done, as JSON",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if cmd.Flags().Changed("zone") {
				query.Set("zone", zone)
			}
			var stats json.RawMessage
			if err := api.Call(http.MethodGet, "/larder/stats?"+query.Encode(), nil, &stats); err != nil {
				return err
			}
			return adminapi.PrintJSON(cmd.OutOrStdout(), stats)
		},
	}
	cmd.Flags().StringVar(&zone, "zone", "", "Only this zone")
	cmd.Flags().Bool("json", true, "Print the answer of the admin API, as it does anyway")
	return cmd
}

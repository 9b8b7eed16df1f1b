package inspect

import (
	"encoding/json"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
)

func statsFeature(running runningCache) adminapi.Feature {
	return adminapi.Feature{
		Endpoints: []adminapi.Endpoint{{
			Method: http.MethodGet, Path: "/larder/stats",
			Answer: func(*http.Request) (any, error) { return answerStats(running) },
		}},
		Commands: []func(*adminapi.Client) *cobra.Command{statsCommand},
	}
}

func answerStats(running runningCache) (any, error) {
	cache, err := running.cache()
	if err != nil {
		return nil, err
	}
	return cache.Stats(), nil
}

func statsCommand(api *adminapi.Client) *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Prints what the cache holds and has done, as JSON",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var stats json.RawMessage
			if err := api.Call(http.MethodGet, "/larder/stats", nil, &stats); err != nil {
				return err
			}
			return adminapi.PrintJSON(cmd.OutOrStdout(), stats)
		},
	}
}

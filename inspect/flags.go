package inspect

import (
	"net/url"

	"github.com/spf13/cobra"
)

// answerFlags are --zone and --json of a command that prints what the admin API answers.
type answerFlags struct {
	zone string
	raw  bool // print it as the admin API has it
}

func (f *answerFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.zone, "zone", "", "Only this zone")
	cmd.Flags().BoolVar(&f.raw, "json", false, "Print the answer of the admin API")
}

// query returns the query string's parameters, to which a command adds its own.
func (f *answerFlags) query(cmd *cobra.Command) url.Values {
	query := url.Values{}
	if cmd.Flags().Changed("zone") {
		query.Set("zone", f.zone)
	}
	return query
}

package check

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
	"github.com/larder-cache/larder/internal/machine"
)

// Feature returns the command of this package, which asks no running Caddy.
func Feature() adminapi.Feature {
	return adminapi.Feature{Commands: []func(*adminapi.Client) *cobra.Command{command}}
}

func command(api *adminapi.Client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [<Caddyfile>]",
		Short: "Finds in a configuration what Caddy takes and what will surprise",
		Long: `
Looks through a configuration for what adapts and does not do what is meant: a
larder that no request comes to, words that another word leaves without effect,
lifetimes that apply to no visitor with a cookie, budgets that the machine does
not have, purges and an admin API that are open to the world. A finding is a
line with file, line and what to write instead; of JSON it has the path. Without
a name it reads ./Caddyfile.

Nothing of the configuration is run. The exit status is 1 if anything is found.`,
		Example: `  $ caddy larder check /etc/caddy/Caddyfile
  $ caddy larder check caddy.json
  $ caddy larder check site.conf --adapter caddyfile`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			adapter, err := cmd.Flags().GetString("adapter")
			if err != nil {
				return err
			}
			file, err := api.File(args)
			if err != nil {
				return err
			}
			return run(cmd, file, adapter, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print the findings as JSON")
	return cmd
}

func run(cmd *cobra.Command, file, adapter string, asJSON bool) error {
	source, err := Read(file, adapter)
	if err != nil {
		return err
	}
	findings, err := Findings(source, Machine{machine.Memory(), machine.TooLarge})
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if asJSON {
		text, err := json.Marshal(append([]Finding{}, findings...))
		if err != nil {
			return err
		}
		if err := adminapi.PrintJSON(out, text); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			if _, err := fmt.Fprintln(out, adminapi.Printable(f.String())); err != nil {
				return err
			}
		}
	}
	switch len(findings) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("1 finding in %s", file)
	}
	return fmt.Errorf("%d findings in %s", len(findings), file)
}

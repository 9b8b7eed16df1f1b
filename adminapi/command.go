package adminapi

import (
	"strings"

	"github.com/spf13/cobra"
)

// build makes cmd the command `caddy larder`. A failure is returned, so that cobra prints it as one
// line on standard error and Caddy exits with status 1.
func build(cmd *cobra.Command, commands []func(*Client) *cobra.Command) {
	api := &Client{}
	cmd.Long = `
Talks to the admin API of a running Caddy. The address is taken from --address,
else from the configuration file that --config names, else it is Caddy's
default, localhost:2019.`
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }

	flags := cmd.PersistentFlags()
	flags.StringVar(&api.address, "address", "", "The address of the admin API")
	flags.StringVarP(&api.config, "config", "c", "", "Configuration file to take the address of the admin API from")
	flags.StringVarP(&api.adapter, "adapter", "a", "", "Name of the config adapter to apply")

	for _, command := range commands {
		cmd.AddCommand(command(api))
	}
}

// usage lists the subcommands, for the list of Caddy's commands.
func usage(commands []func(*Client) *cobra.Command) string {
	names := make([]string, 0, len(commands))
	for _, command := range commands {
		names = append(names, command(new(Client)).Name())
	}
	return strings.Join(names, "|")
}

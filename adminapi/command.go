package adminapi

import (
	"fmt"
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
	cmd.Args = noCommand
	cmd.SetFlagErrorFunc(flagError)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }

	flags := cmd.PersistentFlags()
	flags.StringVar(&api.address, "address", "", "The address of the admin API")
	flags.StringVarP(&api.config, "config", "c", "", "Configuration file to take the address of the admin API from")
	flags.StringVarP(&api.adapter, "adapter", "a", "", "Name of the config adapter to apply")

	for _, command := range commands {
		sub := command(api)
		sub.Args = argsError(sub.Args)
		cmd.AddCommand(sub)
	}
}

// noCommand refuses a word that is no subcommand, and names those that are near to it.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("%s has no command %s; did you mean %s?", cmd.CommandPath(), Quote(args[0]), strings.Join(near, " or "))
	}
	return fmt.Errorf("%s has no command %s; %s --help lists those that there are", cmd.CommandPath(), Quote(args[0]), cmd.CommandPath())
}

// argsError has cobra's errors about arguments say how the command is written.
func argsError(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		err := check(cmd, args)
		switch {
		case err == nil:
			return nil
		case strings.HasPrefix(err.Error(), "unknown command"): // what cobra calls an argument where none may be
			return fmt.Errorf("%s takes no %s; write %s", cmd.Name(), Quote(args[0]), cmd.UseLine())
		case strings.HasPrefix(err.Error(), "accepts "):
			return fmt.Errorf("%s %w; write %s", cmd.Name(), err, cmd.UseLine())
		}
		return err
	}
}

// flagError adds to the error about an unknown flag which one may be meant, that which it begins
// with, or else how the command is written.
func flagError(cmd *cobra.Command, err error) error {
	unknown, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return err
	}
	for end := len(unknown) - 1; end > 0; end-- {
		if cmd.Flags().Lookup(unknown[:end]) != nil {
			return fmt.Errorf("%w; did you mean --%s?", err, unknown[:end])
		}
	}
	return fmt.Errorf("%w; write %s", err, cmd.UseLine())
}

// usage lists the subcommands, for the list of Caddy's commands.
func usage(commands []func(*Client) *cobra.Command) string {
	names := make([]string, 0, len(commands))
	for _, command := range commands {
		names = append(names, command(new(Client)).Name())
	}
	return strings.Join(names, "|")
}

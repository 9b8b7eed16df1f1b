package adminapi

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/larder-cache/larder/internal/spelling"
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
	flags.StringVarP(&api.config, "config", "c", "", "Configuration file to take the address of the admin API from; check and migrate read it themselves")
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
	names := make([]string, 0, len(cmd.Commands()))
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return unknown(cmd, "command", Quote(args[0]), spelling.Nearest(args[0], names))
}

// unknown is the error about a name that a command has not, with those that are near to it.
func unknown(cmd *cobra.Command, what, name string, near []string) error {
	help := cmd.CommandPath() + " --help lists those that there are"
	if len(near) > 0 {
		return fmt.Errorf("%s has no %s %s; did you mean %s? %s", cmd.CommandPath(), what, name, strings.Join(near, " or "), help)
	}
	return fmt.Errorf("%s has no %s %s; %s", cmd.CommandPath(), what, name, help)
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

// flagError says of a flag that a command has not which ones are near to it. Where the command is
// one that has others, it is the word in front of the flag that is unknown.
func flagError(cmd *cobra.Command, err error) error {
	var missing *pflag.NotExistError
	if !errors.As(err, &missing) {
		return err
	}
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return noCommand(cmd, cmd.Flags().Args())
	}
	name, dashes := missing.GetSpecifiedName(), "--"
	if short := missing.GetSpecifiedShortnames(); short != "" { // -tag in place of --tag
		name, dashes = short, "-"
	}
	var flags []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f.Name) })
	near := spelling.Nearest(name, flags)
	for i := range near {
		near[i] = "--" + near[i]
	}
	return unknown(cmd, "flag", Quote(dashes+name), near)
}

// usage lists the subcommands, for the list of Caddy's commands.
func usage(commands []func(*Client) *cobra.Command) string {
	names := make([]string, 0, len(commands))
	for _, command := range commands {
		names = append(names, command(new(Client)).Name())
	}
	return strings.Join(names, "|")
}

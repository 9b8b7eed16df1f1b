package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
	"github.com/larder-cache/larder/migrate/rewrite"
)

// Feature returns the command `caddy larder migrate`, which asks no running Caddy.
func Feature() adminapi.Feature {
	return adminapi.Feature{Commands: []func(*adminapi.Client) *cobra.Command{command}}
}

func command(api *adminapi.Client) *cobra.Command {
	var write bool
	var global string
	cmd := &cobra.Command{
		Use:   "migrate [<Caddyfile>|-] [--global <Caddyfile>] [--write]",
		Short: "Rewrites the `cache` of caddyserver/cache-handler (Souin) in a Caddyfile into `larder`",
		Long: `
Prints the file with each ` + "`cache`" + ` directive and the global ` + "`cache`" + ` option of
caddyserver/cache-handler (Souin) written as ` + "`larder`" + `. Everything else in the file
stays byte for byte. Without a name it reads ./Caddyfile, and - is standard input.

What has no counterpart stands in a comment ("# Not migrated: …") that says what
to do, and in a line on standard error; the exit status is 1 then. Lines that
begin with "note:" say what is written, and still differs.

It reads one file: what that imports from other files is to be migrated on its own,
snippets of the file itself are read where they are imported. Sites of an imported
file inherit what the global ` + "`cache`" + ` of the file that imports it says, and
--global names that one, in its old text. Without --global a file that has ` + "`cache`" + `
and no global options is printed and not changed, and the exit status is 1. Where
no other file imports it, name the file itself.

--write puts a new file in the place of the old one, with its mode and owner, and
keeps the old text beside it as ` + backupOf("<name>") + `, which ` + "`import sites/*`" + `
passes over. An error leaves the file as it was. Of a symbolic link the file at its
end is changed, and the old text is kept beside that.

A Caddy without cache-handler refuses a file with ` + "`cache`" + ` ("unrecognized directive:
cache"), in caddy adapt, validate, reload and run. Larder can change nothing about
that: migrate the file before you start the new Caddy with it.`,
		Example: `  $ caddy larder migrate Caddyfile > Caddyfile.new
  $ caddy larder migrate --write /etc/caddy/Caddyfile; caddy validate --config /etc/caddy/Caddyfile
  $ caddy larder migrate --write sites/shop --global ` + backupOf("Caddyfile"),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := api.File(args)
			if err != nil {
				return err
			}
			return run(cmd, files{name, global}, write)
		},
	}
	cmd.Flags().StringVar(&global, "global", "", "The file, in its old text, whose global options the sites inherit")
	cmd.Flags().BoolVarP(&write, "write", "w", false, "Change the file, and keep its old text beside it as "+backupOf("<name>"))
	cmd.Flags().BoolVar(&write, "overwrite", false, "The same, by the name that caddy fmt has for it")
	return cmd
}

// files are what the command is about.
type files struct {
	name   string
	global string // whose global options the sites inherit; empty where it is not named
}

// errBare says that more may be to migrate than the file has.
var errBare = errors.New("it has no global options. If another file imports it, its cache inherits what the global cache of that one says " +
	"(ttl, key, regex exclude and others), so name that one with --global; if none does, name this one with --global. --write changes nothing until then")

// run rewrites a file, and tells what came of it.
func run(cmd *cobra.Command, of files, write bool) error {
	name := of.name
	text, result, err := of.rewrite(cmd.InOrStdin())
	if err != nil {
		return err
	}
	bare := result.Bare && of.global == ""
	switch {
	case write && bare: // what is dropped may keep one client's answer from another
	case !write:
		_, err = cmd.OutOrStdout().Write(result.Text)
	case name == "-":
		err = errors.New("standard input cannot be written; leave --write out, or name a file")
	case result.Changed():
		err = replaceFile(name, text, result.Text)
	}
	if err != nil {
		return err
	}
	err = tell(result, cmd.ErrOrStderr(), name)
	if bare {
		return fmt.Errorf("%s: %w", name, errBare)
	}
	return err
}

// rewrite reads the files. text is the old one.
func (of files) rewrite(stdin io.Reader) (text []byte, result *rewrite.Result, err error) {
	if text, err = read(stdin, of.name); err != nil {
		return nil, nil, err
	}
	var by []byte
	if of.global != "" && of.global != of.name {
		if by, err = os.ReadFile(of.global); err != nil {
			return nil, nil, err
		}
	}
	if result, err = rewrite.Within(text, rewrite.Around{Global: by, Migrated: of.migrated}); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", of.name, err)
	}
	return text, result, nil
}

func read(stdin io.Reader, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(name) //nolint:gosec // G304: the operator names the file
}

// tell prints the notes. The error counts what has no counterpart.
func tell(r *rewrite.Result, out io.Writer, name string) error {
	var text bytes.Buffer
	for _, n := range r.Notes {
		word := "note"
		if n.Missing {
			word = "not migrated"
		}
		fmt.Fprintf(&text, "%s:%d: %s: %s\n", name, n.Line, word, n.Text)
	}
	if !r.Changed() {
		fmt.Fprintf(&text, "%s: no cache of cache-handler, so nothing was changed\n", name)
	}
	if _, err := text.WriteTo(out); err != nil {
		return err
	}
	switch n := r.Missing(); n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s: 1 thing has no counterpart; a comment in the file says what to do", name)
	default:
		return fmt.Errorf("%s: %d things have no counterpart; comments in the file say what to do", name, n)
	}
}

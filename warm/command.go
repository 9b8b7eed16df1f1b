package warm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/larder-cache/larder/adminapi"
)

// Feature returns the command `caddy larder warm`, and the endpoint GET /larder/purged that it asks
// for --purged. running returns the running cache, or nil while there is none.
func Feature(running func() Cache) adminapi.Feature {
	return adminapi.Feature{
		Endpoints: []adminapi.Endpoint{purgedEndpoint(running)},
		Commands:  []func(*adminapi.Client) *cobra.Command{warmCommand},
	}
}

func warmCommand(api *adminapi.Client) *cobra.Command {
	var j job
	var raw bool
	cmd := &cobra.Command{
		Use: "warm [--sitemap URL|--urls FILE|--log FILE|--purged TAG]... [--site URL]... [--to ADDRESS] [--rate N/s] [--concurrency N] " +
			"[-H 'Name: value']... [--resume FILE] [--json]",
		Short: "Asks the site for many URLs, so that they are stored before visitors come",
		Long: `
Makes a request for each URL of sitemaps, lists and access logs, or that a purge
of a tag has dropped, so that Larder fetches and stores it. The requests go
through the site: the limits of its origin hold, and a Retry-After pauses all of
them. A URL that fails does not end the command; what failed is listed at the
end, and the exit status is 1 then.
With --resume, a run that was ended early goes on where it stopped.`,
		Example: `  $ caddy larder warm --sitemap https://example.com/sitemap.xml --rate 10/s
  $ caddy larder warm --log access.log --site https://example.com --limit 1000
  $ caddy larder warm --urls urls.txt -H 'Accept-Language: de' -H 'Accept-Language: en'
  $ caddy larder purge --tag product-7 && caddy larder warm --purged product-7
  $ caddy larder warm --sitemap https://example.com/sitemap.xml --to localhost:443 --resume warm.done`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			defer context.AfterFunc(ctx, stop)() // a second Ctrl-C ends it at once
			j.stdin, j.show = cmd.InOrStdin(), progress{cmd.ErrOrStderr(), isTerminal(cmd.ErrOrStderr())}
			j.purged = func(ctx context.Context, tag string) (PurgedURLs, error) { return purgedURLs(ctx, api, tag) }
			return j.runAndPrint(ctx, cmd.OutOrStdout(), raw)
		},
	}
	j.register(cmd)
	cmd.Flags().BoolVar(&raw, "json", false, "Print what came of it as JSON")
	return cmd
}

// register adds the flags. Those of sources share one list, so that URLs are asked for in the order
// in which they are given.
func (j *job) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	for _, s := range []struct {
		kind  sourceKind
		usage string
	}{
		{fromSitemap, "URL of a sitemap or of an index of sitemaps; may be repeated"},
		{fromList, "File with a URL a line, - for standard input; may be repeated"},
		{fromLog, "Access log, Caddy's or in the common or combined format: its URLs by frequency; may be repeated"},
		{fromPurge, "URLs that purges of this tag have dropped, as the admin API remembers them; may be repeated"},
	} {
		flags.Var(&sourceFlag{s.kind, &j.sources}, string(s.kind), s.usage)
	}
	flags.StringArrayVar(&j.sites, "site", nil, "Scheme and host that logs, sitemaps and purges may name, and of lines without a host; may be repeated")
	flags.StringVar(&j.to, "to", "", "Connect to this host or host:port instead of each URL's host")
	flags.StringVar(&j.rate, "rate", "", "At most so many requests: 5/s, 30/m, 100/h")
	flags.IntVar(&j.concurrency, "concurrency", 4, "How many requests are made at once")
	flags.StringArrayVarP(&j.fields, "header", "H", nil, "A header field of the requests; a name with several values makes a request of each")
	flags.StringVar(&j.resume, "resume", "", "File that records what is done, and from which a later run goes on")
	flags.IntVar(&j.limit, "limit", defaultLimit, "At most so many URLs")
	flags.DurationVar(&j.timeout, "timeout", 30*time.Second, "How long the header may take, and each part of the body")
	flags.DurationVar(&j.maxTime, "max-time", 10*time.Minute, "How long an answer may take in all")
}

// runAndPrint runs a job and prints its summary.
func (j *job) runAndPrint(ctx context.Context, out io.Writer, raw bool) error {
	sum, err := j.run(ctx)
	if sum == nil {
		return err
	}
	return errors.Join(err, sum.printAs(out, raw), sum.Err())
}

func (s *Summary) printAs(out io.Writer, raw bool) error {
	if !raw {
		return s.Print(out)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // URLs are to be read
	if err := encoder.Encode(s); err != nil {
		return err
	}
	return adminapi.PrintJSON(out, text.Bytes())
}

// sourceFlag is a flag that adds a source.
type sourceFlag struct {
	kind sourceKind
	list *[]source
}

// Set implements pflag.Value.
func (f *sourceFlag) Set(value string) error {
	if value == "" {
		return errors.New("it is empty")
	}
	*f.list = append(*f.list, source{f.kind, value})
	return nil
}

// String implements pflag.Value.
func (*sourceFlag) String() string { return "" }

// Type implements pflag.Value.
func (f *sourceFlag) Type() string {
	return map[sourceKind]string{fromSitemap: "URL", fromList: "file", fromLog: "file", fromPurge: "tag"}[f.kind]
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

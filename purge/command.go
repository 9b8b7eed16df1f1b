package purge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/urlform"
)

func registerCommand() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:      "larder",
		Usage:     "purge|stats|ls|fleet",
		Short:     "Purges, counts and lists the responses that Larder has stored",
		CobraFunc: buildCommand,
	})
}

// buildCommand makes cmd the command `caddy larder`, which talks to the admin API of a running
// Caddy and to nothing else. A failure is returned, so that cobra prints it as one line on standard
// error and Caddy exits with status 1.
func buildCommand(cmd *cobra.Command) {
	api := &client{}
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

	cmd.AddCommand(purgeCommand(api), statsCommand(api), listCommand(api), fleetCommand(api))
}

func purgeCommand(api *client) *cobra.Command {
	var s Selectors
	cmd := &cobra.Command{
		Use:   "purge [--tag T]... [--url U]... [--prefix P]... [--host H]... [--all] [--soft] [--dry-run]",
		Short: "Purges what matches any of the selectors",
		Long: `
Purges every stored response that matches any of the selectors, with all its
variants. At least one selector is needed. When the command returns, no request
that starts later is answered with what was purged.`,
		Example: `  $ caddy larder purge --tag product-1 --tag product-2
  $ caddy larder purge --prefix https://example.com/blog/ --soft
  $ caddy larder purge --all --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPurge(cmd.OutOrStdout(), api, s) },
	}
	// StringArray and not StringSlice: a URL may hold a comma.
	flags := cmd.Flags()
	flags.StringArrayVar(&s.Tags, "tag", nil, "Responses that carry this tag; may be repeated")
	flags.StringArrayVar(&s.URLs, "url", nil, "Responses of this absolute URL; may be repeated")
	flags.StringArrayVar(&s.Prefixes, "prefix", nil, "Responses whose absolute URL begins so; may be repeated")
	flags.StringArrayVar(&s.Hosts, "host", nil, "Responses of this host, or host:port; may be repeated")
	flags.BoolVar(&s.All, "all", false, "All responses")
	flags.BoolVar(&s.Soft, "soft", false, "Mark them stale instead of removing them")
	flags.BoolVar(&s.DryRun, "dry-run", false, "Only count them")
	return cmd
}

func runPurge(out io.Writer, api *client, s Selectors) error {
	if s.Empty() {
		return errors.New("nothing is selected; give at least one of --tag, --url, --prefix, --host or --all")
	}
	s.URLs, s.Prefixes = escapeInvalidUTF8(s.URLs), escapeInvalidUTF8(s.Prefixes)
	request, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding the request: %w", err)
	}
	var answer purgeResult
	if err := api.call(http.MethodPost, "/larder/purge", bytes.NewReader(request), &answer); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, answer.sentence())
	return err
}

// escapeInvalidUTF8 escapes the bytes of a shell's argument that JSON cannot carry: it would put
// another character in their place, and nothing would match.
func escapeInvalidUTF8(urls []string) []string {
	escaped := make([]string, 0, len(urls))
	for _, text := range urls {
		if !utf8.ValidString(text) {
			text = urlform.EscapeNonASCII(text)
		}
		escaped = append(escaped, text)
	}
	return escaped
}

// sentence says what happened.
func (a purgeResult) sentence() string {
	sentence := a.matchedSentence()
	if a.Reach == nil || a.DryRun {
		return sentence
	}
	sentence += fmt.Sprintf("; it holds on %d nodes", a.Nodes)
	if a.Nodes == 1 {
		sentence = strings.TrimSuffix(sentence, "s")
	}
	if len(a.Fenced) > 0 {
		sentence += "; gave no answer and were waited out: " + strings.Join(a.Fenced, " ")
	}
	if len(a.Uncertain) > 0 {
		sentence += "; may answer from older content: " + strings.Join(a.Uncertain, " ")
	}
	return sentence
}

func (a purgeResult) matchedSentence() string {
	responses := fmt.Sprintf("%d responses", a.Matched)
	if a.Matched == 1 {
		responses = "1 response"
	}
	switch {
	case a.DryRun && a.Soft:
		return "would mark " + responses + " stale"
	case a.DryRun:
		return "would purge " + responses
	case a.Soft:
		return "marked " + responses + " stale"
	default:
		return "purged " + responses
	}
}

func statsCommand(api *client) *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Prints what the cache holds and has done, as JSON",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var stats json.RawMessage
			if err := api.call(http.MethodGet, "/larder/stats", nil, &stats); err != nil {
				return err
			}
			return printIndented(cmd.OutOrStdout(), stats)
		},
	}
}

func printIndented(out io.Writer, answer json.RawMessage) error {
	var readable bytes.Buffer
	if err := json.Indent(&readable, answer, "", "  "); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	_, err := fmt.Fprintln(out, readable.String())
	return err
}

// client finds and calls the admin API.
type client struct {
	address, config, adapter string
}

// call sends a request and decodes the answer. Its errors are one line.
func (c *client) call(method, uri string, body io.Reader, answer any) error {
	address, err := caddycmd.DetermineAdminAPIAddress(c.address, nil, c.config, c.adapter)
	if err != nil {
		return fmt.Errorf("finding the admin API: %s", oneLine(err))
	}
	response, err := caddycmd.AdminAPIRequest(address, method, uri, nil, body)
	if err != nil {
		return errors.New(oneLine(err))
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	return nil
}

// oneLine returns the message of an error in one line. The answer of Caddy's that it may quote ends
// with a newline.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

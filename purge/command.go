package purge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
	"github.com/larder-cache/larder/urlform"
)

func purgeCommand(api *adminapi.Client) *cobra.Command {
	var s Selectors
	var mustMatch bool
	cmd := &cobra.Command{
		Use:   "purge [--tag T]... [--url U]... [--prefix P]... [--host H]... [--id I]... [--all] [--soft] [--dry-run] [--must-match]",
		Short: "Purges what matches any of the selectors",
		Long: `
Purges every stored response that matches any of the selectors, with all its
variants. At least one selector is needed. When the command returns, no request
that starts later is answered with what was purged.`,
		Example: `  $ caddy larder purge --tag product-1 --tag product-2
  $ caddy larder purge --prefix https://example.com/blog/ --soft
  $ caddy larder purge --all --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPurge(cmd.OutOrStdout(), api, s, mustMatch) },
	}
	// StringArray and not StringSlice: a URL may hold a comma.
	flags := cmd.Flags()
	flags.StringArrayVar(&s.Tags, "tag", nil, "Responses that carry this tag; may be repeated")
	flags.StringArrayVar(&s.URLs, "url", nil, "Responses of this absolute URL; may be repeated")
	flags.StringArrayVar(&s.Prefixes, "prefix", nil, "Responses whose absolute URL begins so; may be repeated")
	flags.StringArrayVar(&s.Hosts, "host", nil, "Responses of this host, or host:port; may be repeated")
	flags.StringArrayVar(&s.IDs, "id", nil, "The entry with this id, as ls --json has it; may be repeated")
	flags.StringArrayVar(&s.Zones, "zone", nil, "Only in this zone; may be repeated")
	flags.BoolVar(&s.All, "all", false, "All responses")
	flags.BoolVar(&s.Soft, "soft", false, "Mark them stale instead of removing them")
	flags.BoolVar(&s.DryRun, "dry-run", false, "Only count them")
	flags.BoolVar(&mustMatch, "must-match", false, "Fail if nothing matched")
	return cmd
}

func runPurge(out io.Writer, api *adminapi.Client, s Selectors, mustMatch bool) error {
	if s.Empty() {
		return errors.New("nothing is selected; give at least one of --tag, --url, --prefix, --host, --id or --all")
	}
	s.URLs, s.Prefixes = escapeInvalidUTF8(s.URLs), escapeInvalidUTF8(s.Prefixes)
	request, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding the request: %w", err)
	}
	var answer json.RawMessage
	if err := api.Call(http.MethodPost, "/larder/purge", bytes.NewReader(request), &answer); err != nil {
		return err
	}
	result, err := adminapi.Decode[purgeResult](answer)
	if err != nil {
		return err
	}
	sentence := result.sentence()
	if result.Matched == 0 && s.hasAsterisk() {
		sentence += "; a * stands for itself: give --prefix without it for all URLs that begin so, and each tag whole"
	}
	if result.Matched == 0 && mustMatch {
		return errors.New(sentence + "; `caddy larder ls` lists URLs as a purge takes them, by scheme, host and port")
	}
	_, err = fmt.Fprintln(out, sentence)
	return err
}

// hasAsterisk reports whether a selector may be meant as a pattern.
func (s *Selectors) hasAsterisk() bool {
	return slices.ContainsFunc(slices.Concat(s.Tags, s.URLs, s.Prefixes), func(text string) bool { return strings.Contains(text, "*") })
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

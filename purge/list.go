package purge

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func listCommand(api *client) *cobra.Command {
	var tag, prefix, host string
	cmd := &cobra.Command{
		Use:   "ls [--tag T] [--prefix P] [--host H]",
		Short: "Lists stored responses, one a line",
		Long: `
Lists the stored responses that match all filters, one a line, with tabs
between: URL, status, size in bytes, age in seconds, seconds of freshness left
(negative when stale), tier, tags with spaces between.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filters := url.Values{"limit": {strconv.Itoa(maxLimit)}}
			for name, value := range map[string]string{"tag": tag, "prefix": prefix, "host": host} {
				if cmd.Flags().Changed(name) {
					filters.Set(name, value)
				}
			}
			return list(cmd.OutOrStdout(), api, filters)
		},
	}
	cmd.Flags().StringVar(&tag, "tag", "", "Only responses that carry this tag")
	cmd.Flags().StringVar(&prefix, "prefix", "", "Only responses whose absolute URL begins so")
	cmd.Flags().StringVar(&host, "host", "", "Only responses of this host, or host:port")
	return cmd
}

// list prints page after page. The cache goes on serving meanwhile, so the whole is no snapshot:
// what is stored or removed between two pages may or may not be in it.
func list(out io.Writer, api *client, filters url.Values) error {
	for {
		var page Listing
		if err := api.call(http.MethodGet, "/larder/entries?"+filters.Encode(), nil, &page); err != nil {
			return err
		}
		for _, item := range page.Entries {
			if _, err := fmt.Fprintln(out, item.line()); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		if page.Next == filters.Get("cursor") {
			return errors.New("the listing does not advance; the server gave the same cursor twice")
		}
		filters.Set("cursor", page.Next)
	}
}

func (i Entry) line() string {
	return strings.Join([]string{
		i.URL,
		strconv.Itoa(i.Status),
		strconv.FormatInt(i.Size, 10),
		strconv.FormatInt(i.Age, 10),
		strconv.FormatInt(i.TTL, 10),
		i.Tier,
		strings.Join(i.Tags, " "),
	}, "\t")
}

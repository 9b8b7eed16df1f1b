package inspect

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
)

// Limits of a page of the listing.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// Query asks for a page of the listing. Filters that are set must all match. They are normalised:
// prefixes are absolute, with scheme and authority in lower case, without default port and trailing
// dot; hosts are authorities in the same form.
type Query struct {
	Tag    string // exact tag, or empty
	Prefix string // beginning of an absolute URL, or empty
	Host   string // authority, or empty
	Limit  int    // 1 to 1000
	Cursor string // Next of the page before, or empty for the first
}

// Listing is a page of stored responses.
type Listing struct {
	Entries []Entry `json:"entries"` // may be empty although more pages follow
	Next    string  `json:"next"`    // the cursor of the next page, empty after the last
}

// Entry describes a stored response. Each variant of a URL is an item.
type Entry struct {
	URL     string   `json:"url"`               // as the client sent it, authority normalised
	Status  int      `json:"status"`            // of the response
	Size    int64    `json:"size"`              // of the body, in bytes
	Age     int64    `json:"age"`               // seconds, RFC 9111, section 4.2.3
	TTL     int64    `json:"ttl"`               // seconds of freshness left, negative when stale
	Tags    []string `json:"tags"`              // in no particular order
	Tier    string   `json:"tier"`              // memory, disk or both
	Variant string   `json:"variant,omitempty"` // what Vary chose it by
	// FetchMS is how long the origin takes for it: milliseconds, a moving average of its fetches.
	FetchMS float64 `json:"fetch_ms,omitempty"`
}

// ErrCursor is what Cache.Entries returns, wrapped or not, for a cursor that it never gave out. The
// caller has made a mistake then, and not the cache.
var ErrCursor = errors.New("the cursor is not one that a listing gave")

func listFeature(running runningCache) adminapi.Feature {
	return adminapi.Feature{
		Endpoints: []adminapi.Endpoint{{
			Method: http.MethodGet, Path: "/larder/entries",
			Answer: func(r *http.Request) (any, error) { return answerList(r, running) },
		}},
		Commands: []func(*adminapi.Client) *cobra.Command{listCommand},
	}
}

func answerList(r *http.Request, running runningCache) (any, error) {
	query, err := readQuery(r)
	if err != nil {
		return nil, err
	}
	cache, err := running.cache()
	if err != nil {
		return nil, err
	}
	listing, err := cache.Entries(query)
	switch {
	case errors.Is(err, ErrCursor):
		return nil, adminapi.BadRequest(fmt.Errorf("cursor: %w; send the \"next\" of the page before", err))
	case err != nil:
		return nil, adminapi.Unavailable(fmt.Errorf("the entries could not be read: %w", err))
	}
	return withoutNulls(listing), nil
}

// withoutNulls makes missing lists empty ones: [] in JSON, not null.
func withoutNulls(l Listing) Listing {
	entries := make([]Entry, len(l.Entries))
	for i, item := range l.Entries {
		if item.Tags == nil {
			item.Tags = []string{}
		}
		entries[i] = item
	}
	l.Entries = entries
	return l
}

// readQuery reads the query string of a listing.
func readQuery(r *http.Request) (Query, error) {
	q := Query{Limit: defaultLimit}
	err := adminapi.ReadParams(
		r,
		adminapi.TextParam("tag", &q.Tag, adminapi.Tag),
		adminapi.TextParam("prefix", &q.Prefix, adminapi.Prefix),
		adminapi.TextParam("host", &q.Host, adminapi.Host),
		limitParam(&q.Limit, maxLimit),
		// Opaque, and empty for the first page.
		adminapi.Param{Name: "cursor", Read: func(cursor string) error { q.Cursor = cursor; return nil }},
	)
	return q, err
}

// limitParam is how many rows of an answer are wanted at most.
func limitParam(field *int, most int) adminapi.Param {
	return adminapi.Param{Name: "limit", Read: func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > most {
			return fmt.Errorf("%s is not a page size; send a number from 1 to %d", adminapi.Quote(text), most)
		}
		*field = n
		return nil
	}}
}

func listCommand(api *adminapi.Client) *cobra.Command {
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
func list(out io.Writer, api *adminapi.Client, filters url.Values) error {
	for {
		var page Listing
		if err := api.Call(http.MethodGet, "/larder/entries?"+filters.Encode(), nil, &page); err != nil {
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

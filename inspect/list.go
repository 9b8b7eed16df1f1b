package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
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
	URL    string // absolute URL before the key's query rules, or empty
	Limit  int    // 1 to 1000
	Cursor string // Next of the page before, or empty for the first

	Sort    Sort   // by URL, or those of a tag by age, where it is empty
	Falling bool   // the other way round
	Headers bool   // entries have their header
	Zone    string // empty: all zones
}

// Sort is what a listing goes by.
type Sort string

// What a listing goes by.
const (
	SortURL  Sort = "url"
	SortSize Sort = "size"
	SortAge  Sort = "age" // time since the response came
	SortTTL  Sort = "ttl"
	SortHits Sort = "hits" // as in the ranking by hits
)

// sorts are the words of the query. One with - in front is falling.
var sorts = []string{string(SortURL), string(SortSize), string(SortAge), string(SortTTL), string(SortHits)}

// Listing is a page of stored responses.
type Listing struct {
	Entries []Entry `json:"entries"` // may be empty although more pages follow
	Next    string  `json:"next"`    // the cursor of the next page, empty after the last
}

// Entry describes a stored response. Each variant of a URL is an item.
type Entry struct {
	// ID is 32 hexadecimal digits, which no other entry ever has. The last 16 are the first of its
	// key.
	ID     string `json:"id"`
	URL    string `json:"url"`    // as the client sent it, authority normalised
	Status int    `json:"status"` // the HTTP status of the response
	Size   int64  `json:"size"`   // of the body in bytes, of the whole where it is in slices
	// StoredSize is how many bytes the body takes on disk, where it is compressed there.
	StoredSize int64 `json:"stored_size,omitempty"`

	Age     int64    `json:"age"`               // seconds, RFC 9111, section 4.2.3
	TTL     int64    `json:"ttl"`               // seconds of freshness left, negative when stale
	Tags    []string `json:"tags"`              // in no particular order
	Tier    string   `json:"tier"`              // memory, disk or both
	Zone    string   `json:"zone,omitempty"`    // whose store it is in
	Variant string   `json:"variant,omitempty"` // what Vary chose it by
	// FetchMS is how long the origin takes for it: milliseconds, a moving average of its fetches.
	FetchMS float64 `json:"fetch_ms,omitempty"`
	Slices  *Slices `json:"slices,omitempty"` // of a file that is stored in slices
	// Hits is how often the URL was hit lately, all variants together, as far as the ranking by
	// hits knows it.
	Hits   uint64      `json:"hits"`
	Header http.Header `json:"header,omitempty"` // of the response, where it was asked for
}

// Slices tells what of a file is stored that is stored in slices.
type Slices struct {
	Size   int64 `json:"size"`   // of a slice in bytes; the last may be shorter
	Count  int64 `json:"count"`  // how many slices the file has
	Looked int64 `json:"looked"` // how many of these, from the first on, were looked up for this
	Stored int64 `json:"stored"` // how many of those are stored
	Bytes  int64 `json:"bytes"`  // how many bytes of the file these have
}

// text is what a command prints.
func (s *Slices) text() string {
	if s == nil {
		return ""
	}
	of := ""
	if s.Looked < s.Count {
		of = fmt.Sprintf(" of the first %d", s.Looked)
	}
	return fmt.Sprintf("%d%s of %d, of %d bytes each, with %d bytes", s.Stored, of, s.Count, s.Size, s.Bytes)
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
	cache, err := running.of(query.Zone)
	if err != nil {
		return nil, err
	}
	listing, err := cache.Entries(r.Context(), query)
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
func readQuery(r *http.Request) (q Query, err error) {
	q.Limit = defaultLimit
	err = adminapi.ReadParams(
		r,
		adminapi.TextParam("tag", &q.Tag, adminapi.Tag),
		adminapi.TextParam("prefix", &q.Prefix, adminapi.Prefix),
		adminapi.TextParam("host", &q.Host, adminapi.Host),
		adminapi.TextParam("url", &q.URL, adminapi.URL),
		limitParam(&q.Limit, maxLimit),
		// Opaque, and empty for the first page.
		adminapi.Param{Name: "cursor", Read: func(cursor string) error { q.Cursor = cursor; return nil }},
		adminapi.Param{Name: "sort", Read: func(text string) (err error) { q.Sort, q.Falling, err = readSort(text); return err }},
		adminapi.Param{Name: "headers", Read: func(text string) (err error) { q.Headers, err = readFlag(text); return err }},
		zoneParam(&q.Zone),
	)
	return q, err
}

func readSort(text string) (by Sort, falling bool, err error) {
	word, falling := strings.CutPrefix(text, "-")
	if !slices.Contains(sorts, word) {
		return "", false, fmt.Errorf("%s is none of them; send one of %s, with - in front for the highest first",
			adminapi.Quote(text), strings.Join(sorts, ", "))
	}
	return Sort(word), falling, nil
}

func readFlag(text string) (bool, error) {
	if text != "true" && text != "false" {
		return false, fmt.Errorf("%s is neither; send true or false", adminapi.Quote(text))
	}
	return text == "true", nil
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

// listFlags are those of `caddy larder ls`.
type listFlags struct {
	filters map[string]*string // parameters of the API
	limit   int
	headers bool
	json    bool
}

func listCommand(api *adminapi.Client) *cobra.Command {
	f := listFlags{filters: make(map[string]*string)}
	cmd := &cobra.Command{
		Use:   "ls [--tag T] [--prefix P] [--host H] [--url U] [--sort S] [--limit N] [--zone Z] [--json [--headers]]",
		Short: "Lists stored responses, one a line",
		Long: `
Lists the stored responses that match all filters, one a line, with tabs
between: URL, status, size in bytes, age in seconds, seconds of freshness left
(negative when stale), tier, tags with spaces between, of a variant the request
fields that select it, as a query string, and the first 16 digits of the key, as
explain prints them for a request: what ` + "`key`" + ` adds to the URL is in that alone.
With --json a line is the entry as the admin API has it.

--sort is one of url, size, age, ttl, hits, with - in front for the highest
first: --sort=-size. The cache then looks at all that is stored for each
thousand lines; without --limit there are a hundred.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			for name, value := range f.filters {
				if cmd.Flags().Changed(name) {
					query.Set(name, *value)
				}
			}
			if f.headers && !f.json {
				return errors.New("--headers goes with --json; give both")
			}
			if f.headers {
				query.Set("headers", "true")
			}
			if f.limit < 0 || f.limit == 0 && cmd.Flags().Changed("limit") {
				return errors.New("--limit is a number from 1 on; leave it out for all")
			}
			if query.Has("sort") && !cmd.Flags().Changed("limit") {
				f.limit = defaultLimit
			}
			return list(cmd.OutOrStdout(), api, query, f)
		},
	}
	flag := func(name, usage string) { f.filters[name] = cmd.Flags().String(name, "", usage) }
	flag("tag", "Only responses that carry this tag")
	flag("prefix", "Only responses whose absolute URL begins so")
	flag("host", "Only responses of this host, or host:port")
	flag("url", "Only responses of this absolute URL")
	flag("sort", "What to go by: url, size, age, ttl, hits; with - in front the highest first")
	flag("zone", "Only this zone")
	cmd.Flags().IntVar(&f.limit, "limit", 0, "How many responses at most")
	cmd.Flags().BoolVar(&f.json, "json", false, "Print each entry as the admin API has it")
	cmd.Flags().BoolVar(&f.headers, "headers", false, "With --json: print their header too")
	return cmd
}

// list prints page after page. The cache goes on serving meanwhile, so the whole is no snapshot:
// what is stored or removed between two pages may or may not be in it.
func list(out io.Writer, api *adminapi.Client, query url.Values, f listFlags) error {
	for printed := 0; ; {
		size := maxLimit
		if f.limit > 0 {
			size = min(size, f.limit-printed)
		}
		query.Set("limit", strconv.Itoa(size))
		var page struct {
			Entries []json.RawMessage `json:"entries"`
			Next    string            `json:"next"`
		}
		if err := api.Call(http.MethodGet, "/larder/entries?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		for _, item := range page.Entries {
			if err := printEntry(out, item, f.json); err != nil {
				return err
			}
		}
		printed += len(page.Entries)
		if page.Next == "" || f.limit > 0 && printed >= f.limit {
			return nil
		}
		if page.Next == query.Get("cursor") {
			return errors.New("the listing does not advance; the server gave the same cursor twice")
		}
		query.Set("cursor", page.Next)
	}
}

func printEntry(out io.Writer, item json.RawMessage, raw bool) error {
	if raw {
		return adminapi.PrintJSONLine(out, item)
	}
	entry, err := adminapi.Decode[Entry](item)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, entry.line())
	return err
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
		i.Variant,
		i.key(),
	}, "\t")
}

// key is the beginning of the entry's key, which is half of its ID: 16 digits.
func (i Entry) key() string { return i.ID[len(i.ID)/2:] }

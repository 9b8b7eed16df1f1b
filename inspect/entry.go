package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
)

// Detail is all that is known of an entry.
type Detail struct {
	Entry
	// The values that it was selected by, by field.
	Vary   map[string]string `json:"vary"`
	Coding string            `json:"coding,omitempty"` // its Content-Encoding
	// Purged is what purges have made of it: soft, or invalid, which is to be validated before its
	// next use. It is empty if none has hit it.
	Purged string      `json:"purged,omitempty"`
	Key    EntryKey    `json:"key"`
	Times  DetailTimes `json:"times"`
}

// EntryKey is what is known of an entry's key. Fields, cookies and texts that the configuration
// adds to keys are in the hash alone.
type EntryKey struct {
	Hash  string         `json:"hash"` // SHA-256, in hexadecimal
	Parts []EntryKeyPart `json:"parts"`
}

// EntryKeyPart is one thing that is in a key.
type EntryKeyPart struct {
	Part   string   `json:"part"`   // method, url or listener; of a request all that is in the key
	Values []string `json:"values"` // as they are in the key
}

// DetailTimes are the times of an entry.
type DetailTimes struct {
	Requested  time.Time `json:"requested"`   // the origin was asked
	Stored     time.Time `json:"stored"`      // it answered, or confirmed the response
	FreshUntil time.Time `json:"fresh_until"` // as judged when it was stored
	KeepUntil  time.Time `json:"keep_until"`  // then it is removed
}

func entryFeature(running runningCache) adminapi.Feature {
	return adminapi.Feature{
		Endpoints: []adminapi.Endpoint{{
			Method: http.MethodGet, Path: "/larder/entries/{id}",
			Answer: func(r *http.Request) (any, error) { return answerEntry(r, running) },
		}},
		Commands: []func(*adminapi.Client) *cobra.Command{getCommand},
	}
}

func answerEntry(r *http.Request, running runningCache) (any, error) {
	var zone string
	if err := adminapi.ReadParams(r, zoneParam(&zone)); err != nil {
		return nil, err
	}
	id, err := adminapi.ID(r.PathValue("id"))
	if err != nil {
		return nil, adminapi.BadRequest(err)
	}
	cache, err := running.of(zone)
	if err != nil {
		return nil, err
	}
	detail, err := cache.Entry(zone, id)
	switch {
	case err != nil:
		return nil, adminapi.Unavailable(fmt.Errorf("the entry could not be read: %w", err))
	case detail == nil:
		return nil, adminapi.NotFound(errors.New("no entry has this id any more; look in GET /larder/entries"))
	}
	if detail.Tags == nil {
		detail.Tags = []string{}
	}
	return detail, nil
}

func getCommand(api *adminapi.Client) *cobra.Command {
	var flags answerFlags
	cmd := &cobra.Command{
		Use:   "get [--zone Z] [--json] <url|id>",
		Short: "Shows the stored responses of a URL, or the one with an id",
		Long: `
Shows what is known of a stored response: its header, what selected it, its key
and times. Of a URL, which is absolute, all its variants are shown. ls --json
has the ids.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return errors.New("give one absolute URL, or one id as ls --json has it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			details, err := get(api, args[0], flags.query(cmd))
			if err != nil {
				return err
			}
			for i, detail := range details {
				if err := printDetail(cmd.OutOrStdout(), i > 0, detail, flags.raw); err != nil {
					return err
				}
			}
			return nil
		},
	}
	flags.register(cmd)
	return cmd
}

// get returns the details of one entry, or of all of a URL.
func get(api *adminapi.Client, what string, query url.Values) (details []json.RawMessage, err error) {
	if !strings.Contains(what, "://") {
		if _, err := adminapi.ID(what); err != nil {
			path := "/path"
			if strings.HasPrefix(what, "/") {
				path = adminapi.Printable(what)
			}
			return nil, fmt.Errorf("%s is neither an absolute URL nor an id; give one such as https://example.com%s, or an id, which ls --json has",
				adminapi.Quote(what), path)
		}
		detail, err := getEntry(api, what, query)
		return []json.RawMessage{detail}, err
	}
	ids, err := idsOf(api, what, query)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		detail, err := getEntry(api, id, query)
		if gone, ok := errors.AsType[*adminapi.CallError](err); ok && gone.Status == http.StatusNotFound {
			continue // it has left since it was listed
		}
		if err != nil {
			return nil, err
		}
		details = append(details, detail)
	}
	if len(details) == 0 {
		return nil, errNothingStored
	}
	return details, nil
}

func getEntry(api *adminapi.Client, id string, query url.Values) (detail json.RawMessage, err error) {
	err = api.Call(http.MethodGet, "/larder/entries/"+url.PathEscape(id)+"?"+query.Encode(), nil, &detail)
	return detail, err
}

// errNothingStored is what get says of a URL without entries.
var errNothingStored = errors.New("nothing is stored for this URL; `caddy larder explain` says why")

// idsOf returns the ids of the first thousand entries of a URL, which have 32 variants each as a
// rule. There is one at least, else it fails.
func idsOf(api *adminapi.Client, of string, query url.Values) (ids []string, err error) {
	query = maps.Clone(query)
	query.Set("url", of)
	query.Set("limit", strconv.Itoa(maxLimit))
	var page Listing
	if err := api.Call(http.MethodGet, "/larder/entries?"+query.Encode(), nil, &page); err != nil {
		return nil, err
	}
	for _, entry := range page.Entries {
		ids = append(ids, entry.ID)
	}
	if len(ids) == 0 {
		return nil, errNothingStored
	}
	return ids, nil
}

func printDetail(out io.Writer, again bool, answer json.RawMessage, raw bool) error {
	return adminapi.Print(out, answer, raw, func(d *Detail) error {
		if again {
			fmt.Fprintln(out)
		}
		_, err := io.WriteString(out, d.text())
		return err
	})
}

// text is the detail in lines, the response's header last.
func (d *Detail) text() string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-12s %s\n", name, value)
		}
	}
	line("url", d.URL)
	line("id", d.ID)
	line("status", strconv.Itoa(d.Status))
	line("size", strconv.FormatInt(d.Size, 10)+" bytes"+onDisk(d.StoredSize))
	line("slices", d.Slices.text())
	line("age", strconv.FormatInt(d.Age, 10)+"s")
	line("ttl", strconv.FormatInt(d.TTL, 10)+"s")
	line("purged", d.Purged)
	line("tier", d.Tier)
	line("tags", strings.Join(d.Tags, " "))
	for _, name := range slices.Sorted(maps.Keys(d.Vary)) {
		line("selected by", name+": "+d.Vary[name])
	}
	line("coding", d.Coding)
	for _, part := range d.Key.Parts {
		line("key", part.Part+" "+strings.Join(part.Values, " "))
	}
	line("key", "hash "+d.Key.Hash)
	line("requested", d.Times.Requested.Format(time.RFC3339Nano))
	line("stored", d.Times.Stored.Format(time.RFC3339Nano))
	line("fresh until", d.Times.FreshUntil.Format(time.RFC3339Nano))
	line("keep until", d.Times.KeepUntil.Format(time.RFC3339Nano))
	for _, name := range slices.Sorted(maps.Keys(d.Header)) {
		for _, value := range d.Header[name] {
			line("header", name+": "+value)
		}
	}
	return b.String()
}

// onDisk says how many bytes a body takes that is compressed there; nothing of another one.
func onDisk(stored int64) string {
	if stored == 0 {
		return ""
	}
	return ", " + strconv.FormatInt(stored, 10) + " on disk"
}

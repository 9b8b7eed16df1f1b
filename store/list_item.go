package store

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Item is one stored response in a listing.
type Item struct {
	// ID and Key are those of the Entry.
	ID  uint64
	Key Key
	// URL is what was asked for, at Listener: as URLAt has the two.
	URL, Listener string
	// Method is the method that fetched it.
	Method string
	// Status is the HTTP status of the response.
	Status int
	// Size is the length of the body in bytes, 0 where that is in parts.
	Size int64
	// Stored is how many bytes of the file the body takes, where it is compressed there; else 0,
	// and where that is not looked at: see Result.Item.
	Stored int64
	// Flags and Notes are those of the Entry.
	Flags Flags
	Notes []string
	// Header is the response's, and must not be written to.
	Header http.Header
	// RequestTime is when the fetch began, StoredAt the ResponseTime, FreshUntil the end of
	// freshness as judged then, KeepUntil the end of all use.
	RequestTime, StoredAt, FreshUntil, KeepUntil time.Time
	// FetchTime is that of the Entry: how long the origin takes, 0 if that is not known.
	FetchTime time.Duration
	// Tags are the surrogate keys without the internal ones.
	Tags []string
	// Tier is the first tier that has it: memory before disk.
	Tier Tier
	// Variant is what it was selected by.
	Variant Variant
	// Severity is what purges have made of it: NotPurged, Soft or Invalid.
	Severity Severity
}

// decode fills in what has no fixed place in a record; false when the record is none.
func (i *Item) decode(r record) bool {
	e, err := decodeRecord(i.ID, r)
	if err != nil {
		return false
	}
	i.Method, i.Status, i.Header, i.Flags, i.Notes = e.Method, e.Status, e.Header, e.Flags, e.Notes
	i.RequestTime, i.KeepUntil, i.FetchTime = e.RequestTime, e.KeepUntil, e.FetchTime
	i.Tags, i.Variant = visibleTags(e.Tags), e.Variant
	return true
}

// Item describes the entry that was found, as a listing does but for Stored; nil where there is
// none.
func (r *Result) Item() *Item {
	e := r.Entry
	if e == nil {
		return nil
	}
	url, listener, _ := strings.Cut(e.URL, AtListener)
	return &Item{
		ID: e.ID, Key: e.Key, URL: url, Listener: listener, Method: e.Method, Status: e.Status, Size: e.Body.Len(),
		Flags: e.Flags, Notes: e.Notes, Header: e.Header, RequestTime: e.RequestTime, StoredAt: e.ResponseTime, FreshUntil: e.FreshUntil, KeepUntil: e.KeepUntil,
		FetchTime: e.FetchTime, Tags: visibleTags(e.Tags), Tier: r.Tier, Variant: e.Variant, Severity: r.Severity,
	}
}

// visibleTags leaves out the internal ones.
func visibleTags(tags []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return strings.HasPrefix(t, "\x00") })
}

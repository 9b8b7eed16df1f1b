package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// heard are the events that the tests' subscriber has been told of.
var heard struct {
	sync.Mutex
	events []caddy.Event
}

// eventRecorder is a subscriber of Caddy's events.
type eventRecorder struct{}

func init() { caddy.RegisterModule(eventRecorder{}) }

// CaddyModule implements caddy.Module.
func (eventRecorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.larder_test", New: func() caddy.Module { return new(eventRecorder) }}
}

// UnmarshalCaddyfile implements caddyfile.Unmarshaler.
func (*eventRecorder) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

// Handle implements caddyevents.Handler.
func (eventRecorder) Handle(_ context.Context, e caddy.Event) error {
	heard.Lock()
	defer heard.Unlock()
	heard.events = append(heard.events, e)
	return nil
}

func TestPurgedEvent(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60", "Surrogate-Key", "a"))
	s := proxied("larder")
	s.global = "events {\non larder.purged larder_test\n}"
	in := start(t, s, o)
	in.get("/1")
	in.get("/2")
	heard.Lock()
	heard.events = nil
	heard.Unlock()
	in.purge(`{"tags":["a"],"dry_run":true}`)
	in.purge(`{"tags":["a","b"],"urls":["` + in.url("/1") + `"],"soft":true}`)
	in.purge(`{"all":true}`)

	heard.Lock()
	defer heard.Unlock()
	if len(heard.events) != 2 {
		t.Fatalf("%d events, want one for each purge and none for the dry run", len(heard.events))
	}
	for i, want := range []map[string]any{
		{"matched": 2, "soft": true, "all": false, "tags": []string{"a", "b"}},
		{"matched": 2, "soft": false, "all": true},
	} {
		for name, value := range want {
			if got := heard.events[i].Data[name]; fmt.Sprint(got) != fmt.Sprint(value) {
				t.Errorf("event %d: %s is %v, want %v", i, name, got, value)
			}
		}
	}
}

// TestMatchedCountsEachResponseOnce: in whichever tiers it is, with each variant, and none that is purged already.
func TestMatchedCountsEachResponseOnce(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language")
		w.Header().Set("Surrogate-Key", "all "+r.Header.Get("Accept-Language"))
		_, _ = w.Write([]byte(strings.Repeat("x", 10_000)))
	})
	s := withDisk(t, "larder")
	s.options = "memory 256KiB" // a part of it: the rest is on disk only
	in := start(t, s, o)
	languages := []string{"de", "fr", "it"}
	const pages = 10
	for n := range pages {
		for _, language := range languages {
			in.get(fmt.Sprintf("/p/%d", n), "Accept-Language", language).want(t, 200, "", "")
		}
		in.awaitDisk(3 * (n + 1))
	}
	if n := in.stats().Memory.Entries; n == 0 || n == pages*3 {
		t.Fatalf("%d entries are in memory; want some", n)
	}
	base := in.url("/p/")
	for _, step := range []struct {
		body string
		want int
	}{
		{`{"tags":["all"],"dry_run":true}`, 30},
		{`{"urls":["` + base + `0"],"tags":["de"],"dry_run":true}`, 12}, // one is both
		{`{"urls":["` + base + `0"]}`, 3},
		{`{"urls":["` + base + `0"]}`, 0},
		{`{"tags":["de"],"soft":true}`, 9},
		{`{"tags":["de"],"soft":true}`, 0},
		{`{"tags":["de"]}`, 9}, // what is stale already goes all the same
		{`{"prefixes":["` + base + `"],"dry_run":true}`, 18},
		{`{"hosts":["` + strings.TrimPrefix(in.url(""), "http://") + `"]}`, 18},
		{`{"all":true}`, 0},
	} {
		if got := in.purge(step.body); got != step.want {
			t.Errorf("%s matched %d, want %d", step.body, got, step.want)
		}
	}
	eventually(t, "all room is given back", func() bool {
		st := in.stats()
		return st.Memory.Entries == 0 && st.Disk.Entries == 0
	})
}

// awaitDisk returns when so many entries are on disk.
func (in *instance) awaitDisk(n int) {
	in.t.Helper()
	eventually(in.t, "all is on disk", func() bool { return in.stats().Disk.Entries == int64(n) })
}

// TestListingByPages: filters and the cursor, over both tiers, each entry once and in order.
func TestListingByPages(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", "section-"+strings.Split(r.URL.Path, "/")[1])
		_, _ = w.Write([]byte(strings.Repeat("x", 10_000)))
	})
	s := withDisk(t, "larder")
	s.options = "memory 128KiB"
	in := start(t, s, o)
	var all []string
	for n := range 25 {
		path := fmt.Sprintf("/%s/%02d", []string{"a", "b"}[n%2], n)
		in.get(path)
		in.awaitDisk(n + 1) // so small a memory holds no more that waits for the disk
		all = append(all, in.url(path))
	}
	slices.Sort(all)
	host := strings.TrimPrefix(in.url(""), "http://")
	inB := slices.DeleteFunc(slices.Clone(all), func(u string) bool { return !strings.Contains(u, "/b/") })
	for name, tc := range map[string]struct {
		query string
		want  []string
	}{
		"everything":   {"", all},
		"by tag":       {"&tag=section-b", inB},
		"by prefix":    {"&prefix=" + url.QueryEscape(in.url("/b")), inB},
		"by host":      {"&host=" + url.QueryEscape(host), all},
		"by all three": {"&tag=section-b&host=" + url.QueryEscape(host) + "&prefix=" + url.QueryEscape(in.url("/")), inB},
		"another host": {"&host=other", nil},
		"nothing":      {"&tag=section-b&prefix=" + url.QueryEscape(in.url("/a")), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			pages := 0
			for cursor := ""; pages == 0 || cursor != ""; pages++ {
				l := in.entries("?limit=4" + tc.query + "&cursor=" + url.QueryEscape(cursor))
				for _, e := range l.Entries {
					got = append(got, e.URL)
				}
				cursor = l.Next
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("listed %q, want %q", got, tc.want)
			}
			if want := max(1, (len(tc.want)+3)/4); pages != want {
				t.Errorf("%d pages, want %d", pages, want)
			}
		})
	}
}

// TestListingOfACursorNobodyGave: the one who asks is at fault, not the store.
func TestListingOfACursorNobodyGave(t *testing.T) {
	in := start(t, proxied("larder"), newOrigin(t, answering(200)))
	var answer struct {
		Error string `json:"error"`
	}
	if status := in.adminCall(http.MethodGet, "/larder/entries?cursor=made-up", "", &answer); status != 400 || !strings.HasPrefix(answer.Error, "cursor: ") {
		t.Errorf("answered %d %q", status, answer.Error)
	}
}

// TestTagLimitsLogOneLine: however many tags of a response are dropped.
func TestTagLimitsLogOneLine(t *testing.T) {
	var tags []string
	for i := range 150 {
		tags = append(tags, fmt.Sprintf("t%d", i))
	}
	tags = append(tags, strings.Repeat("x", 257), "é")
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Surrogate-Key", strings.Join(tags, " ")))
	log := filepath.Join(t.TempDir(), "log")
	s := proxied("larder")
	s.global = "log tags {\noutput file " + log + "\nformat json\ninclude http.handlers.larder\n}"
	in := start(t, s, o)
	in.get("/").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	eventually(t, "the line is written", func() bool {
		text, err := os.ReadFile(log)
		return err == nil && strings.Count(string(text), "tags of a response are not kept") == 1 &&
			strings.Contains(string(text), `"dropped":24,"kept":128`)
	})
}

// TestCacheGroupsOnSeveralLines are one list, ignored whole if a member is no string (RFC 9875 2).
func TestCacheGroupsOnSeveralLines(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Add("Cache-Group-Invalidation", r.URL.Query().Get("first"))
			w.Header().Add("Cache-Group-Invalidation", `"`+r.URL.Query().Get("group")+`";why="changed"`)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Add("Cache-Groups", `"one"`)
		w.Header().Add("Cache-Groups", `"two"`)
	})
	in := start(t, proxied("larder"), o)
	for _, tc := range []struct {
		first, group string
		gone         bool
	}{
		{`"x"`, "one", true},
		{`"x"`, "two", true},
		{`"x"`, "three", false},
		{`token`, "one", false},
		{`"x", 7`, "one", false},
		{`("x" "y")`, "one", false},
		{`"x`, "one", false},
	} {
		in.get("/")
		posted := in.do(http.MethodPost, "/form?group="+tc.group+"&first="+url.QueryEscape(tc.first), "x")
		if n := len(posted.Header.Values("Cache-Group-Invalidation")); n != 2 {
			t.Errorf("%d lines of Cache-Group-Invalidation reached the client", n)
		}
		a := in.get("/")
		if a.isHit() == tc.gone {
			t.Errorf("%s and group %s: %s", tc.first, tc.group, a.cacheStatus())
		}
		if n := len(a.Header.Values("Cache-Groups")); n != 2 {
			t.Errorf("%d lines of Cache-Groups reached the client", n)
		}
	}
}

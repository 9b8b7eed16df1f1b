package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func TestStats(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	s := withDisk(t, "larder")
	s.options = "memory 32MiB"
	in := start(t, s, o)
	in.get("/")
	var all map[string]json.RawMessage
	eventually(t, "the entry is on disk and its fetch over", func() bool {
		st := in.stats()
		return st.Disk.Entries == 1 && st.InFlight == 0
	})
	if status := in.adminCall(http.MethodGet, "/larder/stats", "", &all); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	for tier, want := range map[string]struct{ entries, budget float64 }{"memory": {1, 32 << 20}, "disk": {1, 64 << 20}} {
		var got map[string]any
		if err := json.Unmarshal(all[tier], &got); err != nil {
			t.Fatalf("%s: %v", tier, err)
		}
		if got["entries"] != want.entries || got["budget"] != want.budget || got["bytes"].(float64) <= 0 {
			t.Errorf("%s: %v", tier, got)
		}
	}
	var requests map[string]int64
	if err := json.Unmarshal(all["requests"], &requests); err != nil {
		t.Fatal(err)
	}
	for _, outcome := range []string{"hit", "stale", "revalidated", "miss", "collapsed", "bypass"} {
		if _, ok := requests[outcome]; !ok {
			t.Errorf("requests lack %s", outcome)
		}
	}
	if string(all["in_flight"]) != "0" {
		t.Errorf("in_flight %s", all["in_flight"])
	}

	s.disk = ""
	in.load(s, o)
	if d := in.stats().Disk; d.Entries != 0 || d.Bytes != 0 || d.Budget != 0 {
		t.Errorf("disk off: %+v", d)
	}
}

func TestMetrics(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", strings.Trim(r.URL.Path, "/"))
		w.Header().Set("Surrogate-Key", "secret-tag")
	})
	s := withDisk(t, "larder")
	in := start(t, s, o)
	series := map[string]float64{ // and by how much they grow
		`caddy_larder_requests_total{outcome="hit"}`:         2,
		`caddy_larder_requests_total{outcome="miss"}`:        2,
		`caddy_larder_requests_total{outcome="bypass"}`:      1,
		`caddy_larder_requests_total{outcome="stale"}`:       0,
		`caddy_larder_requests_total{outcome="revalidated"}`: 0,
		`caddy_larder_requests_total{outcome="collapsed"}`:   0,
		`caddy_larder_not_stored_total{reason="no-store"}`:   1,
		`caddy_larder_purged_total{selector="tag"}`:          2,
		`caddy_larder_purged_total{selector="url"}`:          0,
		`caddy_larder_purged_total{selector="prefix"}`:       0,
		`caddy_larder_purged_total{selector="host"}`:         0,
		`caddy_larder_purged_total{selector="all"}`:          0,
		`caddy_larder_fetch_duration_seconds_count`:          2,
		`caddy_larder_errors_total{tier="memory"}`:           0,
		`caddy_larder_errors_total{tier="disk"}`:             0,
		`caddy_larder_in_flight`:                             0,
	}
	before := make(map[string]float64)
	for name := range series {
		before[name] = in.series(name)
	}
	in.get("/max-age=60")
	in.get("/max-age=60")
	in.get("/max-age=60")
	in.get("/no-store")
	in.do(http.MethodPost, "/x", "x")
	in.purge(`{"tags":["a","b"]}`)
	in.load(s, o) // a reload keeps the counts
	eventually(t, "the fetches have ended", func() bool { return in.series("caddy_larder_in_flight") == 0 })
	for name, grows := range series {
		if got := in.series(name) - before[name]; got != grows {
			t.Errorf("%s grew by %v, want %v", name, got, grows)
		}
	}
	text := in.scrape()
	for _, name := range []string{
		`caddy_larder_entries{tier="memory",zone="default"} 1`, `caddy_larder_entries{tier="disk",`, `caddy_larder_bytes{tier="memory",`,
		`caddy_larder_bytes{tier="disk",`, `caddy_larder_evictions_total{reason=`, `caddy_larder_fetch_duration_seconds_bucket{zone="default",le=`,
		`caddy_larder_in_flight_bytes{account="stored",zone="default"} 0`, `caddy_larder_in_flight_bytes{account="beyond",zone="default"} 0`,
		`caddy_larder_in_flight_bytes{account="passed_on",zone="default"} 0`,
		`caddy_larder_in_flight_bytes{account="fetches",zone="default"} 0`,
	} {
		if !strings.Contains(text, name) {
			t.Errorf("no %s", name)
		}
	}
	wantNoSecrets(t, text)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "caddy_larder") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// wantNoSecrets: no label carries a key, URL, host or tag.
func wantNoSecrets(t *testing.T, text string) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "caddy_larder") {
			continue
		}
		for _, secret := range []string{"secret-tag", "localhost", "max-age", "http:"} {
			if strings.Contains(line, secret) {
				t.Errorf("%s", line)
			}
		}
	}
}

// The admin API and the metrics count the fetches under way alike, and all of them: a reload that
// names another folder ends none.
func TestInFlightAcrossStores(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, _ *visit) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "body")
	})
	s := withDisk(t, "larder")
	in := start(t, s, g.origin)
	first := gather(t, in, 1, http.MethodGet, "/", nil)
	v := g.next(t, 1)
	s.disk = t.TempDir()
	in.load(s, g.origin)
	second := gather(t, in, 1, http.MethodGet, "/", nil)
	v = append(v, g.next(t, 1)...)
	if api, metric := in.stats().InFlight, in.series("caddy_larder_in_flight"); api != 2 || metric != 2 {
		t.Errorf("two fetches are under way: the admin API counts %d, the metrics %v", api, metric)
	}
	open(v...)
	first.all()[0].want(t, 200, "body", "")
	second.all()[0].want(t, 200, "body", "")
	settled(t, in)
}

func TestEntries(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", "all t"+strings.Trim(r.URL.Path, "/"))
		w.Header().Set("Cache-Groups", `"g"`)
		w.Header().Set("Age", "10")
		_, _ = io.WriteString(w, "12345")
	})
	in, begun := start(t, withDisk(t, "larder"), o), time.Now()
	const n = 7
	for i := range n {
		in.get(fmt.Sprintf("/%d?q=1", i))
	}
	one := in.entries("?tag=t3")
	if len(one.Entries) != 1 {
		t.Fatalf("%d entries with tag t3", len(one.Entries))
	}
	e := one.Entries[0]
	tags := slices.Sorted(slices.Values(e.Tags))
	if e.URL != in.url("/3?q=1") || e.Status != 200 || e.Size != 5 || !slices.Equal(tags, []string{"all", "t3"}) {
		t.Errorf("entry %+v", e)
	}
	if since := int64(secondsSince(begun)); e.Age < 10 || e.Age > 10+since || e.TTL > 50 || e.TTL < 50-since {
		t.Errorf("age %d, ttl %d", e.Age, e.TTL)
	}
	if !slices.Contains([]string{"memory", "disk", "both"}, e.Tier) {
		t.Errorf("tier %q", e.Tier)
	}
	host := strings.TrimPrefix(in.url(""), "http://")
	for query, want := range map[string]int{
		"":                              n,
		"?tag=all":                      n,
		"?tag=none":                     0,
		"?prefix=" + in.url("/"):        n,
		"?prefix=" + in.url("/4"):       1,
		"?host=" + host:                 n,
		"?host=example.com":             0,
		"?host=" + host + "&tag=t1":     1,
		"?tag=t2&prefix=" + in.url("/"): 1,
	} {
		if got := len(in.entries(query).Entries); got != want {
			t.Errorf("%s lists %d, want %d", query, got, want)
		}
	}
	seen := make(map[string]int)
	for cursor, pages := "", 0; ; pages++ {
		if pages > 2*n {
			t.Fatal("the listing does not end")
		}
		page := in.entries("?limit=2&cursor=" + cursor)
		for _, e := range page.Entries {
			seen[e.URL]++
		}
		if len(page.Entries) > 2 {
			t.Errorf("a page of %d", len(page.Entries))
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	for i := range n {
		if got := seen[in.url(fmt.Sprintf("/%d?q=1", i))]; got != 1 {
			t.Errorf("/%d was listed %d times", i, got)
		}
	}
	in.purge(`{"tags":["all"]}`)
	if got := in.entries("").Entries; len(got) != 0 {
		t.Errorf("after the purge %d are listed", len(got))
	}
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

// TestListingOfACursorNobodyGave: a cursor that no listing gave is the client's error.
func TestListingOfACursorNobodyGave(t *testing.T) {
	in := start(t, proxied("larder"), newOrigin(t, answering(200)))
	var answer struct {
		Error string `json:"error"`
	}
	if status := in.adminCall(http.MethodGet, "/larder/entries?cursor=made-up", "", &answer); status != 400 || !strings.HasPrefix(answer.Error, "cursor: ") {
		t.Errorf("answered %d %q", status, answer.Error)
	}
}

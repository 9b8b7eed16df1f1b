package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

// ranking is the answer of GET /larder/top.
type ranking struct {
	By   string `json:"by"`
	Rows []struct {
		URL    string  `json:"url"`
		Count  float64 `json:"count"`
		Share  float64 `json:"share"`
		Reason string  `json:"reason"`
	} `json:"rows"`
}

// count is that of a URL, and the reason beside it.
func (r ranking) count(of string) (count float64, reason string) {
	for _, row := range r.Rows {
		if row.URL == of {
			return row.Count, row.Reason
		}
	}
	return 0, ""
}

func (in *instance) topOf(zone, by string) (r ranking) {
	in.t.Helper()
	if status := in.adminCall(http.MethodGet, "/larder/top?limit=1000&zone="+zone+"&by="+by, "", &r); status != http.StatusOK || r.By != by {
		in.t.Fatalf("top by %s: %d, %+v", by, status, r)
	}
	return r
}

// TestTop: each ranking counts what it says, by the URL that a purge takes, and a reload loses
// nothing.
func TestTop(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
		_, _ = w.Write(bytes.Repeat([]byte("x"), 1000))
	})
	const zone = "ranked"
	s := rankedIn(t, zone, "key {", "query sort", "}")
	in := start(t, s, o)
	long := "/long?cc=no-store&" + strings.Repeat("y", 2000)
	for range 3 {
		in.get("/stored?b=1&cc=max-age%3D60")
		in.get("/refused?cc=no-store")
		in.get("/private?cc=private")
		in.get(long)
	}
	in.load(s, o)
	stored := in.url("/stored?b=1&cc=max-age%3D60")
	for _, tc := range []struct {
		by, url string
		count   float64
		reason  string
	}{
		{"hits", stored, 2, ""},
		{"misses", stored, 1, "uri-miss"},
		{"misses", in.url("/refused?cc=no-store"), 3, "no-store"},
		{"not_stored", in.url("/refused?cc=no-store"), 3, "no-store"},
		{"not_stored", in.url("/private?cc=private"), 3, "private"},
		{"bytes", stored, 3000, "hit"},
	} {
		eventually(t, fmt.Sprintf("%s of %s: %v because of %q", tc.by, tc.url, tc.count, tc.reason), func() bool {
			count, reason := in.topOf(zone, tc.by).count(tc.url)
			return count == tc.count && reason == tc.reason
		})
	}
	eventually(t, "it took time to fetch", func() bool {
		for _, row := range in.topOf(zone, "fetch_time").Rows {
			if row.URL == stored {
				return row.Reason == "ok"
			}
		}
		return false
	})
	for _, row := range in.topOf(zone, "not_stored").Rows {
		if len(row.URL) > 512 {
			t.Errorf("a URL of %d bytes", len(row.URL))
		}
	}
}

// TestHistory: what happens is in the history at once, with each step of time, and a reload loses
// nothing.
func TestHistory(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	// In a zone of its own each hit is timed. After many in a second, one of several is.
	s := rankedIn(t, "history")
	in := start(t, s, o)
	sum := func(step, name string) (sum float64) {
		var w struct {
			Step   string                `json:"step"`
			From   int64                 `json:"from"`
			Series map[string][]*float64 `json:"series"`
		}
		if status := in.adminCall(http.MethodGet, "/larder/history?step="+step, "", &w); status != http.StatusOK || w.Step != step {
			t.Fatalf("history: %d, %+v", status, w)
		}
		for _, v := range w.Series[name] {
			if v != nil {
				sum += *v
			}
		}
		return sum
	}
	steps := []string{"10s", "1m", "15m"}
	before := make(map[string]float64)
	names := map[string]float64{"requests_miss": 1, "requests_hit": 2, "bytes_served": 3, "bytes_saved": 2, "hits_timed": 2, "fetches": 1}
	for _, step := range steps {
		for name := range names {
			before[step+name] = sum(step, name)
		}
	}
	for range 3 {
		in.get("/")
	}
	in.load(s, o)
	for _, step := range steps {
		for name, want := range names {
			eventually(t, fmt.Sprintf("%s rises by %v in steps of %s", name, want, step), func() bool {
				return sum(step, name)-before[step+name] == want
			})
		}
		if sum(step, "memory_bytes") == 0 {
			t.Errorf("nothing in memory in steps of %s", step)
		}
	}
}

// detail is the answer of GET /larder/entries/{id}.
type detail struct {
	ID     string              `json:"id"`
	URL    string              `json:"url"`
	Hits   uint64              `json:"hits"`
	Purged string              `json:"purged"`
	Header map[string][]string `json:"header"`
	Vary   map[string]string   `json:"vary"`
	Key    struct {
		Hash string `json:"hash"`
	} `json:"key"`
}

// TestEntryByID: an id stays that of its response, in memory, on disk and over a reload, and is
// that of no other one.
func TestEntryByID(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Vary", "Accept-Language", "Surrogate-Key", "t"))
	s := rankedIn(t, "identified", "key {", "query ignore utm_*", "}")
	in := start(t, s, o)
	in.get("/?a&utm_x=1", "Accept-Language", "de")
	in.get("/?a", "Accept-Language", "fr")
	in.get("/?a", "Accept-Language", "fr")
	in.awaitDisk(2)
	byLanguage := make(map[string]detail)
	for range 2 {
		list := in.entries("?headers=true&url=" + url.QueryEscape(in.url("/?utm_y=2&a")))
		if len(list.Entries) != 2 {
			t.Fatalf("%+v", list)
		}
		for _, e := range list.Entries {
			var d detail
			if status := in.adminCall(http.MethodGet, "/larder/entries/"+e.ID, "", &d); status != http.StatusOK {
				t.Fatalf("entry %s: %d", e.ID, status)
			}
			language := d.Vary["Accept-Language"]
			if d.URL != in.url("/?a") || e.Header["Vary"][0] != "Accept-Language" || d.Header["Vary"][0] != "Accept-Language" || len(d.Key.Hash) != 64 || d.Hits == 0 {
				t.Errorf("%s: %+v, %+v", language, d, e)
			}
			if was, known := byLanguage[language]; known && was.ID != d.ID {
				t.Errorf("%s had the id %s and has %s", language, was.ID, d.ID)
			}
			byLanguage[language] = d
		}
		in.load(s, o)
	}
	if len(byLanguage) != 2 || byLanguage["de"].ID == byLanguage["fr"].ID {
		t.Fatalf("%+v", byLanguage)
	}
	in.purge(`{"tags":["t"],"soft":true}`)
	var d detail
	if in.adminCall(http.MethodGet, "/larder/entries/"+byLanguage["de"].ID, "", &d); d.Purged != "soft" {
		t.Errorf("after a soft purge: %+v", d)
	}
	in.get("/?a", "Accept-Language", "de") // another response takes its place
	for language, want := range map[string]int{"de": http.StatusNotFound, "fr": http.StatusOK} {
		eventually(t, language+" is no other", func() bool {
			return in.adminCall(http.MethodGet, "/larder/entries/"+byLanguage[language].ID, "", &detail{}) == want
		})
	}
}

// TestListTellsKeysApart: what differs by a field in the key was listed as equal lines. The last
// column is what explain prints for a request.
func TestListTellsKeysApart(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, proxied(block("key {", "header X-Tenant", "}")), o)
	keys := make(map[string]bool)
	adminapitest.Address = in.admin
	for _, tenant := range []string{"a", "b"} {
		in.get("/", "X-Tenant", tenant)
		told, _, err := adminapitest.Larder(t, "explain", in.url("/"), "-H", "X-Tenant: "+tenant)
		key := regexp.MustCompile(`(?m)^key ([0-9a-f]{16})$`).FindStringSubmatch(told)
		if err != nil || key == nil {
			t.Fatalf("%v\n%s", err, told)
		}
		keys[key[1]] = true
	}
	listed, _, err := adminapitest.Larder(t, "ls", "--url", in.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(listed) {
		columns := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		delete(keys, columns[len(columns)-1])
	}
	if strings.Count(listed, "\n") != 2 || len(keys) > 0 {
		t.Errorf("no line has %v\n%s", keys, listed)
	}
}

func TestEntriesInOrder(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
		w.Header().Set("Cache-Control", fmt.Sprint("max-age=", 1000+size))
		_, _ = w.Write(make([]byte, size))
	})
	in := start(t, rankedIn(t, "ordered"), o)
	for _, size := range []string{"30", "200", "10"} {
		in.get("/" + size)
	}
	for range 3 {
		in.get("/30")
	}
	in.get("/10")
	for sort, want := range map[string]string{
		"url": "10 200 30", "-url": "30 200 10", "size": "10 30 200", "-size": "200 30 10", "-ttl": "200 30 10",
		"age": "10 200 30", "-age": "30 200 10", "-hits": "30 10 200", "hits": "200 10 30",
	} {
		var got []string
		for cursor, pages := "", 0; pages == 0 || cursor != ""; pages++ {
			list := in.entries("?limit=2&sort=" + sort + "&cursor=" + cursor)
			for _, e := range list.Entries {
				got = append(got, e.URL[strings.LastIndex(e.URL, "/")+1:])
			}
			cursor = list.Next
		}
		if strings.Join(got, " ") != want {
			t.Errorf("by %s: %v, want %s", sort, got, want)
		}
	}
	var answer struct{ Error string }
	if status := in.adminCall(http.MethodGet, "/larder/entries?sort=size&cursor=AAAA", "", &answer); status != http.StatusBadRequest {
		t.Errorf("another cursor: %d %s", status, answer.Error)
	}
}

// TestPurgeByID removes one variant, and no other entry; the answer counts it once.
func TestPurgeByID(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Vary", "Accept-Language", "Surrogate-Key", "t"))
	in := start(t, withDisk(t, "larder"), o)
	in.get("/", "Accept-Language", "de")
	in.get("/", "Accept-Language", "fr")
	in.awaitDisk(2)
	ids := make(map[string]string)
	for _, e := range in.entries("").Entries {
		var d detail
		in.adminCall(http.MethodGet, "/larder/entries/"+e.ID, "", &d)
		ids[d.Vary["Accept-Language"]] = e.ID
	}
	if matched := in.purge(`{"ids":["` + ids["de"] + `"],"tags":["t"],"dry_run":true}`); matched != 2 {
		t.Errorf("a dry run matched %d", matched)
	}
	for _, want := range []int{1, 0} {
		if matched := in.purge(`{"ids":["` + ids["de"] + `"],"zones":["default"]}`); matched != want {
			t.Errorf("matched %d, want %d", matched, want)
		}
	}
	if list := in.entries(""); len(list.Entries) != 1 || list.Entries[0].ID != ids["fr"] {
		t.Errorf("left %+v", list)
	}
	for language, want := range map[string]string{"fr": "hit", "de": "fwd="} {
		if got := in.get("/", "Accept-Language", language).Header.Get("Cache-Status"); !strings.Contains(got, want) {
			t.Errorf("%s: Cache-Status %q", language, got)
		}
	}
	if matched := in.purge(`{"ids":["` + ids["de"] + `"]}`); matched != 0 {
		t.Errorf("the id of before matched %d of what came after", matched)
	}
}

// TestStatsOfAZone: the top level is the sum of the zones, of which there is one.
func TestStatsOfAZone(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, withDisk(t, "larder"), o)
	in.get("/")
	in.awaitDisk(1)
	type counts struct {
		Memory struct{ Entries, Budget int64 } `json:"memory"`
		Disk   struct{ Entries, Budget int64 } `json:"disk"`
	}
	var all struct {
		counts
		Zones map[string]counts `json:"zones"`
	}
	var zone counts
	if status := in.adminCall(http.MethodGet, "/larder/stats", "", &all); status != http.StatusOK {
		t.Fatal(status)
	}
	if status := in.adminCall(http.MethodGet, "/larder/stats?zone=default", "", &zone); status != http.StatusOK {
		t.Fatal(status)
	}
	if len(all.Zones) != 1 || all.Zones["default"] != all.counts || zone != all.counts || zone.Disk.Entries != 1 {
		t.Errorf("%+v, of the zone %+v", all, zone)
	}
	var answer struct{ Error string }
	if status := in.adminCall(http.MethodGet, "/larder/stats?zone=shop", "", &answer); status != http.StatusBadRequest || !strings.Contains(answer.Error, "default") {
		t.Errorf("of a zone that there is not: %d %q", status, answer.Error)
	}
}

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shopBeside are a shop and all other pages. {{shop}} and {{rest}} stand for their zones.
const shopBeside = `@shop path /shop /shop/*
	handle @shop {
		larder {
			zone {{shop}}
		}
		reverse_proxy {{origin}}
	}
	handle {
		larder {
			zone {{rest}}
		}
		reverse_proxy {{origin}}
	}`

func inZones(shop, rest string) string {
	return strings.NewReplacer("{{shop}}", shop, "{{rest}}", rest).Replace(shopBeside)
}

// zoneStats is GET /larder/stats by zone.
func (in *instance) zoneStats() (all stats, zones map[string]stats) {
	in.t.Helper()
	var raw json.RawMessage
	in.adminCall(http.MethodGet, "/larder/stats", "", &raw)
	var answer struct{ Zones map[string]stats }
	if err := json.Unmarshal(raw, &all); err != nil {
		in.t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		in.t.Fatal(err)
	}
	return all, answer.Zones
}

// TestZonesKeepSitesApart: twenty pages of a shop are asked for three times, beside 400 of another
// site, in 8 MiB. In a zone of their own they stay; in one zone with the others they do not.
func TestZonesKeepSitesApart(t *testing.T) {
	page := strings.Repeat("a page of the site ", 3<<10)
	o := newQuietOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		_, _ = fmt.Fprint(w, page)
	})
	hits := func(shop string, options string) (hits int) {
		in := start(t, setup{options: options, site: inZones(shop, "default")}, o)
		for round := range 3 {
			for i := range 20 {
				a := in.get(fmt.Sprintf("/shop/%d", i))
				if strings.HasPrefix(a.cacheStatus(), "Larder; hit") {
					hits++
				}
			}
			for i := range 400 / 3 {
				in.get(fmt.Sprintf("/crawl/%d", 400/3*round+i))
			}
		}
		return hits
	}
	together := hits("default", "memory 8MiB")
	apart := hits("shop", "memory 5MiB\nzone shop {\nmemory 3MiB\n}")
	if apart != 40 || together == 40 {
		t.Errorf("of 60 requests %d are hits in a zone of their own, %d in one with the other site", apart, together)
	}
}

// TestZonesByReload moves a handler to another zone, adds zones, drops and resizes them, while what
// is stored in a zone stays.
func TestZonesByReload(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=600"))
	log := newAccessLog(t)
	s := setup{disk: t.TempDir(), options: "zone shop", site: inZones("shop", "default"), log: "level INFO\noutput file " + log.file}
	in := start(t, s, o)
	shop := func(wanted string) {
		t.Helper()
		in.get("/shop").want(t, 200, wanted, "")
	}
	in.get("/").want(t, 200, "1", "")
	shop("2")
	shop("2")
	file := filepath.Join(s.disk, "shop", "larder.db")
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}

	s.options = "zone shop {\nmemory 5MiB\n}\nzone blog" // resized, and one added
	in.load(s, o)
	shop("2")
	if _, zones := in.zoneStats(); zones["shop"].Memory.Budget != 5<<20 || zones["blog"].Memory.Budget != 64<<20 {
		t.Errorf("%+v", zones)
	}
	s.site = inZones("blog", "default") // moved
	in.load(s, o)
	shop("3")
	in.get("/").want(t, 200, "1", "")

	s.options = "zone blog" // dropped
	in.load(s, o)
	shop("3")
	eventually(t, "the file of the zone that was dropped is closed", func() bool { return canLock(file) })
	text, err := os.ReadFile(log.file)
	if err != nil {
		t.Fatal(err)
	}
	if said := string(text); strings.Count(said, "not used any more") != 1 || !strings.Contains(said, file) {
		t.Errorf("the log does not say once where the file is:\n%s", said)
	}
	s.options, s.site = "zone blog\nzone shop", inZones("shop", "default") // and it is back
	in.load(s, o)
	shop("2")
}

// TestZonesTell: statistics, listings, rankings, histories and metrics are those of a zone, or the
// sums.
func TestZonesTell(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=600", "Surrogate-Key", "a"))
	in := start(t, setup{disk: t.TempDir(), options: "zone tell", site: inZones("tell", "default")}, o)
	in.get("/rest")
	for range 3 {
		in.get("/shop")
	}
	all, zones := in.zoneStats()
	if len(zones) != 2 || zones["tell"].Memory.Entries != 1 || zones["default"].Memory.Entries != 1 || all.Memory.Entries != 2 ||
		zones["tell"].Requests["hit"] != 2 || zones["tell"].Requests["miss"] != 1 ||
		all.Requests["hit"] != zones["default"].Requests["hit"]+2 || all.Memory.Budget != zones["default"].Memory.Budget+64<<20 {
		t.Errorf("%+v of %+v", all, zones)
	}
	if got := in.scraped()[`caddy_larder_requests_total{outcome="hit",zone="tell"}`]; got != 2 {
		t.Errorf("the metrics have %v hits", got)
	}
	if got := in.scraped()[`caddy_larder_entries{tier="memory",zone="tell"}`]; got != 1 {
		t.Errorf("the metrics have %v entries", got)
	}
	in.awaitDisk(2)
	shop, rest := in.url("/shop"), in.url("/rest")
	for query, want := range map[string]string{
		"": rest + " " + shop, "?zone=tell": shop, "?zone=default": rest, "?sort=-url": shop + " " + rest, "?sort=size&zone=tell": shop,
		"?limit=1": rest, "?limit=1&sort=-url": shop,
	} {
		l, urls := in.entries(query), []string{}
		for _, e := range l.Entries {
			urls = append(urls, e.URL)
		}
		if got := strings.Join(urls, " "); got != want || (l.Next != "") != strings.Contains(query, "limit") {
			t.Errorf("entries%s: %q, want %q; then %q", query, got, want, l.Next)
		}
		if strings.HasPrefix(query, "?limit=1") {
			after := in.entries(query + "&cursor=" + l.Next)
			if len(after.Entries) != 1 || after.Entries[0].URL == want || after.Next != "" {
				t.Errorf("entries%s, the next page: %+v", query, after)
			}
		}
	}
	var detail struct{ URL, Zone string }
	in.adminCall(http.MethodGet, "/larder/entries/"+in.entries("?zone=tell").Entries[0].ID, "", &detail)
	if detail.URL != shop || detail.Zone != "tell" {
		t.Errorf("%+v", detail)
	}
	id := in.entries("?zone=tell").Entries[0].ID
	if status := in.adminCall(http.MethodGet, "/larder/entries/"+id+"?zone=default", "", new(struct{})); status != http.StatusNotFound {
		t.Errorf("an entry is shown as one of another zone: %d", status)
	}
	var top ranking
	in.adminCall(http.MethodGet, "/larder/top?by=hits&zone=tell", "", &top)
	if len(top.Rows) != 1 || top.Rows[0].URL != shop {
		t.Errorf("%+v", top)
	}
	var history struct{ Series map[string][]*float64 }
	in.adminCall(http.MethodGet, "/larder/history?zone=tell", "", &history)
	if entries := history.Series["memory_entries"]; len(entries) == 0 || entries[len(entries)-1] == nil || *entries[len(entries)-1] != 1 {
		t.Errorf("the history has %v entries", entries)
	}
	for _, path := range []string{"stats", "entries", "top", "observed", "history"} {
		var answer struct{ Error string }
		status := in.adminCall(http.MethodGet, "/larder/"+path+"?zone=shp", "", &answer)
		if status != http.StatusBadRequest || !strings.Contains(answer.Error, "default, tell") {
			t.Errorf("%s of a zone that there is not: %d %q", path, status, answer.Error)
		}
	}
	if e := in.explain(map[string]any{"url": in.url("/shop")}); !strings.Contains(fmt.Sprint(e.Steps), "tell") {
		t.Errorf("explain does not say the zone: %+v", e.Steps)
	}
}

// TestZonesArePurged: a purge reaches all zones, or those that it names, as does what an unsafe
// request invalidates.
func TestZonesArePurged(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=600", "Surrogate-Key", "a"))
	in := start(t, setup{disk: t.TempDir(), options: "zone shop", site: inZones("shop", "default")}, o)
	fill := func() (rest, shop string) {
		return in.get("/").body, in.get("/shop").body
	}
	rest, shop := fill()
	for purge, want := range map[string]struct {
		matched    int
		rest, shop bool // still there
	}{
		`{"tags":["a"]}`:                                                      {2, false, false},
		`{"tags":["a"],"zones":["shop"]}`:                                     {1, true, false},
		`{"all":true,"zones":["default"]}`:                                    {1, false, true},
		`{"all":true,"zones":["default","shop"],"dry_run":true}`:              {2, true, true},
		`{"urls":["` + in.url("/shop") + `"]}`:                                {1, true, false},
		`{"urls":["` + in.url("/shop") + `"],"zones":["default"]}`:            {0, true, true},
		`{"prefixes":["` + in.url("/shop") + `"],"zones":["default","shop"]}`: {1, true, false},
		`{"ids":["` + in.entries("?zone=shop").Entries[0].ID + `"]}`:          {-1, true, true},
	} {
		matched := in.purge(purge)
		nextRest, nextShop := fill()
		if want.matched >= 0 && (matched != want.matched || (nextRest == rest) != want.rest || (nextShop == shop) != want.shop) {
			t.Errorf("%s: matched %d, from %s %s to %s %s", purge, matched, rest, shop, nextRest, nextShop)
		}
		rest, shop = nextRest, nextShop
	}
	id := in.entries("?zone=shop").Entries[0].ID
	if n := in.purge(`{"ids":["` + id + `"],"zones":["default"]}`); n != 0 {
		t.Errorf("an id in another zone matched %d", n)
	}
	if n := in.purge(`{"ids":["` + id + `"],"zones":["shop"]}`); n != 1 {
		t.Errorf("an id in its zone matched %d", n)
	}
}

// TestZonesThatAreNot: a configuration that names a zone which there is not does not load, nor one
// that gives two zones one folder by another name.
func TestZonesThatAreNot(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=600"))
	s := setup{disk: t.TempDir(), options: "zone shop", site: inZones("shop", "default")}
	in := start(t, s, o)
	bad := s
	bad.site = inZones("shp", "default")
	if err := in.tryLoad(bad, o); err == nil || !strings.Contains(err.Error(), `there is no zone "shp"`) || !strings.Contains(err.Error(), "Caddyfile:") {
		t.Errorf("a zone that there is not: %v", err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.Symlink(s.disk, other); err != nil {
		t.Skip(err)
	}
	bad = s
	bad.options = "zone shop {\ndisk " + other + "\n}"
	if err := in.tryLoad(bad, o); err == nil || !strings.Contains(err.Error(), "zone shop: disk:") || !strings.Contains(err.Error(), "default") {
		t.Errorf("one folder by two names: %v", err)
	}
	in.get("/shop").want(t, 200, "", "")
}

// TestCompactGivesRoomBack: the file of a zone whose pages are purged becomes smaller when that is
// asked for, and the other zone's pages stay.
func TestCompactGivesRoomBack(t *testing.T) {
	page := strings.Repeat("a page of the site ", 20<<10)
	o := newQuietOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		_, _ = fmt.Fprint(w, page)
	})
	in := start(t, setup{disk: t.TempDir(), options: "memory 2MiB\nzone shop", site: inZones("shop", "default")}, o)
	for i := range 20 {
		in.get(fmt.Sprintf("/shop/%d", i))
	}
	in.get("/")
	in.awaitDisk(21)
	in.purge(`{"prefixes":["` + in.url("/shop/1") + `"]}`)
	in.awaitDisk(10)
	type compaction struct{ Before, After int64 }
	var answer struct{ Zones map[string]compaction }
	if status := in.adminCall(http.MethodPost, "/larder/compact?zone=shop", "", &answer); status != http.StatusOK {
		t.Fatal(status)
	}
	shop := answer.Zones["shop"]
	if len(answer.Zones) != 1 || shop.After >= shop.Before/4*3 {
		t.Errorf("%+v", answer)
	}
	in.get("/shop/2").want(t, 200, page, "")
	if n := filesIn(t, filepath.Join(in.disk, "shop")); n != shop.After {
		t.Errorf("the files have %d bytes; the answer says %d", n, shop.After)
	}
	if status := in.adminCall(http.MethodPost, "/larder/compact", "", &answer); status != http.StatusOK || len(answer.Zones) != 2 {
		t.Errorf("all zones: %d %+v", status, answer)
	}
	for _, path := range []string{"/", "/shop/2"} {
		if status := in.get(path).cacheStatus(); !strings.HasPrefix(status, "Larder; hit") {
			t.Errorf("%s after it: %s", path, status)
		}
	}
}

// filesIn is how many bytes the files of a folder have.
func filesIn(t *testing.T, folder string) (n int64) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

package e2e

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// scraped has the series of Larder's metrics as a scrape has them, by name and labels.
func (in *instance) scraped() map[string]float64 {
	in.t.Helper()
	series := make(map[string]float64)
	for line := range strings.Lines(in.scrape()) {
		at := strings.LastIndexByte(line, ' ')
		if !strings.HasPrefix(line, "caddy_larder_") || at < 0 {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		if err != nil {
			in.t.Fatalf("%s: %v", line, err)
		}
		series[line[:at]] = value
	}
	return series
}

// failingLater is an origin whose pages have a known length each: the digits in their paths.
func failingLater(t *testing.T) *origin {
	return newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		name, digits, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "-")
		control, known := map[string]string{
			"fresh": "max-age=60", "refreshed": "max-age=0, stale-while-revalidate=60", "old": "max-age=0",
			"broken": "max-age=0, stale-if-error=60", "unshared": "no-store",
		}[name]
		if known {
			w.Header().Set("Cache-Control", control)
			w.Header().Set("Etag", `"v1"`)
		}
		switch again := r.Header.Get("If-None-Match") != ""; {
		case again && name == "broken":
			w.WriteHeader(http.StatusInternalServerError)
		case again:
			w.WriteHeader(http.StatusNotModified)
		default:
			n, _ := strconv.Atoi(digits)
			_, _ = w.Write(make([]byte, n))
		}
	})
}

// What the origin is asked, what clients are sent and what is answered stale can be computed from
// the metrics.
func TestMetricsOfOriginLoadAndBytes(t *testing.T) {
	in := start(t, withDisk(t, "larder"), failingLater(t))
	before := in.scraped()
	grown := func(series string) float64 {
		now, there := in.scraped()[series]
		if !there {
			t.Errorf("no series %s", series)
		}
		return now - before[series]
	}
	in.get("/fresh-1000")
	in.get("/fresh-1000")
	in.get("/fresh-1000", "Range", "bytes=0-9")
	in.get("/refreshed-200")
	in.get("/refreshed-200")
	in.get("/old-30")
	in.get("/old-30", "Cache-Control", "max-stale=60")
	in.get("/unshared-5")
	in.get("/unshared-5")
	in.do(http.MethodPost, "/form-7", "x")
	in.do(http.MethodHead, "/fresh-9", "")
	refreshed := `caddy_larder_fetches_total{kind="refresh",result="not_modified",zone="default"}`
	eventually(t, "the refresh is over", func() bool { return grown(refreshed) == 1 })
	in.get("/broken-400") // last: from now on the origin counts as failing
	in.get("/broken-400")

	for series, want := range map[string]float64{
		`requests_total{outcome="miss",`:                7,
		`requests_total{outcome="hit",`:                 2,
		`requests_total{outcome="stale",`:               3,
		`requests_total{outcome="bypass",`:              1,
		`response_bytes_total{outcome="miss",`:          1000 + 200 + 30 + 5 + 5 + 400,
		`response_bytes_total{outcome="hit",`:           1000 + 10,
		`response_bytes_total{outcome="stale",`:         200 + 30 + 400,
		`response_bytes_total{outcome="bypass",`:        7,
		`response_bytes_total{outcome="revalidated",`:   0,
		`response_bytes_total{outcome="collapsed",`:     0,
		`stale_total{cause="swr",`:                      1,
		`stale_total{cause="sie",`:                      1,
		`stale_total{cause="max-stale",`:                1,
		`stale_total{cause="origin-busy",`:              0,
		`fetches_total{kind="miss",result="ok",`:        5,
		`fetches_total{kind="miss",result="error",`:     1,
		`fetches_total{kind="miss",result="timeout",`:   0,
		`fetches_total{kind="refresh",result="ok",`:     0,
		`fetches_total{kind="pass",result="ok",`:        3,
		`fetches_total{kind="pass",result="refused",`:   0,
		`fetches_total{kind="pass",result="cancelled",`: 0,
		`fetch_duration_seconds_count{`:                 7,
		`not_stored_total{reason="no-store",`:           2,
		`disk_writes_skipped_total{`:                    0,
	} {
		if got := grown("caddy_larder_" + series + `zone="default"}`); got != want {
			t.Errorf("%s grew by %v, want %v", series, got, want)
		}
	}
}

// How full the tiers are, and how much waits, can be computed from the metrics.
func TestMetricsOfFill(t *testing.T) {
	s := withDisk(t, "larder")
	s.options = "memory 32MiB"
	in := start(t, s, newOrigin(t, answering(200, "Cache-Control", "max-age=60")))
	in.get("/")
	eventually(t, "the entry is on disk", func() bool {
		now := in.scraped()
		return now[`caddy_larder_entries{tier="disk",zone="default"}`] == 1 && now[`caddy_larder_queue_bytes{zone="default"}`] == 0
	})
	now := in.scraped()
	for series, holds := range map[string]func(v float64) bool{
		`caddy_larder_budget_bytes{tier="memory",zone="default"}`: func(v float64) bool { return v == 32<<20 },
		`caddy_larder_budget_bytes{tier="disk",zone="default"}`:   func(v float64) bool { return v == 64<<20 },
		`caddy_larder_bytes{tier="memory",zone="default"}`:        func(v float64) bool { return v > 0 },
		`caddy_larder_disk_file_bytes{zone="default"}`: func(v float64) bool {
			return v > 0 && v >= now[`caddy_larder_bytes{tier="disk",zone="default"}`]
		},
		`caddy_larder_purges_pending{zone="default"}`: func(v float64) bool { return v == 0 },
	} {
		if v, there := now[series]; !there || !holds(v) {
			t.Errorf("%s is %v (%v)", series, v, there)
		}
	}

	s.disk = ""
	in.load(s, newOrigin(t, answering(200)))
	now = in.scraped()
	for _, series := range []string{`caddy_larder_budget_bytes{tier="disk",zone="default"}`, `caddy_larder_disk_file_bytes{zone="default"}`} {
		if v, there := now[series]; !there || v != 0 {
			t.Errorf("without a disk %s is %v (%v)", series, v, there)
		}
	}
}

// Every series says of which zone it is.
func TestMetricsHaveTheirZone(t *testing.T) {
	in := start(t, withDisk(t, "larder"), newOrigin(t, answering(200)))
	in.get("/")
	all := in.scraped()
	if len(all) < 50 {
		t.Fatalf("only %d series", len(all))
	}
	for series := range all {
		if !strings.Contains(series, `zone="default"`) {
			t.Errorf("%s has no zone", series)
		}
	}
}

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// ranking is the answer of GET /larder/top.
type ranking struct {
	By   string `json:"by"`
	Rows []struct {
		URL    string  `json:"url"`
		Count  uint64  `json:"count"`
		Share  float64 `json:"share"`
		Reason string  `json:"reason"`
	} `json:"rows"`
}

// count is that of a URL, and the reason beside it.
func (r ranking) count(url string) (count uint64, reason string) {
	for _, row := range r.Rows {
		if row.URL == url {
			return row.Count, row.Reason
		}
	}
	return 0, ""
}

func (in *instance) top(by string) (r ranking) {
	in.t.Helper()
	if status := in.adminCall(http.MethodGet, "/larder/top?limit=1000&by="+by, "", &r); status != http.StatusOK || r.By != by {
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
	s := proxied(block("key {", "query sort", "}"))
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
		count   uint64
		reason  string
	}{
		{"hits", stored, 2, ""},
		{"misses", stored, 1, "uri-miss"},
		{"misses", in.url("/refused?cc=no-store"), 3, "no-store"},
		{"not_stored", in.url("/refused?cc=no-store"), 3, "no-store"},
		{"not_stored", in.url("/private?cc=private"), 3, "private"},
		{"bytes", stored, 3000, "hit"},
	} {
		eventually(t, fmt.Sprintf("%s of %s: %d because of %q", tc.by, tc.url, tc.count, tc.reason), func() bool {
			count, reason := in.top(tc.by).count(tc.url)
			return count == tc.count && reason == tc.reason
		})
	}
	eventually(t, "it took time to fetch", func() bool {
		for _, row := range in.top("fetch_time").Rows {
			if row.URL == stored {
				return row.Reason == "ok"
			}
		}
		return false
	})
	for _, row := range in.top("not_stored").Rows {
		if len(row.URL) > 512 {
			t.Errorf("a URL of %d bytes", len(row.URL))
		}
	}
}

// TestHistory: what happens is in the history at once, with each step of time, and a reload loses
// nothing.
func TestHistory(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	s := withDisk(t, "larder")
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

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// adminCall calls the admin API and decodes its JSON. As in do, what is safe to ask for is asked
// for again where a server that goes has closed the connection.
func (in *instance) adminCall(method, path, body string, into any) int {
	in.t.Helper()
	resp, err := in.tryAdmin(method, path, body)
	for attempt := 1; err != nil && attempt < 3 && method == http.MethodGet && droppedUnanswered(err); attempt++ {
		in.t.Logf("asking again for %s: %v", path, err)
		resp, err = in.tryAdmin(method, path, body)
	}
	if err != nil {
		in.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		in.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode
}

func (in *instance) tryAdmin(method, path, body string) (*http.Response, error) {
	r, err := http.NewRequest(method, "http://"+in.admin+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return http.DefaultClient.Do(r)
}

// purge purges and returns how many responses matched.
func (in *instance) purge(body string) int {
	in.t.Helper()
	var answer struct {
		Matched int    `json:"matched"`
		Error   string `json:"error"`
	}
	if status := in.adminCall(http.MethodPost, "/larder/purge", body, &answer); status != http.StatusOK {
		in.t.Fatalf("purge %s: %d %s", body, status, answer.Error)
	}
	return answer.Matched
}

// listing is the answer of GET /larder/entries.
type listing struct {
	Entries []struct {
		ID     string              `json:"id"`
		Header map[string][]string `json:"header"`
		URL    string              `json:"url"`
		Status int                 `json:"status"`
		Size   int64               `json:"size"`
		Age    int64               `json:"age"`
		TTL    int64               `json:"ttl"`
		Tags   []string            `json:"tags"`
		Tier   string              `json:"tier"`
	} `json:"entries"`
	Next string `json:"next"`
}

func (in *instance) entries(query string) listing {
	in.t.Helper()
	var l listing
	if status := in.adminCall(http.MethodGet, "/larder/entries"+query, "", &l); status != http.StatusOK {
		in.t.Fatalf("entries%s: %d", query, status)
	}
	return l
}

// awaitDisk returns when so many entries are on disk.
func (in *instance) awaitDisk(n int) {
	in.t.Helper()
	eventually(in.t, "all is on disk", func() bool { return in.stats().Disk.Entries == int64(n) })
}

// stats is GET /larder/stats.
type stats struct {
	Memory, Disk struct {
		Entries, Bytes, Budget int64
		State                  string
	}
	Requests      map[string]uint64
	InFlight      int `json:"in_flight"`
	PurgesPending int `json:"purges_pending"`
}

func (in *instance) stats() stats {
	in.t.Helper()
	var s stats
	if status := in.adminCall(http.MethodGet, "/larder/stats", "", &s); status != http.StatusOK {
		in.t.Fatalf("stats: %d", status)
	}
	return s
}

// scrape returns what Prometheus would get.
func (in *instance) scrape() string {
	in.t.Helper()
	resp, err := http.Get("http://" + in.admin + "/metrics")
	if err != nil {
		in.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		in.t.Fatal(err)
	}
	return string(body)
}

// inZone adds the label that every metric of Larder's has to the others, which come before it.
func inZone(labels string) string {
	if labels != "" {
		labels += ","
	}
	return "{" + labels + `zone="default"}`
}

// metric is the value of one series, 0 if there is none. Its zone is not among labels.
func (in *instance) metric(name, labels string) float64 {
	in.t.Helper()
	name += inZone(labels)
	for line := range strings.Lines(in.scrape()) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				in.t.Fatalf("%s: %v", line, err)
			}
			return n
		}
	}
	return 0
}

// series is the value of a series that has to exist. Its zone is not among its labels.
func (in *instance) series(name string) float64 {
	in.t.Helper()
	bare, labels, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
	if !strings.Contains(in.scrape(), "\n"+bare+inZone(labels)+" ") {
		in.t.Errorf("no series %s", name)
	}
	return in.metric(bare, labels)
}

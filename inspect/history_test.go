package inspect

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/adminapi/adminapitest"
	"github.com/larder-cache/larder/stats"
)

func testWindow() stats.Window {
	unknown := math.NaN()
	return stats.Window{Step: stats.Step(time.Minute), From: 1_000_000_020, Series: map[string]stats.Values{
		SeriesRequests + "hit":   {6, unknown, 0},
		SeriesRequests + "stale": {1, unknown, 0},
		SeriesRequests + "miss":  {1, unknown, 0},
		SeriesServed:             {2048, unknown, 0},
		SeriesFetches:            {2, unknown, 0},
		SeriesFetchMS:            {30.5, unknown, 0},
		SeriesMemoryBytes:        {1 << 20, unknown, 1 << 21},
		SeriesDiskBytes:          {0, unknown, 0},
	}}
}

func TestHistoryAnswers(t *testing.T) {
	cache := use(t, &fakeCache{window: testWindow()})
	response, body := adminapitest.Send(t, "GET", "/larder/history?step=1m&zone=default", "")
	const want = `{"step":"1m","from":1000000020,"series":{"bytes_served":[2048,null,0],"disk_bytes":[0,null,0],"fetch_ms":[30.5,null,0],"fetches":[2,null,0],` +
		`"memory_bytes":[1048576,null,2097152],"requests_hit":[6,null,0],"requests_miss":[1,null,0],"requests_stale":[1,null,0]}}` + "\n"
	if response.StatusCode != 200 || body != want {
		t.Errorf("answer %d %s, want %s", response.StatusCode, body, want)
	}
	for _, query := range []string{"", "?step=10s", "?step=15m"} {
		adminapitest.Send(t, "GET", "/larder/history"+query, "")
	}
	if want := []time.Duration{time.Minute, 10 * time.Second, 10 * time.Second, 15 * time.Minute}; !reflect.DeepEqual(cache.steps, want) {
		t.Errorf("the cache was asked for %v, want %v", cache.steps, want)
	}
}

func TestHistoryRefuses(t *testing.T) {
	cache := use(t, &fakeCache{})
	for query, want := range map[string]string{
		"step=60s":         `step: "60s" is none of them; send one of 10s, 1m, 15m`,
		"step=":            "step: the value is empty",
		"step=1m&step=10s": `parameter "step" stands twice`,
		"zone=blog":        `zone: there is no zone "blog"; send one of default, shop`,
		"from=0":           `unknown parameter "from"; send step or zone`,
	} {
		t.Run(query, func(t *testing.T) {
			response, body := adminapitest.Send(t, "GET", "/larder/history?"+query, "")
			adminapitest.ExpectFailure(t, response, body, 400, want)
		})
	}
	if len(cache.steps) > 0 {
		t.Errorf("a refused request was passed on: %v", cache.steps)
	}
	use(t, &fakeCache{err: errors.New("no")})
	response, body := adminapitest.Send(t, "GET", "/larder/history", "")
	adminapitest.ExpectFailure(t, response, body, 503, "the history could not be read: no")
}

func TestHistoryCommand(t *testing.T) {
	use(t, &fakeCache{window: testWindow()})
	stdout, stderr, err := adminapitest.Larder(t, "history", "--step", "1m")
	const want = "FROM                  REQUESTS  HIT RATIO  SERVED   FETCHES  FETCH TIME  MEMORY   DISK\n" +
		"2001-09-09T01:47:00Z  8         87.5%      2.0 KiB  2        15.2ms      1.0 MiB  0 B\n" +
		"2001-09-09T01:48:00Z  -         -          -        -        -           -        -\n" +
		"2001-09-09T01:49:00Z  0         -          0 B      0        -           2.0 MiB  0 B\n"
	if err != nil || stdout != want || stderr != "" {
		t.Errorf("printed %q and %q, %v", stdout, stderr, err)
	}
	stdout, _, err = adminapitest.Larder(t, "history", "--json")
	if err != nil || !strings.HasPrefix(stdout, "{\n  \"step\": \"1m\",\n  \"from\": 1000000020,\n") {
		t.Errorf("printed %q, %v", stdout, err)
	}
	use(t, &fakeCache{window: stats.Window{Step: stats.Step(10 * time.Second)}})
	if stdout, _, err := adminapitest.Larder(t, "history"); err != nil || strings.Count(stdout, "\n") != 1 {
		t.Errorf("of nothing %q, %v", stdout, err)
	}
}

// TestHitRatio: it is that of the dashboard and of the queries for Prometheus.
func TestHitRatio(t *testing.T) {
	text, err := os.ReadFile("../testdata/hitratio.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Requests map[string]float64
		Ratio    *float64
	}
	if err := json.Unmarshal(text, &cases); err != nil || len(cases) < 5 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, c := range cases {
		got := hitRatio(c.Requests)
		if c.Ratio == nil && !math.IsNaN(got) || c.Ratio != nil && got != *c.Ratio {
			t.Errorf("%v: %v, want %v", c.Requests, got, c.Ratio)
		}
	}
}

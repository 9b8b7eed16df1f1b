package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const redisBenchmarkOutput = `"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"SET","19230.77","0.041","0.024","0.039","0.055","0.095","1.007"
"GET","20408.16","0.039","0.016","0.031","0.055","0.103","0.847"
`

func TestParseRedisBenchmark(t *testing.T) {
	p50, p99, err := parseRedisBenchmark([]byte(redisBenchmarkOutput))
	if err != nil || p50 != 31*time.Microsecond || p99 != 103*time.Microsecond {
		t.Errorf("got %v and %v, %v, want 31µs and 103µs", p50, p99, err)
	}
	for name, out := range map[string]string{
		"no GET":       strings.Split(redisBenchmarkOutput, "\"GET\"")[0],
		"no latencies": "\"test\",\"rps\"\n\"GET\",\"1\"\n",
		"no number":    strings.Replace(redisBenchmarkOutput, "0.031", "nan", 1),
		"no table":     "Could not connect to Redis\n\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := parseRedisBenchmark([]byte(out)); err == nil {
				t.Error("no error")
			}
		})
	}
}

// TestBehindHolder: a leader that came late for itself is not who all have waited for.
func TestBehindHolder(t *testing.T) {
	got := behindHolder([]arrival{
		{first: 1, last: 5 * time.Millisecond},
		{first: 7 * time.Millisecond, follower: true, last: 9 * time.Millisecond},
		{first: 6 * time.Millisecond, last: 8 * time.Millisecond},
	})
	if got != 2*time.Millisecond {
		t.Errorf("got %v, want 2ms", got)
	}
}

// TestFollows: who leads is told apart before the body is read.
func TestFollows(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Status", strings.TrimPrefix(r.URL.Path, "/"))
	}))
	defer server.Close()
	s := &subject{address: strings.TrimPrefix(server.URL, "http://")}
	for status, want := range map[string]bool{
		"Larder;fwd=uri-miss;stored":    false,
		"Larder;fwd=uri-miss;collapsed": true,
	} {
		t.Run(status, func(t *testing.T) {
			crowd, err := gather(t.Context(), s, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer crowd.leave()
			if err := crowd[0].ask("/" + status); err != nil {
				t.Fatal(err)
			}
			if got := crowd[0].follows(); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// TestOriginSerial: what is fetched again has a greater number.
func TestOriginSerial(t *testing.T) {
	server := httptest.NewServer(new(origin))
	defer server.Close()
	b := &bench{client: server.Client()}
	var last int64
	for range 2 {
		a, err := b.request(t.Context(), http.MethodGet, server.URL+purgedPath)
		if err != nil {
			t.Fatal(err)
		}
		serial, err := serialOf(a)
		if err != nil || serial <= last || a.header.Get("Surrogate-Key") != "purged" {
			t.Errorf("serial %d after %d with tag %q, %v", serial, last, a.header.Get("Surrogate-Key"), err)
		}
		last = serial
	}
}

// TestSkippedCases: a case that was left out stands in each form of the report.
func TestSkippedCases(t *testing.T) {
	r := new(report)
	r.skip(&benchCase{name: "fleet-hit"}, redisHint)
	for _, text := range []string{r.table(), r.markdown()} {
		if !strings.Contains(text, "fleet-hit: "+redisHint) {
			t.Errorf("nothing of the skipped case in %q", text)
		}
	}
}

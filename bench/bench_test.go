package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

const wrkOutput = `Running 2s test @ http://127.0.0.1:40000
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   829.43us  635.81us  12.05ms   93.16%
    Req/Sec    41.43k     5.16k   50.94k    70.00%
  Latency Distribution
     50%  726.00us
     75%    0.91ms
     90%    1.27ms
     99%    2.80ms
  82504 requests in 2.00s, 107.01MB read
Requests/sec:  41198.05
Transfer/sec:     53.44MB
`

func TestParseWrk(t *testing.T) {
	got, err := parseWrk([]byte(wrkOutput))
	want := turn{requests: 82504, rate: 41198.05, p50: 726 * time.Microsecond, p99: 2800 * time.Microsecond}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestParseWrkRefusesErrors(t *testing.T) {
	for name, line := range map[string]string{
		"status":  "  Non-2xx or 3xx responses: 12\n",
		"sockets": "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseWrk([]byte(strings.Replace(wrkOutput, "Requests/sec", line+"Requests/sec", 1))); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestParseH2load(t *testing.T) {
	const out = "finished in 2.00s, 20211.50 req/s, 21.05MB/s\nrequests: 40423 total\n"
	got, err := parseH2load([]byte(out), strings.NewReader("1\t200\t900\n2\t200\t100\n3\t200\t500\n"))
	want := turn{requests: 3, rate: 20211.5, p50: 500 * time.Microsecond, p99: 900 * time.Microsecond}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := parseH2load([]byte(out), strings.NewReader("1\t503\t900\n")); err == nil {
		t.Error("a 503 is no error")
	}
}

func TestLua(t *testing.T) {
	tests := []struct {
		name string
		load load
		want string
	}{
		{"fixed", load{path: "/1/a"}, `"GET /1/a HTTP/1.1\r\nHost: h:1\r\n\r\n"`},
		{"counting", load{path: "/1/a%d?q", from: 7}, `"GET /1/a" .. n .. "?q HTTP/1.1\r\nHost: h:1\r\n\r\n"`},
		{"random", load{path: "/1/a%d", count: 9}, `"GET /1/a" .. math.random(0, 8) .. " HTTP/1.1\r\nHost: h:1\r\n\r\n"`},
		{"post", load{path: "/1/a", method: "POST"}, `"POST /1/a HTTP/1.1\r\nHost: h:1\r\nContent-Length: 0\r\n\r\n"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.load.lua("h:1"); !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want in it %s", got, tt.want)
			}
		})
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"none", nil, 0},
		{"odd", []float64{3, 1, 2}, 2},
		{"even", []float64{4, 1, 3, 2}, 2.5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := median(tt.values); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestOrigin: what the origin answers is as long as the bench expects, and says of caching what the
// case needs.
func TestOrigin(t *testing.T) {
	server := httptest.NewServer(new(origin))
	defer server.Close()
	b := &bench{client: server.Client()}
	for _, tt := range []struct{ path, cacheControl string }{
		{"/1024/a", "max-age=3600"},
		{"/16384/a?nostore", "no-store"},
		{"/64/a?sse", "no-cache"},
		{"/10/a?tag=t", "max-age=3600"},
		{"/10/a?late=1,7", "max-age=7"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			a, err := b.request(t.Context(), http.MethodGet, server.URL+tt.path)
			if err != nil {
				t.Fatal(err)
			}
			if got := a.header.Get("Cache-Control"); a.size != wantSize(tt.path) || got != tt.cacheControl {
				t.Errorf("%d bytes with %q, want %d with %q", a.size, got, wantSize(tt.path), tt.cacheControl)
			}
		})
	}
	b.originAddress = strings.TrimPrefix(server.URL, "http://")
	if n, err := b.fetches(t.Context()); err != nil || n != 5 {
		t.Errorf("%d fetches, %v, want 5", n, err)
	}
}

func TestLag(t *testing.T) {
	lag, leaders := lagOf([]arrival{{first: 5 * time.Millisecond}, {first: 9 * time.Millisecond, follower: true}, {first: 2, follower: true}})
	if lag != 4*time.Millisecond || leaders != 1 {
		t.Errorf("lag %v, leaders %d", lag, leaders)
	}
}

// TestCaseNames: names select cases and stand in reports, so they differ.
func TestCaseNames(t *testing.T) {
	var names []string
	for _, c := range cases() {
		if c.run == nil || c.about == "" || slices.Contains(names, c.name) {
			t.Errorf("case %q is a duplicate or lacks something", c.name)
		}
		names = append(names, c.name)
	}
}

// TestVisits: they are the same for the same seed, as many as the rate says within seven standard
// deviations, and mostly for the first page.
func TestVisits(t *testing.T) {
	v := visits{pages: 100, rate: 1000, length: 10 * time.Second, unseen: time.Second, seed: visitSeed}
	all := v.sequence()
	if again := v.sequence(); !slices.Equal(all, again) {
		t.Error("another sequence from the same seed")
	}
	if n := len(all); n < 11_000-735 || n > 11_000+735 {
		t.Errorf("%d visits in 11 s", n)
	}
	counts := make([]int, v.pages)
	for i, one := range all {
		if one.at > v.unseen+v.length || i > 0 && one.at < all[i-1].at {
			t.Fatalf("visit %d at %v", i, one.at)
		}
		counts[one.page]++
	}
	if slices.Max(counts) != counts[0] || counts[0] < 5*counts[19] {
		t.Errorf("not by Zipf's law: %v", counts)
	}
}

// TestGauge: what is told is the most at once since it was asked last.
func TestGauge(t *testing.T) {
	var g gauge
	one := g.enter()
	two := g.enter()
	two()
	if most := g.takeMost(); most != 2 {
		t.Errorf("%d, want 2", most)
	}
	if most := g.takeMost(); most != 1 {
		t.Errorf("%d, want the one that is under way", most)
	}
	one()
	if most := g.takeMost(); most != 1 {
		t.Errorf("%d, want the one that was", most)
	}
	if most := g.takeMost(); most != 0 {
		t.Errorf("%d, want none", most)
	}
}

// TestVisitParts: what counts is told in parts of the same length.
func TestVisitParts(t *testing.T) {
	v := visits{unseen: time.Second, length: visitParts * time.Second}
	for at, want := range map[time.Duration]int{
		0: -1, time.Second - 1: -1, time.Second: 0, 2*time.Second - 1: 0, 2 * time.Second: 1, 6*time.Second - 1: visitParts - 1, 6 * time.Second: visitParts - 1,
	} {
		if got := v.part(visit{at: at}); got != want {
			t.Errorf("%v: part %d, want %d", at, got, want)
		}
	}
}

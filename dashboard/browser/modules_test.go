package browser

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestModules holds what the page's modules make of numbers: how they are written, and what the
// history says.
func TestModules(t *testing.T) {
	b := open(t, startDashboard(t, newFixture(t).address))
	const history = `fromHistory({ step: '10s', from: 100, series: {
		requests_hit: [10, null, 5], requests_miss: [30, null, 5], fetches: [2, 0, 1], fetch_ms: [50, 0, 9], bytes_served: [100, 0, 50], bytes_saved: [40, 0, 50] } })`
	for _, test := range []struct{ module, expression, want string }{
		{"format", "[0, 1023, 1024, 1536, 268435456, NaN].map(bytes)", `["0 B","1023 B","1 KiB","1.5 KiB","256 MiB","–"]`},
		{"format", "[0, 0.0004, 0.5, 0.99951, 1, NaN].map(percent)", `["0 %","<0.1 %","50.0 %",">99.9 %","100 %","–"]`},
		{"format", "[0, 0.04, 0.25, 12.34, 250, 12345].map(perSecond)", `["0/s","<0.1/s","0.25/s","12.3/s","250/s","12.3K/s"]`},
		{"format", "[0.004, 0.21, 65.31, 1500, 61000].map(milliseconds)", `["<0.01 ms","0.21 ms","65.3 ms","1.5 s","1 min 1 s"]`},
		{"format", "[0, 9.96, 59.7, 60, 3599, 3600, 90061, -5].map(seconds)", `["0 s","10 s","1 min","1 min","59 min 59 s","1 h","1 d 1 h","−5 s"]`},
		{"format", "[plural(1, 'entry', 'entries'), plural(1200, 'response'), word('not_stored'), word('no-lifetime')]", `["1 entry","1,200 responses","not stored","no lifetime"]`},
		{"history", history + ".times", `[100,110]`},
		{"history", history + ".series.hit", `[1,null]`},
		{"history", history + ".series.fetch", `[25,null]`},
		{"history", history + ".series.origin", `[6,0]`},
		{"history", history + ".requests.hit", `15`},
		{"history", history + ".fetchTime * 3", `59`},
		{"history", "String(hitRatio({}))", `"NaN"`},
		{"history", "toOrigin({ hit: 6, miss: 1, revalidated: 2, collapsed: 3, bypass: 4 })", `7`},
	} {
		got := evaluate[any](b, fmt.Sprintf("import('/static/%s.js').then(module => { with (module) return %s })", test.module, test.expression))
		if text := plain(t, got); text != test.want {
			t.Errorf("%s: %s, want %s", test.expression, text, test.want)
		}
	}
	b.quiet()
}

// TestHitRatio: the page's is that of `caddy larder history` and of the queries for Prometheus.
func TestHitRatio(t *testing.T) {
	text, err := os.ReadFile("../../testdata/hitratio.json")
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, startDashboard(t, newFixture(t).address))
	got := evaluate[any](b, fmt.Sprintf("import('/static/history.js').then(({ hitRatio }) => %s.map(one => hitRatio(one.requests)).map(n => Number.isNaN(n) ? null : n))", text))
	want := evaluate[any](b, fmt.Sprintf("Promise.resolve(%s.map(one => one.ratio))", text))
	if plain(t, got) != plain(t, want) {
		t.Errorf("%s, want %s", plain(t, got), plain(t, want))
	}
	b.quiet()
}

// plain returns a value as JSON, with < and > as they are.
func plain(t *testing.T, value any) string {
	t.Helper()
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

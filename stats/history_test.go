package stats

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

func newTestHistory() *History {
	return NewHistory(Series{Name: "sum"}, Series{Name: "gauge", Gauge: true})
}

// read returns what a history has as JSON, in which a step without a value is null.
func read(t *testing.T, h *History, now time.Time, step time.Duration) string {
	t.Helper()
	w, ok := h.Read(now, step)
	if !ok {
		t.Fatalf("no step %v", step)
	}
	text, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestHistory(t *testing.T) {
	h := newTestHistory()
	if got, want := read(t, h, begin, Finest), `{"step":"10s","from":1000000010,"series":{"gauge":[],"sum":[]}}`; got != want {
		t.Errorf("of nothing %s, want %s", got, want)
	}
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	for _, v := range []struct {
		second     int
		sum, gauge float64
	}{
		{0, 100, 5}, // from here on it counts
		{10, 103, 6},
		{20, 103, 7},
		{50, 110, 8},  // late: the middle is second 35
		{60, 4, 1.5},  // the sum began anew
		{63, 10, 2.5}, // a look between two records
	} {
		h.Record(at(v.second), []float64{v.sum, v.gauge})
	}
	for step, want := range map[time.Duration]string{
		10 * time.Second: `{"step":"10s","from":1000000000,"series":{"gauge":[6,7,null,8,null,1.5,2.5],"sum":[3,0,null,7,null,4,6]}}`,
		time.Minute:      `{"step":"1m","from":999999960,"series":{"gauge":[7,2.5],"sum":[3,17]}}`,
		15 * time.Minute: `{"step":"15m","from":999999900,"series":{"gauge":[2.5],"sum":[20]}}`,
	} {
		if got := read(t, h, at(63), step); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if _, ok := h.Read(begin, time.Second); ok {
		t.Error("it has a step of 1s")
	}
}

// TestHistoryForgets: each step reaches as far back as it says, and no further.
func TestHistoryForgets(t *testing.T) {
	h, now := newTestHistory(), begin
	h.Record(now, []float64{0, 0})
	for i := range 15 * 24 * 360 { // 15 days
		now = now.Add(Finest)
		h.Record(now, []float64{float64(i + 1), 0})
	}
	now = now.Add(-time.Second) // still in the last step
	for step, kept := range map[time.Duration]int{10 * time.Second: 360, time.Minute: 1440, 15 * time.Minute: 1344} {
		w, _ := h.Read(now, step)
		values := w.Series["sum"]
		if len(values) != kept || w.From != now.Truncate(step).Unix()-int64(kept-1)*int64(step/time.Second) {
			t.Errorf("%v: %d values from %d", step, len(values), w.From)
		}
		for i, v := range values[:kept-1] {
			if v != float64(step/Finest) {
				t.Errorf("%v: value %d is %v", step, i, v)
				break
			}
		}
	}
	w, _ := h.Read(now.Add(30*24*time.Hour), Finest) // and nothing since
	if got := w.Series["sum"]; len(got) != 0 {
		t.Errorf("a month later %v", got)
	}
}

// TestHistoryOfRandom compares with all that was recorded, kept whole.
func TestHistoryOfRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r, h, now := rand.New(rand.NewPCG(seed, 0)), newTestHistory(), begin
	type rise struct {
		at         time.Time
		sum, gauge float64
	}
	var rises []rise
	sum := 0.0
	h.Record(now, []float64{0, 0})
	for range 5000 {
		passed := time.Duration(r.Int64N(int64(20 * time.Second)))
		if r.IntN(500) == 0 {
			passed *= 100
		}
		add, gauge := float64(r.IntN(10)), float64(r.IntN(10))
		sum += add
		rises = append(rises, rise{now.Add(passed / 2), add, gauge})
		now = now.Add(passed)
		h.Record(now, []float64{sum, gauge})
	}
	for _, step := range Steps() {
		w, _ := h.Read(now, step)
		sums, gauges := make(Values, len(w.Series["sum"])), make(Values, len(w.Series["sum"]))
		for i := range sums {
			sums[i], gauges[i] = math.NaN(), math.NaN()
		}
		for _, rise := range rises {
			i := (rise.at.Unix() - w.From) / int64(step/time.Second)
			if rise.at.Unix() < w.From || i >= int64(len(sums)) {
				continue
			}
			if math.IsNaN(sums[i]) {
				sums[i] = 0
			}
			sums[i], gauges[i] = sums[i]+rise.sum, rise.gauge
		}
		for name, want := range map[string]Values{"sum": sums, "gauge": gauges} {
			got, _ := json.Marshal(w.Series[name])
			wanted, _ := json.Marshal(want)
			if !reflect.DeepEqual(got, wanted) {
				t.Errorf("%v: %s is\n%s\nwant\n%s", step, name, got, wanted)
			}
		}
	}
}

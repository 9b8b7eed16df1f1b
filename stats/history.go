package stats

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"sync"
	"time"
)

// Series is one thing that is recorded.
type Series struct {
	// Name is the series' in the answer.
	Name string
	// Gauge says that its values are of a moment. Otherwise they are sums since some beginning, and
	// what is kept is by how much they rose.
	Gauge bool
}

// Steps of a history, and how many of each are kept: an hour, a day, a fortnight.
var resolutions = [...]struct {
	step time.Duration
	kept int
}{
	{10 * time.Second, 360},
	{time.Minute, 24 * 60},
	{15 * time.Minute, 14 * 24 * 4},
}

// Finest is the shortest step, in which values are to be recorded.
const Finest = 10 * time.Second

// Steps returns the steps that a History has, the shortest first.
func Steps() []time.Duration {
	steps := make([]time.Duration, 0, len(resolutions))
	for _, r := range resolutions {
		steps = append(steps, r.step)
	}
	return steps
}

// History keeps series over time, in rings of a fixed size.
type History struct {
	series []Series

	mu    sync.Mutex
	rings [len(resolutions)]ring
	last  []float64 // recorded values, nil before the first
	at    time.Time // when
}

// ring has the values of the last steps. That of step n, counted from the epoch, is at n modulo the
// length.
type ring struct {
	step    time.Duration
	numbers []int64 // of the steps whose values are there, 0 for none
	values  [][]float64
}

// NewHistory returns a history of some series.
func NewHistory(series ...Series) *History {
	h := &History{series: series}
	for i, r := range resolutions {
		h.rings[i] = ring{step: r.step, numbers: make([]int64, r.kept), values: make([][]float64, len(series))}
		for s := range series {
			h.rings[i].values[s] = make([]float64, r.kept)
		}
	}
	return h
}

// Record takes the values of all series, in their order. Sums count from the first call on. What
// they have risen by since the call before counts for the step in the middle between the two. A sum
// that has fallen began anew at 0. values is not kept.
func (h *History) Record(now time.Time, values []float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.at, h.last = now, append(h.last[:0], values...) }()
	if h.last == nil {
		return
	}
	middle := h.at.Add(now.Sub(h.at) / 2)
	for i := range h.rings {
		r := &h.rings[i]
		place := r.begin(middle)
		for s, value := range values {
			switch {
			case h.series[s].Gauge:
				r.values[s][place] = value
			case value >= h.last[s]:
				r.values[s][place] += value - h.last[s]
			default:
				r.values[s][place] += value
			}
		}
	}
}

// begin returns the place of the step at a time, and empties it if it has those of another.
func (r *ring) begin(at time.Time) int {
	number := r.number(at)
	place := int(number % int64(len(r.numbers)))
	if r.numbers[place] != number {
		r.numbers[place] = number
		for s := range r.values {
			r.values[s][place] = 0
		}
	}
	return place
}

func (r *ring) number(at time.Time) int64 { return max(1, at.Unix()/int64(r.step/time.Second)) }

// Window is what a history has in one step, up to now.
type Window struct {
	// Step is the length of each.
	Step Step `json:"step"`
	// From is when the first step began, as seconds since 1970.
	From int64 `json:"from"`
	// Series are values by name, one for each step. All have the same length. The last step may
	// still go on.
	Series map[string]Values `json:"series"`
}

// Step is a duration that is written as in 10s, 1m, 15m.
type Step time.Duration

// String returns it as it is written.
func (s Step) String() string {
	if d := time.Duration(s); d < time.Minute {
		return strconv.Itoa(int(d/time.Second)) + "s"
	}
	return strconv.Itoa(int(time.Duration(s)/time.Minute)) + "m"
}

// MarshalJSON writes String.
func (s Step) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// Values are those of a series. NaN, which is null in JSON, stands for a step in which nothing was
// recorded.
type Values []float64

// MarshalJSON writes an array of numbers and nulls.
func (v Values) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, value := range v {
		if i > 0 {
			b.WriteByte(',')
		}
		if math.IsNaN(value) || math.IsInf(value, 0) {
			b.WriteString("null")
			continue
		}
		number, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		b.Write(number)
	}
	b.WriteByte(']')
	return b.Bytes(), nil
}

// Read returns what is kept in a step, from the first value of it on; ok is false if there is no
// such step.
func (h *History) Read(now time.Time, step time.Duration) (w Window, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.rings {
		if r := &h.rings[i]; r.step == step {
			return h.read(r, now), true
		}
	}
	return Window{}, false
}

func (h *History) read(r *ring, now time.Time) Window {
	kept := int64(len(r.numbers))
	end := r.number(now) + 1
	first := max(1, end-kept)
	for first < end && r.numbers[first%kept] != first {
		first++
	}
	w := Window{
		Step: Step(r.step), From: first * int64(r.step/time.Second),
		Series: make(map[string]Values, len(h.series)),
	}
	for s, series := range h.series {
		values := make(Values, 0, end-first)
		for number := first; number < end; number++ {
			value := math.NaN()
			if place := number % kept; r.numbers[place] == number {
				value = r.values[s][place]
			}
			values = append(values, value)
		}
		w.Series[series.Name] = values
	}
	return w
}

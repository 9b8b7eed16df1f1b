package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is all that one run has measured.
type report struct {
	Date    time.Time `json:"date"`
	Command string    `json:"command"`
	Machine machine   `json:"machine"`
	Load    struct {
		Before string `json:"before"`
		After  string `json:"after"`
	} `json:"load_average"`
	Rounds   int      `json:"rounds"`
	Duration float64  `json:"seconds"`
	Rows     []row    `json:"rows"`
	Facts    []fact   `json:"facts"`
	Hits     []hitRow `json:"hits,omitempty"`
	Skipped  []string `json:"skipped,omitempty"` // cases, with what they lack
}

type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Go     string `json:"go"`
	OS     string `json:"os"`
	Pinned bool   `json:"pinned"`
}

// row is one subject in one throughput case: medians over the rounds.
type row struct {
	Case    string  `json:"case"`
	About   string  `json:"about"`
	Subject string  `json:"subject"`
	Rate    float64 `json:"requests_per_second"`
	CPU     float64 `json:"cpu_us_per_request"` // of the server's processes, 0 where not known
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	// Ratio is the median over the rounds of the rate by the rate of Reference in the same round.
	Ratio float64 `json:"ratio,omitempty"`
	// The reference's CPU by this one's: what Ratio would be were the server all there is.
	CPURatio  float64 `json:"cpu_ratio,omitempty"`
	Reference string  `json:"reference,omitempty"`
	Target    float64 `json:"target,omitempty"`
}

// fact is a number that stands for itself.
type fact struct {
	Case  string  `json:"case"`
	About string  `json:"about"`
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Limit is the most it may be, or with Floor the least; without either it is told, not judged.
	Limit *float64 `json:"limit,omitempty"`
	Floor *float64 `json:"floor,omitempty"`
}

func newReport(b *bench) *report {
	r := &report{
		Date: time.Now().UTC().Truncate(time.Second), Rounds: b.rounds, Duration: b.duration.Seconds(),
		Command: "go run ./bench " + strings.Join(os.Args[1:], " "),
		Machine: machine{CPU: cpuModel(), Cores: runtime.NumCPU(), Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH, Pinned: b.pin},
	}
	r.Load.Before = loadAverage()
	return r
}

func cpuModel() string {
	out, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(out)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func loadAverage() string {
	out, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(out))[:3], " ")
}

// atMost and atLeast judge; note only tells.
func (r *report) atMost(c *benchCase, what string, value float64, unit string, limit float64) {
	r.Facts = append(r.Facts, fact{Case: c.name, About: c.about, What: what, Value: value, Unit: unit, Limit: &limit})
}

func (r *report) atLeast(c *benchCase, what string, value float64, unit string, floor float64) {
	r.Facts = append(r.Facts, fact{Case: c.name, About: c.about, What: what, Value: value, Unit: unit, Floor: &floor})
}

func (r *report) note(c *benchCase, what string, value float64, unit string) {
	r.Facts = append(r.Facts, fact{Case: c.name, About: c.about, What: what, Value: value, Unit: unit})
}

// skip notes that a case was left out, and says so at once.
func (r *report) skip(c *benchCase, why string) {
	r.Skipped = append(r.Skipped, c.name+": "+why)
	fmt.Fprintf(os.Stderr, "%s is SKIPPED: %s\n", c.name, why)
}

// verdict is how a value stands to its target.
func (f *fact) verdict() string {
	switch {
	case f.Limit != nil && f.Value <= *f.Limit:
		return fmt.Sprintf("at most %g: reached", *f.Limit)
	case f.Limit != nil:
		return fmt.Sprintf("at most %g: MISSED", *f.Limit)
	case f.Floor != nil && f.Value >= *f.Floor:
		return fmt.Sprintf("at least %g: reached", *f.Floor)
	case f.Floor != nil:
		return fmt.Sprintf("at least %g: MISSED", *f.Floor)
	}
	return ""
}

// missed tells whether a value is judged and beyond its limit.
func (f *fact) missed() bool {
	return f.Limit != nil && f.Value > *f.Limit || f.Floor != nil && f.Value < *f.Floor
}

// table is the report for people.
func (r *report) table() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s, %d cores, %s %s; %s; load average %s before, %s after\n\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.Go, r.Machine.OS, r.Date.Format(time.DateTime), r.Load.Before, r.Load.After)
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	if len(r.Rows) > 0 {
		fmt.Fprintln(w, "case\tsubject\treq/s\tCPU µs/req\tp50 ms\tp99 ms\tratio\tby CPU\tof\ttarget\t")
	}
	for _, row := range r.Rows {
		fmt.Fprintf(w, "%s\t%s\t%.0f\t%.1f\t%.2f\t%.2f\t", row.Case, row.Subject, row.Rate, row.CPU, row.P50, row.P99)
		if row.Ratio == 0 {
			fmt.Fprintln(w, "\t\t\t\t")
			continue
		}
		fmt.Fprintf(w, "%.2f\t%.2f\t%s\t%s\t\n", row.Ratio, row.CPURatio, row.Reference, row.verdict())
	}
	_ = w.Flush()
	out.WriteByte('\n')
	for _, f := range r.Facts {
		fmt.Fprintf(w, "%s\t%s\t%s %s\t%s\t\n", f.Case, f.What, trimmed(f.Value), f.Unit, f.verdict())
	}
	_ = w.Flush()
	if len(r.Hits) > 0 {
		out.WriteString("\n" + r.hitTable())
	}
	for _, c := range r.Skipped {
		fmt.Fprintf(&out, "SKIPPED %s\n", c)
	}
	return out.String()
}

func (row *row) verdict() string {
	switch {
	case row.Target == 0:
		return ""
	case row.Ratio >= row.Target:
		return fmt.Sprintf("%.2f reached", row.Target)
	}
	return fmt.Sprintf("%.2f MISSED", row.Target)
}

func trimmed(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", v), "0"), ".")
}

// write writes the files asked for.
func (r *report) write(ctx context.Context, jsonFile, svgFile, markdownFile string) error {
	if markdownFile != "" {
		if err := r.writeMarkdown(markdownFile); err != nil {
			return err
		}
	}
	if jsonFile == "" && svgFile == "" {
		return nil
	}
	if jsonFile == "" {
		f, err := os.CreateTemp("", "larder-bench-*.json")
		if err != nil {
			return err
		}
		_ = f.Close()
		defer os.Remove(f.Name())
		jsonFile = f.Name()
	}
	out, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(jsonFile, append(out, '\n'), 0o644); err != nil { //nolint:gosec // a report is for everyone
		return err
	}
	if svgFile == "" || len(r.Rows) == 0 {
		return nil
	}
	return draw(ctx, jsonFile, svgFile)
}

// draw runs the chart program, which is a module of its own so that a plotting library is no
// dependency of the plugin.
func draw(ctx context.Context, jsonFile, svgFile string) error {
	module, err := moduleFolder(ctx)
	if err != nil {
		return err
	}
	var files [2]string
	for i, name := range []string{jsonFile, svgFile} {
		if files[i], err = filepath.Abs(name); err != nil {
			return err
		}
	}
	chart := exec.CommandContext(ctx, "go", "run", ".", files[0], files[1])
	chart.Dir = filepath.Join(module, "bench", "chart")
	chart.Stderr = os.Stderr
	if err := chart.Run(); err != nil {
		return fmt.Errorf("drawing the chart: %w", err)
	}
	return nil
}

// moduleFolder is where the bench's module lies, with those that are nested in it.
func moduleFolder(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/larder-cache/larder").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// median of values, 0 without any. values are sorted.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[len(values)/2]
}

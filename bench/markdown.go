package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// markdownPlace returns the lines of a document between which a report stands. A document may have
// places for several reports: those with a name have it in their lines.
func markdownPlace(name string) (begin, end string) {
	mark := strings.TrimSpace("bench " + name)
	return "<!-- " + mark + ": begin -->\n", "<!-- " + mark + ": end -->\n"
}

// defaultMarkdown is the document that shows the last whole run.
const defaultMarkdown = "docs/performance.md"

// markdownFile is the flag -markdown: alone it names defaultMarkdown, with -markdown=FILE another
// document, and with -markdown=FILE#NAME the place in it that has the name.
type markdownFile string

func (f *markdownFile) String() string   { return string(*f) }
func (f *markdownFile) IsBoolFlag() bool { return true }

func (f *markdownFile) Set(value string) error {
	switch value {
	case "", "false":
		*f = ""
	case "true":
		*f = defaultMarkdown
	default:
		*f = markdownFile(value)
	}
	return nil
}

// writeMarkdown puts the report into the place that a document has for it, or makes a file of it
// where there is none.
func (r *report) writeMarkdown(to string) error {
	name, place, _ := strings.Cut(to, "#")
	begin, end := markdownPlace(place)
	text := r.markdown()
	old, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(old) > 0 {
		before, rest, found := strings.Cut(string(old), begin)
		_, after, ended := strings.Cut(rest, end)
		if !found || !ended {
			return fmt.Errorf("%s: no place for a report; it needs the lines %q and %q", name, strings.TrimSpace(begin), strings.TrimSpace(end))
		}
		text = before + begin + text + end + after
	}
	return os.WriteFile(name, []byte(text), 0o644) //nolint:gosec // a report is for everyone
}

// markdown is the report as docs/performance.md has it.
func (r *report) markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, "`%s` on %s with %d cores (%s, %s), %s UTC; load average %s before, %s after.\n",
		r.Command, r.Machine.CPU, r.Machine.Cores, r.Machine.Go, r.Machine.OS, r.Date.Format(time.DateTime), r.Load.Before, r.Load.After)
	r.markdownRows(&out)
	r.markdownFacts(&out)
	if len(r.Hits) > 0 {
		out.WriteString("\n" + r.hitTable())
	}
	for _, c := range r.Skipped {
		fmt.Fprintf(&out, "\nLeft out: %s.\n", c)
	}
	return out.String()
}

// markdownRows is a line for each case: Larder by its reference, and others that took part beside
// them.
func (r *report) markdownRows(out *strings.Builder) {
	if len(r.Rows) == 0 {
		return
	}
	out.WriteString("\n| | req/s | of | ratio | by CPU | p50 / p99, ms | to reach | beside, req/s |\n|---|---:|---|---:|---:|---:|---:|---|\n")
	for _, row := range r.Rows {
		if row.Target == 0 {
			continue
		}
		var reference string
		var beside []string
		for _, other := range r.Rows {
			switch {
			case other.Case != row.Case || other.Subject == row.Subject:
			case other.Subject == row.Reference:
				reference = fmt.Sprintf("%s %.0f", other.Subject, other.Rate)
			default:
				beside = append(beside, fmt.Sprintf("%s %.0f", other.Subject, other.Rate))
			}
		}
		fmt.Fprintf(out, "| %s | %.0f | %s | %s | %.2f | %.2f / %.2f | %.2f | %s |\n", row.About, row.Rate, reference,
			emphasised(fmt.Sprintf("%.2f", row.Ratio), row.Ratio < row.Target), row.CPURatio, row.P50, row.P99, row.Target, strings.Join(beside, ", "))
	}
}

// markdownFacts is a line for each number that stands for itself.
func (r *report) markdownFacts(out *strings.Builder) {
	if len(r.Facts) == 0 {
		return
	}
	out.WriteString("\n| | | measured | to reach |\n|---|---|---:|---:|\n")
	last := ""
	for _, f := range r.Facts {
		about := f.About
		if about == last {
			about = ""
		}
		last = f.About
		fmt.Fprintf(out, "| %s | %s | %s | %s |\n", about, f.What, emphasised(withUnit(f.Value, f.Unit), f.missed()), f.bound())
	}
}

// bound is the limit in words.
func (f *fact) bound() string {
	switch {
	case f.Limit != nil:
		return "at most " + withUnit(*f.Limit, f.Unit)
	case f.Floor != nil:
		return "at least " + withUnit(*f.Floor, f.Unit)
	}
	return ""
}

func withUnit(v float64, unit string) string { return strings.TrimSpace(trimmed(v) + " " + unit) }

// emphasised is bold where the target is missed.
func emphasised(text string, missed bool) string {
	if missed {
		return "**" + text + "**"
	}
	return text
}

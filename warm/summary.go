package warm

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
)

// Summary is what came of a run.
type Summary struct {
	URLs        int            `json:"urls"`        // how many URLs are to be warmed
	Requests    int            `json:"requests"`    // how many are to be made, one for each URL with each variant
	Done        int            `json:"done"`        // how many of them were made, by this run or one of before
	Hits        int            `json:"hits"`        // requests for what was stored before
	Stored      int            `json:"stored"`      // requests whose answers are stored now
	Collapsed   int            `json:"collapsed"`   // requests for what was being fetched for a visitor
	NotStored   map[string]int `json:"not_stored"`  // requests by the reason why not
	Failed      int            `json:"failed"`      // requests, sitemaps and lines that are no URL
	Failures    []Failure      `json:"failures"`    // at most 1000 of them
	Redirects   int            `json:"redirects"`   // redirects that were followed
	Pauses      int            `json:"pauses"`      // pauses that the site has asked for
	Skipped     Skipped        `json:"skipped"`     // what was found and not asked for
	Bytes       int64          `json:"bytes"`       // how many bytes the bodies of the answers have
	Seconds     float64        `json:"seconds"`     // seconds since the first source was read
	Interrupted bool           `json:"interrupted"` // it was ended early

	resumable string // the resume file, where there is one
}

// Failure is what could not be warmed.
type Failure struct {
	URL    string `json:"url"`              // absolute
	Fields string `json:"fields,omitempty"` // in which the variant differs from others
	Reason string `json:"reason"`           // a sentence, or the status of the answer
}

// maxFailures is how many failures are listed; the others are counted.
const maxFailures = 1000

// maxReasons is how many reasons of what is not stored are told apart, and reasonOther stands for
// the others: they are the site's words.
const (
	maxReasons  = 100
	reasonOther = "other reasons"
)

type failures struct {
	list  []Failure
	count int
}

func (f *failures) add(one Failure) {
	if f.count++; len(f.list) < maxFailures {
		f.list = append(f.list, one)
	}
}

// tally counts while the workers work.
type tally struct {
	began time.Time

	mu     sync.Mutex
	sum    Summary
	failed failures
}

func newTally(began time.Time) *tally {
	return &tally{began: began, sum: Summary{NotStored: make(map[string]int)}}
}

// planned takes over what gathering the URLs has come to.
func (t *tally) planned(p *plan, variants int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.URLs, t.sum.Requests, t.sum.Skipped, t.failed = len(p.urls), len(p.urls)*variants, p.skipped, p.failed
}

func (t *tally) add(url string, v *variant, r result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Done++
	switch r.outcome {
	case hit:
		t.sum.Hits++
	case stored:
		t.sum.Stored++
	case collapsed:
		t.sum.Collapsed++
	case notStored:
		t.sum.countReason(r.reason)
	case failed:
		t.failed.add(Failure{url, v.label, r.reason})
	}
}

func (s *Summary) countReason(reason string) {
	if _, known := s.NotStored[reason]; !known && len(s.NotStored) >= maxReasons {
		reason = reasonOther
	}
	s.NotStored[reason]++
}

func (t *tally) resumed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Done++
	t.sum.Skipped.Resumed++
}

func (t *tally) received(bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Bytes += bytes
}

func (t *tally) redirected() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Redirects++
}

func (t *tally) paused() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Pauses++
}

// summary is what there is so far.
func (t *tally) summary(now time.Time) *Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sum
	s.NotStored = maps.Clone(s.NotStored)
	s.Failed, s.Failures = t.failed.count, append([]Failure{}, t.failed.list...)
	s.Seconds = now.Sub(t.began).Seconds()
	return &s
}

// Line is the summary in a line.
func (s *Summary) Line() string {
	parts := []string{
		fmt.Sprintf("%s stored", number(s.Stored)), fmt.Sprintf("%s stored before", number(s.Hits)),
	}
	notStored := 0
	for _, n := range s.NotStored {
		notStored += n
	}
	for _, part := range []struct {
		n     int
		words string
	}{{s.Collapsed, "fetched for a visitor"}, {notStored, "not stored"}, {s.Failed, "failed"}, {s.Skipped.Resumed, "done before"}} {
		if part.n > 0 {
			parts = append(parts, number(part.n)+" "+part.words)
		}
	}
	return fmt.Sprintf("%s of %s: %s; %s in %s", number(s.Done), plural(s.Requests, "request"), strings.Join(parts, ", "),
		humanize.IBytes(uint64(s.Bytes)), time.Duration(s.Seconds*float64(time.Second)).Round(time.Second))
}

// Print prints the summary for people. Its error is that of out.
func (s *Summary) Print(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintln(&b, s.Line())
	if len(s.NotStored) > 0 {
		reasons := slices.SortedFunc(maps.Keys(s.NotStored), func(a, b string) int {
			return cmp.Or(cmp.Compare(s.NotStored[b], s.NotStored[a]), strings.Compare(a, b))
		})
		for i, reason := range reasons {
			reasons[i] = number(s.NotStored[reason]) + " " + reason
		}
		fmt.Fprintf(&b, "not stored: %s\n", strings.Join(reasons, ", "))
	}
	if skipped := s.Skipped.words(); skipped != "" {
		fmt.Fprintf(&b, "left out: %s\n", skipped)
	}
	if s.Failed > 0 {
		fmt.Fprintln(&b, "failed:")
		for _, f := range s.Failures {
			fmt.Fprintf(&b, "  %s%s: %s\n", f.URL, inParentheses(f.Fields), f.Reason)
		}
		if more := s.Failed - len(s.Failures); more > 0 {
			fmt.Fprintf(&b, "  and %s more\n", number(more))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (s *Skipped) words() string {
	var parts []string
	for _, part := range []struct {
		n     int
		words string
	}{{s.Duplicates, "found twice"}, {s.OtherHosts, "of other hosts"}, {s.OverLimit, "over --limit"}, {s.Lines, "that are no line of an access log"}, {s.Forgotten, "of a purge that are not remembered"}} {
		if part.n > 0 {
			parts = append(parts, number(part.n)+" "+part.words)
		}
	}
	return strings.Join(parts, ", ")
}

// Err says in one line that something failed, or that the run was interrupted and how to go on; nil
// otherwise.
func (s *Summary) Err() error {
	switch {
	case s.Interrupted && s.resumable != "":
		return fmt.Errorf("interrupted after %s of %s; the same command goes on there, as %s has what is done",
			number(s.Done), plural(s.Requests, "request"), s.resumable)
	case s.Interrupted:
		return fmt.Errorf("interrupted after %s of %s; with --resume FILE it could go on there", number(s.Done), plural(s.Requests, "request"))
	case s.Failed > 0:
		return fmt.Errorf("%s failed", number(s.Failed))
	}
	return nil
}

func number(n int) string { return humanize.Comma(int64(n)) }

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return number(n) + " " + noun
}

func inParentheses(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

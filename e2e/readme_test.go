package e2e

import (
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestREADMEShowsWhatRuns types the commands of README's transcripts, as far as they ask a server
// that is running, and holds what README prints to what they print. Numbers differ.
func TestREADMEShowsWhatRuns(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process is stopped by signals here")
	}
	needs(t, "curl")
	c := newProcess(t)
	c.start()
	defer c.kill()
	var ran int
	_, blocks := readPages(t, "README.md")[0].parts()
	for _, b := range blocks {
		if b.language != "console" {
			continue
		}
		for _, step := range strings.Split(b.text, "$ ")[1:] {
			command, printed, _ := strings.Cut(step, "\n")
			if strings.HasPrefix(command, "go build") || strings.Contains(command, "kill -9") {
				continue // which TestAsAUserRunsIt does
			}
			ran++
			command = strings.NewReplacer("localhost:8080", c.site).Replace(command)
			if got, want := steadied(c.program(t, "step", command, []string{"sh"})), steadied(printed); got != want {
				t.Errorf("%s prints\n%s\nREADME has\n%s", command, got, want)
			}
		}
	}
	if ran < 4 {
		t.Errorf("%d commands", ran)
	}
}

var (
	number  = regexp.MustCompile(`\d+`)
	comment = regexp.MustCompile(`(?m) {2,}#.*$`)
)

// steadied is what a command prints, without comments, and without what differs from run to run.
func steadied(text string) string {
	text = comment.ReplaceAllString(strings.ReplaceAll(text, "\r", ""), "")
	return strings.TrimSpace(number.ReplaceAllString(text, "N"))
}

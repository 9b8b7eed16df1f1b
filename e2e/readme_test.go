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
	t.Parallel()
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
			command = strings.NewReplacer("localhost:18080", c.site).Replace(command)
			if got, want := steadied(c.program(t, "step", command, []string{"sh"})), steadied(printed); got != want {
				t.Errorf("%s prints\n%s\nREADME has\n%s", command, got, want)
			}
		}
	}
	if ran < 4 {
		t.Errorf("%d commands", ran)
	}
}

// TestQuickstartTouchesNoOtherCaddy: Caddy shares ports with a Caddy that runs already, so the
// quickstart has none of Caddy's own, and each command of README's that asks it names its admin
// API.
func TestQuickstartTouchesNoOtherCaddy(t *testing.T) {
	text := example(t, "quickstart")
	for _, port := range []string{":80 ", ":443", ":2019", ":8080", ":8443", ":9000"} {
		if strings.Contains(text, port) {
			t.Errorf("the quickstart has the port %s", port)
		}
	}
	admin := regexp.MustCompile(`(?m)^\tadmin (\S+)$`).FindStringSubmatch(text)
	if admin == nil {
		t.Fatal("the quickstart has the default admin API")
	}
	asks := regexp.MustCompile("caddy (larder (explain|purge)|stop)[^\n`]*")
	readme, _, _ := strings.Cut(readPages(t, "README.md")[0].text, "\n## Purge, explain, watch")
	found := asks.FindAllString(readme, -1)
	for _, command := range found {
		if !strings.Contains(command, "--address "+admin[1]) {
			t.Errorf("%s asks another Caddy than the one at %s", command, admin[1])
		}
	}
	if len(found) < 3 {
		t.Errorf("only %d commands", len(found))
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

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

// transcript is a block of docs/troubleshooting.md that a run has printed. The comment in front of
// it names the row of testdata/explain that it was asked of.
type transcript struct {
	row   string
	lines []string
}

func transcripts(t *testing.T) (found []transcript) {
	t.Helper()
	page := readPages(t, "docs/troubleshooting.md")[0].text
	// Backquotes stand in what is printed.
	for _, part := range strings.Split(page, "<!-- explain: ")[1:] {
		row, rest, _ := strings.Cut(part, " -->\n```console\n")
		block, _, ok := strings.Cut(rest, "\n```")
		if !ok {
			t.Fatalf("no block behind %s", row)
		}
		found = append(found, transcript{row, strings.Split(block, "\n")})
	}
	if len(found) < 8 {
		t.Fatalf("%d transcripts", len(found))
	}
	return found
}

// TestTranscriptsOfTroubleshooting: what docs/troubleshooting.md shows is what the command prints.
// What differs from run to run (ports, hashes, times) is written as the page has it.
func TestTranscriptsOfTroubleshooting(t *testing.T) {
	for _, want := range transcripts(t) {
		t.Run(want.row, func(t *testing.T) {
			row := readExplainRow(t, filepath.Join(treeRoot, "testdata", "explain", want.row+".txt"))
			o := newOrigin(t, row.answer)
			in := start(t, setup{site: "respond unused"}, o)
			in.load(row.setup(in, "site"), o)
			row.do(t, in, o)
			adminapitest.Address = in.admin
			args := row.arguments(in)
			out, stderr, err := adminapitest.Larder(t, args...)
			if err != nil {
				t.Fatalf("%v %s", err, stderr)
			}
			got := append([]string{commandLine(args)}, strings.Split(strings.TrimSuffix(out, "\n"), "\n")...)
			if strings.HasSuffix(want.lines[0], " | head -1") {
				got = []string{got[0] + " | head -1", got[1]}
			}
			for i, line := range got {
				got[i] = timeless(in, line)
			}
			if os.Getenv("PRINT_TRANSCRIPTS") != "" {
				fmt.Printf("=== %s\n%s\n", want.row, strings.Join(got, "\n"))
			}
			if !slices.Equal(got, want.lines) {
				t.Errorf("prints\n%s\nthe page has\n%s", strings.Join(got, "\n"), strings.Join(want.lines, "\n"))
			}
		})
	}
}

// arguments are those of the command for the row's question.
func (row *explainRow) arguments(in *instance) []string {
	q := row.question(in)
	args := []string{"explain", q["url"].(string)}
	if method := q["method"].(string); method != "GET" {
		args = append(args, "-X", method)
	}
	for _, line := range strings.Split(strings.TrimSpace(row.sections["explain"]), "\n")[1:] {
		args = append(args, "-H", line)
	}
	return args
}

// commandLine is the command as it is typed.
func commandLine(args []string) string {
	words := []string{"$ caddy larder"}
	for _, arg := range args {
		if strings.ContainsAny(arg, " ?&") {
			arg = "'" + arg + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

var (
	hashes = regexp.MustCompile(`^(key|  server:) [0-9a-f]{16}$`)
	dates  = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
	spans  = regexp.MustCompile(`\b\d+(ms|µs|ns)\b`)
)

// timeless writes what differs from run to run as the page has it.
func timeless(in *instance, line string) string {
	line = strings.ReplaceAll(line, strconv.Itoa(in.port), "8080")
	line = hashes.ReplaceAllString(line, "$1 0123456789abcdef")
	line = dates.ReplaceAllString(line, "2026-11-29T10:00:00Z")
	return steady(spans.ReplaceAllString(line, "0s"))
}

// TestVerdictsOfTroubleshooting: each verdict in the table of docs/troubleshooting.md is one that a
// row of testdata/explain wants, so that it is what is said.
func TestVerdictsOfTroubleshooting(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(treeRoot, "testdata", "explain", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, file := range files {
		for line := range strings.Lines(readExplainRow(t, file).sections["want"]) {
			if verdict, ok := strings.CutPrefix(strings.TrimSpace(line), "verdict: "); ok {
				said = append(said, verdict)
			}
		}
	}
	table := section(t, readPages(t, "docs/troubleshooting.md"), "What explain says")
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.Contains(cells[1], "---") || strings.Contains(cells[1], "What you see") {
			continue
		}
		rows++
		verdict := strings.TrimSpace(cells[2])
		if !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, verdict) }) {
			t.Errorf("no row wants %q", verdict)
		}
	}
	if rows < 20 {
		t.Errorf("%d rows", rows)
	}
}

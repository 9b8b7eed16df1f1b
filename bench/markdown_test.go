package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMarkdown: the report as docs/performance.md has it, with what others did beside and what is
// missed in bold.
func TestMarkdown(t *testing.T) {
	limit, floor := 50.0, 0.99
	r := &report{
		Command: "go run ./bench",
		Rows: []row{
			{Case: "hit", About: "a hit", Subject: "ceiling", Rate: 200},
			{Case: "hit", About: "a hit", Subject: "larder", Rate: 180, Ratio: 0.9, CPURatio: 0.92, Reference: "ceiling", Target: 0.95, P50: 1, P99: 2},
			{Case: "hit", About: "a hit", Subject: "nginx", Rate: 400, Ratio: 2, Reference: "ceiling"},
		},
		Facts: []fact{
			{About: "a purge", What: "answered after", Value: 20, Unit: "ms", Limit: &limit},
			{About: "a purge", What: "entries", Value: 7},
			{About: "a miss", What: "stored", Value: 0.5, Floor: &floor},
		},
	}
	got := r.markdown()
	for _, want := range []string{
		"| a hit | 180 | ceiling 200 | **0.90** | 0.92 | 1.00 / 2.00 | 0.95 | nginx 400 |\n",
		"| a purge | answered after | 20 ms | at most 50 ms |\n|  | entries | 7 |  |\n",
		"| a miss | stored | **0.5** | at least 0.99 |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no line %q in\n%s", want, got)
		}
	}
}

// TestWriteMarkdown: a document keeps what stands around the place for the report.
func TestWriteMarkdown(t *testing.T) {
	r := &report{Command: "go run ./bench"}
	markdownBegin, markdownEnd := markdownPlace("")
	namedBegin, namedEnd := markdownPlace("named")
	for _, tt := range []struct{ name, old, want string }{
		{"no document", "", r.markdown()},
		{"a document", "above\n" + markdownBegin + "old\n" + markdownEnd + "below\n", "above\n" + markdownBegin + r.markdown() + markdownEnd + "below\n"},
		{
			"a place with a name", markdownBegin + "old\n" + markdownEnd + namedBegin + "old\n" + namedEnd + "below\n",
			markdownBegin + "old\n" + markdownEnd + namedBegin + r.markdown() + namedEnd + "below\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "performance.md")
			if tt.old != "" {
				if err := os.WriteFile(name, []byte(tt.old), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			place := ""
			if strings.Contains(tt.old, namedBegin) {
				place = "#named"
			}
			if err := r.writeMarkdown(name + place); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(name); err != nil || string(got) != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
	for _, old := range []string{markdownBegin, "a page without a place\n", markdownEnd + markdownBegin} {
		name := filepath.Join(t.TempDir(), "page.md")
		if err := os.WriteFile(name, []byte(old), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.writeMarkdown(name); err == nil {
			t.Errorf("no error for %q", old)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != old {
			t.Errorf("%q has become %q, %v", old, got, err)
		}
	}
}

// TestMarkdownFlag: -markdown alone writes to the page for the whole run, which has the place for
// it.
func TestMarkdownFlag(t *testing.T) {
	for _, tt := range []struct{ argument, file string }{
		{"-markdown", defaultMarkdown},
		{"-markdown=bench/README.md", "bench/README.md"},
		{"-markdown=docs/performance.md#fleet", "docs/performance.md#fleet"},
		{"-markdown=false", ""},
	} {
		var file markdownFile
		flags := flag.NewFlagSet("bench", flag.ContinueOnError)
		flags.Var(&file, "markdown", "")
		if err := flags.Parse([]string{tt.argument}); err != nil || string(file) != tt.file || flags.NArg() > 0 {
			t.Errorf("%s: %q, %v, want %q", tt.argument, file, err, tt.file)
		}
		if tt.file == "" {
			continue
		}
		name, place, _ := strings.Cut(tt.file, "#")
		begin, _ := markdownPlace(place)
		page, err := os.ReadFile(filepath.Join("..", name))
		if err != nil || !strings.Contains(string(page), begin) {
			t.Errorf("%s has no place for a report: %v", tt.file, err)
		}
	}
}

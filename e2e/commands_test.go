package e2e

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// TestCommandsOfThePages: each `caddy larder …` of the pages, in the text, in tables and in what
// is to be pasted, is a subcommand that there is, with flags that it has.
func TestCommandsOfThePages(t *testing.T) {
	registered := caddycmd.Commands()["larder"]
	larder := &cobra.Command{Use: "larder"}
	registered.CobraFunc(larder)
	written := regexp.MustCompile("caddy larder ([a-z]+)([^`|#&\n]*)")
	var checked int
	for _, p := range readPages(t, pagePatterns...) {
		for _, command := range commandsOf(p) {
			for _, call := range written.FindAllStringSubmatch(command, -1) {
				checked++
				if err := takes(larder, call[1], call[2]); err != "" {
					t.Errorf("%s: %q: %s", p.path, call[0], err)
				}
			}
		}
	}
	if checked < 100 {
		t.Errorf("%d commands", checked)
	}
}

// commandsOf are the code spans of a page, and the lines of its blocks for a shell.
func commandsOf(p docPage) (commands []string) {
	prose, blocks := p.parts()
	for _, span := range regexp.MustCompile("`[^`]+`").FindAllString(strings.Join(prose, "\n"), -1) {
		commands = append(commands, span)
	}
	for _, b := range blocks {
		if b.language != "" && b.language != "sh" && b.language != "console" {
			continue
		}
		for line := range strings.Lines(b.text) {
			if strings.HasPrefix(line, "$ ") || strings.HasPrefix(line, "caddy larder ") {
				commands = append(commands, line)
			}
		}
	}
	return commands
}

// takes says what of the words behind `caddy larder` a command line does not have, or nothing.
func takes(larder *cobra.Command, name, words string) string {
	sub, _, err := larder.Find([]string{name})
	if err != nil || sub == larder {
		return "there is no such command"
	}
	quoted := regexp.MustCompile(`'[^']*'|"[^"]*"`)
	for _, flag := range regexp.MustCompile(`(?:^|[\s\[])(--?)([A-Za-z][a-z-]*)`).FindAllStringSubmatch(quoted.ReplaceAllString(words, "x"), -1) {
		known := sub.Flags().Lookup(flag[2])
		if known == nil {
			known = sub.InheritedFlags().Lookup(flag[2])
		}
		if flag[1] == "-" {
			known = sub.Flags().ShorthandLookup(flag[2][:1])
		}
		if known == nil && flag[2] != "help" {
			return "there is no flag " + flag[2]
		}
	}
	return ""
}

// TestJSONIsWhole: a block of JSON is a document.
func TestJSONIsWhole(t *testing.T) {
	for _, p := range readPages(t, pagePatterns...) {
		_, blocks := p.parts()
		for _, b := range blocks {
			if b.language == "json" && !json.Valid([]byte(b.text)) {
				t.Errorf("%s:%d: no JSON", b.page, b.line)
			}
		}
	}
}

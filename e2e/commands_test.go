package e2e

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
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

// TestPagesSayWhereTheAdminAPIIs: a page with a command that asks the admin API says how that is
// told where it is, if it is elsewhere. What is about other things names commands, too.
func TestPagesSayWhereTheAdminAPIIs(t *testing.T) {
	asks := regexp.MustCompile(`caddy larder (compact|dashboard|explain|fleet|get|history|ls|observe|purge|stats|top)\b|caddy larder warm --purged`)
	says := regexp.MustCompile(`--address\b|#the-address-of-the-admin-api`)
	others := []string{"docs/ideas.md", "docs/architecture.md", "SECURITY.md"}
	found := 0
	for _, p := range readPages(t, pagePatterns...) {
		if slices.Contains(others, p.path) || !asks.MatchString(strings.Join(commandsOf(p), "\n")) {
			continue
		}
		found++
		if !says.MatchString(p.text) {
			t.Errorf("%s has a command that asks the admin API, and not --address", p.path)
		}
	}
	if found < 10 {
		t.Errorf("%d pages with a command", found)
	}
}

// commandsOf are the code spans of a page, and the lines of its blocks for a shell.
func commandsOf(p docPage) (commands []string) {
	prose, blocks := p.parts()
	commands = append(commands, regexp.MustCompile("`[^`]+`").FindAllString(strings.Join(prose, "\n"), -1)...)
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

// TestAnswersOfThePages: a block of JSON is a document. Where it is an answer of the admin API, it
// has no member that the real answer lacks.
func TestAnswersOfThePages(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cart" {
			w.Header().Set("Cache-Control", "no-store")
			return
		}
		answering(200, "Cache-Control", "max-age=60", "Surrogate-Key", "quickstart")(w, r)
	})
	in := start(t, proxied("larder"), o)
	in.get("/")
	in.get("/cart")
	paths := map[string]string{"entries": "/larder/entries", "by": "/larder/top?by=not_stored", "step": "/larder/history"}
	compared := 0
	for _, p := range readPages(t, pagePatterns...) {
		_, blocks := p.parts()
		for _, b := range blocks {
			if b.language != "json" {
				continue
			}
			var said map[string]any
			if err := json.Unmarshal([]byte(b.text), &said); err != nil {
				t.Errorf("%s:%d: %v", b.page, b.line, err)
			}
			for member, path := range paths {
				if said[member] == nil {
					continue
				}
				compared++
				var answered map[string]any
				in.adminCall(http.MethodGet, path, "", &answered)
				if lacks := lacking(said, answered); lacks != "" {
					t.Errorf("%s:%d: %s has no %s in %v", b.page, b.line, path, lacks, answered)
				}
			}
		}
	}
	if compared < len(paths) {
		t.Errorf("%d answers", compared)
	}
}

// lacking is the first member of what a page says that the answer has not, or has as another
// kind of value. Of lists the first elements are compared.
func lacking(said, answered any) string {
	switch said := said.(type) {
	case map[string]any:
		object, _ := answered.(map[string]any)
		for name, value := range said {
			its, there := object[name]
			if !there {
				return name
			}
			if lacks := lacking(value, its); lacks != "" {
				return name + " " + lacks
			}
		}
	case []any:
		list, isList := answered.([]any)
		if !isList {
			return "list"
		}
		if len(said) > 0 && len(list) > 0 {
			return lacking(said[0], list[0])
		}
	}
	return ""
}

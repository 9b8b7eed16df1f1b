package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestRecipesOfThePages pastes the recipes for purging of README and docs into programs and runs
// them against the binary: what is stored must be gone after, and counted. A language that is not
// installed is skipped, unless LARDER_RECIPES asks for all.
func TestRecipesOfThePages(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process is stopped by signals here")
	}
	c := newProcess(t)
	c.start()
	defer c.kill()
	recipes := c.recipes()
	for _, tt := range []struct {
		language, file, program string // with the recipe for %s
		command                 []string
	}{
		{"go", "main.go", "package main\n\nimport (\"bytes\"; \"context\"; \"encoding/json\"; \"fmt\"; \"io\"; \"net/http\"; \"os\")\n\n%s\n" +
			"func main() {\n\tif err := purge(context.Background(), \"quickstart\"); err != nil {\n\t\tfmt.Fprintln(os.Stderr, err)\n\t\tos.Exit(1)\n\t}\n\tfmt.Println(1)\n}\n", []string{"go", "run"}},
		{"php", "purge.php", "<?php\n%s\necho purge('quickstart'), \"\\n\";\n", []string{"php"}},
		{"python", "purge.py", "%s\nprint(purge('quickstart'))\n", []string{"python3"}},
		{"js", "purge.mjs", "%s\nconsole.log(await purge('quickstart'));\n", []string{"node"}},
	} {
		t.Run(tt.language, func(t *testing.T) {
			needs(t, tt.command[0])
			for _, recipe := range recipes[tt.language] {
				out := c.afterHit(t, func() string { return c.program(t, tt.file, fmt.Sprintf(tt.program, recipe), tt.command) })
				if strings.TrimSpace(out) != "1" {
					t.Errorf("%q, want 1: one response was stored\n%s", out, recipe)
				}
			}
		})
	}
	for _, script := range recipes["sh"] {
		if !strings.HasPrefix(script, "#!/bin/sh\n") {
			t.Run("commands", func(t *testing.T) { // each has to succeed, whatever is stored
				needs(t, "curl")
				c.program(t, "commands", "set -e\ncurl() { command curl -fsS \"$@\"; }\n"+script, []string{"sh"})
			})
			continue
		}
		// By the command line, and a second time by curl, when nothing is left to mark.
		t.Run("deploy", func(t *testing.T) {
			needs(t, "curl")
			out := c.afterHit(t, func() string { return c.program(t, "deploy", script, []string{"sh"}) })
			if !strings.Contains(out, "marked 1 response stale") || !strings.Contains(out, `"matched":0,"soft":true`) {
				t.Errorf("printed %q", out)
			}
		})
	}
}

func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil && os.Getenv("LARDER_RECIPES") == "" {
		t.Skipf("%s is not installed", program)
	}
}

// recipes are the programs that README and docs show, by the language of their block, and scripts
// as "sh", for this server.
func (c *caddyProcess) recipes() map[string][]string {
	c.t.Helper()
	recipes := make(map[string][]string)
	for _, page := range readPages(c.t, pagePatterns...) {
		_, blocks := page.parts()
		for _, b := range blocks {
			program := strings.NewReplacer("localhost:2019", c.admin, "www.example.com", c.site).Replace(b.text)
			recipes[b.language] = append(recipes[b.language], program)
		}
	}
	for _, language := range []string{"go", "php", "python", "js", "sh"} {
		if recipes[language] == nil {
			c.t.Errorf("no page shows how to purge in %s", language)
		}
	}
	return recipes
}

// afterHit sees to it that the page is stored, runs a recipe and checks that the page is not served
// from the store any more.
func (c *caddyProcess) afterHit(t *testing.T, recipe func() string) string {
	t.Helper()
	c.get()
	before := c.get()
	if !strings.HasPrefix(before.status, "Larder; hit") {
		t.Fatalf("before the recipe: %q", before.status)
	}
	out := recipe()
	if after := c.get(); after.body == before.body {
		t.Errorf("after the recipe: %q with the old body", after.status)
	}
	return out
}

// program writes a program and runs it in a folder that has a deploy.sh; `caddy` is the binary,
// told where the admin API is.
func (c *caddyProcess) program(t *testing.T, name, text string, command []string) string {
	t.Helper()
	dir := t.TempDir()
	for file, content := range map[string]string{
		name:        text,
		"deploy.sh": "#!/bin/sh\n",
		"caddy":     "#!/bin/sh\nexec " + c.binary + " \"$@\" --address " + c.admin + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(command[0], append(command[1:], filepath.Join(dir, name))...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s\n%s", name, err, stderr.String(), text)
	}
	return string(out)
}

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// recipePrograms make a program of a recipe, which is %s in it.
var recipePrograms = []struct {
	language, file, program string
	command                 []string
}{
	{"go", "main.go", "package main\n\nimport (\"bytes\"; \"context\"; \"encoding/json\"; \"fmt\"; \"io\"; \"net/http\"; \"os\"; \"time\")\n\n%s\n" +
		"func main() {\n\tif err := purge(context.Background(), \"quickstart\"); err != nil {\n\t\tfmt.Fprintln(os.Stderr, err)\n\t\tos.Exit(1)\n\t}\n\tfmt.Println(1)\n}\n", []string{"go", "run"}},
	{"php", "purge.php", "<?php\n%s\necho purge('quickstart'), \"\\n\";\n", []string{"php"}},
	{"python", "purge.py", "%s\nprint(purge('quickstart'))\n", []string{"python3"}},
	{"js", "purge.mjs", "%s\nconsole.log(await purge('quickstart'));\n", []string{"node"}},
}

// TestRecipesOfThePages pastes the recipes for purging of README and docs into programs and runs
// them against the binary: what is stored must be gone after, and counted. A language that is not
// installed is skipped, unless LARDER_RECIPES asks for all.
func TestRecipesOfThePages(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a process is stopped by signals here")
	}
	c := newProcess(t)
	c.start()
	defer c.kill()
	recipes := recipes(t, c.admin, c.site)
	for _, tt := range recipePrograms {
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
				c.program(t, "commands", "set -e\ncurl() { command curl --fail-with-body -sS \"$@\"; }\n"+script, []string{"sh"})
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

// TestRecipesSaySo: where a purge fails, each recipe shows the sentence of the answer, and what is
// answered with 503, or not at all, it has sent again.
func TestRecipesSaySo(t *testing.T) {
	t.Parallel()
	const admin = "{admin}"
	recipes := recipes(t, admin, "www.example.com")
	for _, tt := range recipePrograms {
		t.Run(tt.language, func(t *testing.T) {
			t.Parallel()
			needs(t, tt.command[0])
			for _, recipe := range recipes[tt.language] {
				wantSaidSo(t, 0, tt.file, fmt.Sprintf(tt.program, recipe), admin, tt.command)
			}
		})
	}
	curls := regexp.MustCompile(`(?m)^curl .*--retry.*$`).FindAllString(strings.Join(recipes["sh"], "\n"), -1)
	if len(curls) < 2 {
		t.Errorf("only %d commands of curl", len(curls))
	}
	for _, command := range curls {
		t.Run("curl", func(t *testing.T) {
			t.Parallel()
			needs(t, "curl")
			if !strings.Contains(command, " --retry-connrefused ") {
				t.Errorf("is not sent again while Caddy restarts: %s", command)
			}
			wantSaidSo(t, 1, "command", command, admin, []string{"sh"}) // it takes no answer for none but where nothing listens
		})
	}
}

// wantSaidSo runs a program with the address of a server in place of admin. It gives no answer,
// then 503, then an error, and has answered some of that before.
func wantSaidSo(t *testing.T, before int32, name, text, admin string, command []string) {
	t.Helper()
	var answered atomic.Int32
	answered.Store(before)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch answered.Add(1) {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			http.Error(w, `{"error":"the disk has not taken it"}`, http.StatusServiceUnavailable)
			return
		}
		http.Error(w, `{"error":"a tag has white space"}`, http.StatusBadRequest)
	}))
	defer server.Close()
	text = strings.ReplaceAll(text, admin, strings.TrimPrefix(server.URL, "http://"))
	stdout, stderr, err := runProgram(t.TempDir(), name, text, command)
	if n := answered.Load(); err == nil || n != 3 || !strings.Contains(stdout+stderr, "a tag has white space") {
		t.Errorf("%v after %d requests, which printed %q and %q\n%s", err, n, stdout, stderr, text)
	}
}

// recipes are the programs that README and docs show, by the language of their block, and scripts
// as "sh", for a server at these addresses.
func recipes(t *testing.T, admin, site string) map[string][]string {
	t.Helper()
	recipes := make(map[string][]string)
	for _, page := range readPages(t, pagePatterns...) {
		_, blocks := page.parts()
		for _, b := range blocks {
			program := strings.NewReplacer("localhost:2019", admin, "www.example.com", site).Replace(b.text)
			recipes[b.language] = append(recipes[b.language], program)
		}
	}
	for _, language := range []string{"go", "php", "python", "js", "sh"} {
		if recipes[language] == nil {
			t.Errorf("no page shows how to purge in %s", language)
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
		"deploy.sh": "#!/bin/sh\n",
		"caddy":     "#!/bin/sh\nexec " + c.binary + " \"$@\" --address " + c.admin + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	out, stderr, err := runProgram(dir, name, text, command)
	if err != nil {
		t.Fatalf("%s: %v: %s\n%s", name, err, stderr, text)
	}
	return out
}

// runProgram writes a program into a folder and runs it there, with what else is in it as commands.
func runProgram(dir, name, text string, command []string) (stdout, stderr string, err error) {
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
		return "", "", err
	}
	cmd := exec.Command(command[0], append(command[1:len(command):len(command)], filepath.Join(dir, name))...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

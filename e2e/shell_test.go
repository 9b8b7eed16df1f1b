package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// typed says what holds a block of the pages that shows commands: a test that runs it or does what
// it does, run, or why nothing can run it here.
type typed struct {
	page, command string // the beginning of the first command
	test, here    string
	run           func(t *testing.T, c *caddyProcess, commands []string)
}

// typedBlocks has a row for each block of a page with a command behind a $. Blocks of sh are
// recipes, and TestRecipesOfThePages runs them all.
var typedBlocks = []typed{
	{page: "README.md", command: "go build", test: "TestREADMEShowsWhatRuns"},
	{page: "README.md", command: "caddy larder explain", test: "TestREADMEShowsWhatRuns"},
	{page: "docs/agents.md", command: "curl -si localhost:8417", test: "TestLLMExample"},
	{page: "docs/agents.md", command: "caddy larder explain http://localhost:8417", test: "TestExplain"},
	{page: "docs/agents.md", command: "caddy larder explain http://localhost:8418", test: "TestExplain"},
	{page: "docs/batches.md", command: "curl -sZ", test: "TestBatchExample"},
	{page: "docs/batches.md", command: "caddy larder explain", test: "TestExplain"},
	{page: "docs/configuration.md", command: "cat -n Caddyfile", test: "TestRunOfThePage"},
	{page: "docs/dashboard.md", command: "caddy larder dashboard", test: "TestALinkOpensThePage"},
	{page: "docs/dashboard.md", command: "ssh", here: "asks another machine"},
	{page: "docs/fleet.md", command: "curl -si", test: "TestFleetOfTwo"},
	{page: "docs/inspecting.md", command: "caddy larder stats", run: runStats},
	{page: "docs/installing.md", command: "caddy larder version", test: "TestInstallingShowsTheSchema"},
	{page: "docs/installing.md", command: "sha256sum", here: "wants a release; run_packages of .ci/run checks the sums of one archive"},
	{page: "docs/installing.md", command: "dpkg-divert", here: "changes the machine; run_packages of .ci/run reads the unit as systemd does"},
	{page: "docs/installing.md", command: "useradd", here: "changes the machine; run_packages of .ci/run reads the unit as systemd does"},
	{page: "docs/installing.md", command: "docker", here: "wants an engine; run_packages of .ci/run lints the Dockerfile, and TestCompose reads its folders"},
	{page: "docs/migrating/cache-handler.md", command: "caddy larder migrate --write Caddyfile", run: runMigrations},
	{page: "docs/migrating/cache-handler.md", command: "for file in sites/*", run: runMigrations},
	{page: "docs/observing.md", command: "caddy larder observe", test: "TestObserveExample"},
	{page: "docs/observing.md", command: "curl -so", test: "TestObserveExample"},
	{page: "docs/operating.md", command: "promtool check config", test: "TestPrometheusAnswersTheQueriesOfThePages"},
	{page: "docs/operating.md", command: "GOMEMLIMIT=256MiB caddy run", run: runWithLimit},
	{page: "docs/operating.md", command: "for i in 1 2 3", test: "TestDownloadLargerThanMemoryIsStored"},
	{page: "docs/operating.md", command: "systemctl stop caddy", here: "changes the machine"},
	{page: "docs/troubleshooting.md", command: "caddy larder explain https://www.example.com/a --listen", run: runExplainBehindTLS},
	{page: "docs/troubleshooting.md", command: "caddy larder explain http://localhost:8080/a", test: "TestTranscriptsOfTroubleshooting"},
	{page: "docs/warming.md", command: "caddy larder warm --sitemap https://example.com/sitemap.xml --rate", run: runWarm},
	{page: "docs/warming.md", command: "caddy larder warm --sitemap", test: "TestWarmOfThePage"},
	{page: "docs/warming.md", command: "caddy larder purge --tag product-7 && caddy larder warm", run: runWarm},
	{page: "docs/warming.md", command: "caddy larder warm --urls", run: runWarm},
}

// TestCommandsOfThePagesRun: each block of the pages that shows commands has a row in typedBlocks,
// and what can run here runs.
func TestCommandsOfThePagesRun(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a process is stopped by signals here")
	}
	existing := declaredTests(t)
	found := make(map[int]bool)
	for _, p := range readPages(t, pagePatterns...) {
		_, blocks := p.parts()
		for _, b := range blocks {
			commands := commandsIn(b)
			if len(commands) == 0 {
				continue
			}
			i := rowOf(p.path, commands[0])
			if i < 0 {
				t.Errorf("%s:%d: nothing says what runs %s", p.path, b.line, commands[0])
				continue
			}
			found[i] = true
			row := typedBlocks[i]
			if row.test != "" && !existing[row.test] {
				t.Errorf("%s:%d: there is no %s", p.path, b.line, row.test)
			}
			if row.run != nil {
				t.Run(fmt.Sprintf("%s:%d", p.path, b.line), func(t *testing.T) {
					t.Parallel()
					row.run(t, newProcess(t), commands)
				})
			}
		}
	}
	for i, row := range typedBlocks {
		if !found[i] {
			t.Errorf("%s shows no %s", row.page, row.command)
		}
	}
}

// commandsIn are the commands of a block, without the $ in front and with the lines that go on.
func commandsIn(b fencedBlock) (commands []string) {
	if b.language != "" && b.language != "console" {
		return nil
	}
	text := strings.ReplaceAll(b.text, "\\\n", " ")
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	return commands
}

func rowOf(page, command string) int {
	for i, row := range typedBlocks {
		if row.page == page && strings.HasPrefix(command, row.command) {
			return i
		}
	}
	return -1
}

// shell runs commands in a folder in which `caddy` is the binary, each as it is typed.
func (c *caddyProcess) shell(t *testing.T, dir string, commands []string, replaced ...string) string {
	t.Helper()
	wrapper := "#!/bin/sh\nexec " + c.binary + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "caddy"), []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	script := strings.NewReplacer(replaced...).Replace(strings.Join(commands, "\n"))
	out, stderr, err := runProgram(dir, "typed", "set -e\n"+script+"\n", []string{"sh"})
	if err != nil {
		t.Errorf("%v\n%s\n%s%s", err, script, out, stderr)
	}
	return out + stderr
}

// runStats has the admin API at each of the addresses that the commands name.
func runStats(t *testing.T, c *caddyProcess, commands []string) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	for _, command := range commands {
		admin, replaced := c.admin, []string{"localhost:2020", c.admin, "/etc/caddy/Caddyfile", c.config}
		if strings.Contains(command, "unix/") {
			admin, replaced = "unix/"+socket, []string{"unix//run/caddy-admin.sock", "unix/" + socket}
		}
		c.edit(regexp.MustCompile(`(?m)^\tadmin .*$`), "\tadmin "+admin)
		c.start()
		if out := c.shell(t, t.TempDir(), []string{command}, replaced...); !strings.Contains(out, `"hit"`) {
			t.Errorf("%s prints %s", command, out)
		}
		c.kill()
	}
}

// TestAdminAPIAtAllAddresses: the commands ask localhost, and Caddy takes no origin of that name
// where `admin` is at all addresses, and no request without one under enforce_origin.
func TestAdminAPIAtAllAddresses(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a process is stopped by signals here")
	}
	c := newProcess(t)
	_, port, _ := strings.Cut(c.admin, ":")
	for _, admin := range []string{":" + port, "0.0.0.0:" + port, ":" + port + " {\n\t\tenforce_origin\n\t\torigins " + c.admin + "\n\t}"} {
		c.edit(regexp.MustCompile(`(?m)^\tadmin .*$`), "\tadmin "+admin)
		c.start()
		c.get()
		c.larder(0, "stats")
		if out := c.larder(0, "purge", "--tag", "quickstart"); out != "purged 1 response\n" {
			t.Errorf("admin %s: printed %q", admin, out)
		}
		c.kill()
	}
}

// runMigrations has a Caddyfile of cache-handler, and sites that it imports.
func runMigrations(t *testing.T, c *caddyProcess, commands []string) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sites"), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"Caddyfile":  "{\n\tcache {\n\t\tttl 1h\n\t}\n}\nimport sites/*\n",
		"sites/shop": "shop.example {\n\tcache\n\trespond shop\n}\n",
		"sites/wiki": "wiki.example {\n\trespond wiki\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, command := range commands {
		if command == "caddy larder migrate --write Caddyfile" && i < len(commands)-1 || len(commands) == 1 {
			commands[i] += " || test $? = 1" // what the sites inherit is told to be missing
		}
	}
	c.shell(t, dir, commands)
	text, err := os.ReadFile(filepath.Join(dir, "Caddyfile"))
	if err != nil || !strings.Contains(string(text), "\tlarder") {
		t.Errorf("%v\n%s", err, text)
	}
	if site, err := os.ReadFile(filepath.Join(dir, "sites", "shop")); len(commands) > 1 && (err != nil || !strings.Contains(string(site), "ttl 1h")) {
		t.Errorf("%v\n%s", err, site)
	}
}

// runWithLimit has the command run until it has said the line of the page.
func runWithLimit(t *testing.T, c *caddyProcess, commands []string) {
	command := strings.Replace(commands[0], "caddy run 2>&1 | grep", "timeout 60 caddy run --config "+c.config+" 2>&1 | { grep -m 1", 1)
	command += "; until caddy stop --address " + c.admin + " >/dev/null 2>&1; do sleep 0.1; done; }"
	if out := c.shell(t, t.TempDir(), []string{command}); !strings.Contains(out, `"GOMEMLIMIT":"256MiB"`) {
		t.Errorf("%s prints %s", command, out)
	}
}

// runExplainBehindTLS has no site of the name: the command is taken, and says so.
func runExplainBehindTLS(t *testing.T, c *caddyProcess, commands []string) {
	c.start()
	defer c.kill()
	port := c.site[strings.LastIndex(c.site, ":"):]
	out := c.shell(t, t.TempDir(), commands, "--listen :8080", "--listen "+port+" --address "+c.admin)
	if !strings.Contains(out, "Not Larder's") {
		t.Errorf("prints %s", out)
	}
}

// runWarm has a page with the tag, a list and a sitemap of URLs.
func runWarm(t *testing.T, c *caddyProcess, commands []string) {
	c.edit(regexp.MustCompile(`(?m)^\treverse_proxy `), "\trespond /sitemap.xml `<urlset><url><loc>http://"+c.site+"/</loc></url></urlset>`\n\treverse_proxy ")
	c.start()
	defer c.kill()
	c.get()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "urls.txt"), []byte("http://"+c.site+"/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := c.shell(t, dir, commands, "https://example.com", "http://"+c.site, "product-7", "quickstart --address "+c.admin)
	if !strings.Contains(out, "stored") {
		t.Errorf("prints %s", out)
	}
}

// edit writes the configuration anew.
func (c *caddyProcess) edit(what *regexp.Regexp, with string) {
	c.t.Helper()
	text, err := os.ReadFile(c.config)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(c.config, what.ReplaceAllLiteral(text, []byte(with)), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// binaries is the folder that the binary is built into, once it is needed.
var binaries string

// Tests that run in parallel wait most of the time, for other processes and for what is configured
// in seconds. So more of them go on at once than there are processors, unless -parallel is given.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0))))
	}
	status := m.Run()
	_ = os.RemoveAll(binaries)
	os.Exit(status)
}

// built builds the binary, once, and returns its path. It is linked in half the time without what
// debuggers read.
var built = sync.OnceValues(func() (binary string, err error) {
	if binaries, err = os.MkdirTemp("", "larder-e2e-"); err != nil {
		return "", err
	}
	binary = filepath.Join(binaries, "caddy")
	if out, err := exec.Command("go", "build", "-ldflags=-w", "-o", binary, module+"/cmd/caddy").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building: %w\n%s", err, out)
	}
	return binary, nil
})

// caddyProcess is the binary with the quickstart example on free ports.
type caddyProcess struct {
	t                   *testing.T
	binary, config, dir string
	site, admin         string
	cmd                 *exec.Cmd
	log                 *os.File
}

// newProcess writes a process's Caddyfile; start runs it.
func newProcess(t *testing.T) *caddyProcess {
	t.Helper()
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &caddyProcess{
		t: t, dir: dir, binary: binary, config: filepath.Join(dir, "Caddyfile"),
		site: freeAddress(t), admin: freeAddress(t),
	}
	text := strings.NewReplacer("localhost:18080", c.site, "localhost:19000", freeAddress(t), "localhost:12019", c.admin,
		"./larder-quickstart", filepath.Join(dir, "store")).Replace(example(t, "quickstart"))
	if err := os.WriteFile(c.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	c.log = log
	t.Cleanup(func() { log.Close() })
	return c
}

// freeAddress returns an address that nothing listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("localhost:%d", freePort(t))
}

func (c *caddyProcess) environment() []string {
	return append(os.Environ(), "XDG_DATA_HOME="+c.dir, "XDG_CONFIG_HOME="+c.dir, "HOME="+c.dir)
}

// start runs the binary and returns when the site answers.
func (c *caddyProcess) start() {
	c.t.Helper()
	c.cmd = exec.Command(c.binary, "run", "--config", c.config)
	c.cmd.Env, c.cmd.Stderr = c.environment(), c.log
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	if !within(patience, func() bool {
		conn, err := net.Dial("tcp", c.site)
		return err == nil && conn.Close() == nil
	}) {
		log, _ := os.ReadFile(c.log.Name())
		c.t.Fatalf("the site did not come up:\n%s", log)
	}
}

// serve starts the binary on a Caddyfile with one site, and kills it at the end of the test.
func (c *caddyProcess) serve(s setup, o *origin) *instance {
	c.t.Helper()
	_, port, _ := strings.Cut(c.site, ":")
	number, err := strconv.Atoi(port)
	if err != nil {
		c.t.Fatal(err)
	}
	in := &instance{
		t: c.t, port: number, admin: c.admin, disk: s.disk,
		client: &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: patience},
	}
	in.write(s, o)
	if err := os.WriteFile(c.config, []byte(in.file), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(c.kill)
	c.start()
	c.t.Cleanup(in.client.CloseIdleConnections)
	return in
}

// goroutinesIn counts the goroutines of the process that are in function.
func (c *caddyProcess) goroutinesIn(function string) int {
	c.t.Helper()
	resp, err := http.Get("http://" + c.admin + "/debug/pprof/goroutine?debug=2")
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	stacks, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%d %v", resp.StatusCode, err)
	}
	return strings.Count(string(stacks), function+"(")
}

// stop ends the process in order.
func (c *caddyProcess) stop() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("stopping: %v", err)
	}
	c.cmd = nil
}

// kill ends the process as kill -9 does.
func (c *caddyProcess) kill() {
	if c.cmd != nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		c.cmd = nil
	}
}

type response struct{ status, body string }

func (c *caddyProcess) get() response {
	c.t.Helper()
	resp, err := http.Get("http://" + c.site + "/")
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response{resp.Header.Get("Cache-Status"), string(body)}
}

// larder runs `caddy larder …` and checks the exit status.
func (c *caddyProcess) larder(status int, args ...string) string {
	c.t.Helper()
	cmd := exec.Command(c.binary, append([]string{"larder"}, append(args, "--address", c.admin)...)...)
	cmd.Env = c.environment()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if got := cmd.ProcessState.ExitCode(); got != status {
		c.t.Errorf("larder %v: exit status %d (%v), want %d; stderr %q", args, got, err, status, stderr.String())
	}
	if status != 0 && strings.Count(stderr.String(), "\n") != 1 {
		c.t.Errorf("larder %v: stderr %q is not one line", args, stderr.String())
	}
	return string(out)
}

// waitForDisk returns when all that is stored is on disk.
func (c *caddyProcess) waitForDisk() {
	c.t.Helper()
	var stats struct {
		Memory, Disk struct{ Entries int }
		Queue        int `json:"queue_bytes"`
	}
	eventually(c.t, "all is on disk", func() bool {
		if err := json.Unmarshal([]byte(c.larder(0, "stats")), &stats); err != nil {
			c.t.Fatal(err)
		}
		return stats.Disk.Entries >= 1 && stats.Queue == 0
	})
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestAsAUserRunsIt builds the binary and does with it what README shows: miss, hit, fifty at once, purge from the command line, a restart,
// and a kill.
func TestAsAUserRunsIt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process is stopped by signals here")
	}
	c := build(t)
	c.start()
	defer c.kill()

	miss := c.get()
	if miss.status != "Larder; fwd=uri-miss; stored" {
		t.Errorf("first request: %q", miss.status)
	}
	if hit := c.get(); !strings.HasPrefix(hit.status, "Larder; hit; ttl=") || hit.body != miss.body {
		t.Errorf("second request: %q, %q instead of %q", hit.status, hit.body, miss.body)
	}

	if out := c.larder(0, "ls", "--tag", "quickstart"); !strings.Contains(out, c.site) {
		t.Errorf("ls: %q", out)
	}
	var stats struct {
		Requests map[string]int `json:"requests"`
	}
	if err := json.Unmarshal([]byte(c.larder(0, "stats")), &stats); err != nil || stats.Requests["hit"] != 1 {
		t.Errorf("stats: %v %v", stats, err)
	}
	if out := c.larder(0, "purge", "--tag", "quickstart"); !strings.Contains(out, "1") {
		t.Errorf("purge: %q", out)
	}
	c.larder(1, "purge")

	c.fiftyAtOnce(miss.body)
	now := c.get()

	c.stop()
	c.start()
	if hit := c.get(); !strings.HasPrefix(hit.status, "Larder; hit") || hit.body != now.body {
		t.Errorf("after a restart: %q, %q instead of %q", hit.status, hit.body, now.body)
	}

	c.waitForDisk()
	c.kill()
	c.start()
	if hit := c.get(); !strings.HasPrefix(hit.status, "Larder; hit") || hit.body != now.body {
		t.Errorf("after kill -9: %q, %q instead of %q", hit.status, hit.body, now.body)
	}
	if out := c.larder(0, "purge", "--all"); !strings.Contains(out, "1") {
		t.Errorf("purge --all: %q", out)
	}
	c.kill()
	c.start()
	if miss := c.get(); miss.body == now.body {
		t.Error("what was purged is back after kill -9")
	}
	c.stop()
}

// TestFaultValidateBesideAServer: `caddy validate` and `caddy adapt` with the configuration of a server that is running take nothing from
// it.
func TestFaultValidateBesideAServer(t *testing.T) {
	c := build(t)
	c.start()
	defer c.kill()
	stored := c.get()
	c.waitForDisk()
	for _, args := range [][]string{{"validate", "--config", c.config}, {"adapt", "--config", c.config, "--validate"}} {
		cmd := exec.Command(c.binary, args...)
		cmd.Env = c.environment()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("caddy %v: %v\n%s", args, err, out)
		}
	}
	if hit := c.get(); !strings.HasPrefix(hit.status, "Larder; hit") || hit.body != stored.body {
		t.Errorf("afterwards: %q, %q instead of %q", hit.status, hit.body, stored.body)
	}
	c.kill()
	c.start()
	if hit := c.get(); !strings.HasPrefix(hit.status, "Larder; hit") || hit.body != stored.body {
		t.Errorf("after a kill: %q, %q instead of %q", hit.status, hit.body, stored.body)
	}
}

// caddyProcess is the binary with the quickstart example on free ports.
type caddyProcess struct {
	t                   *testing.T
	binary, config, dir string
	site, admin         string
	cmd                 *exec.Cmd
	log                 *os.File
}

func build(t *testing.T) *caddyProcess {
	t.Helper()
	dir := t.TempDir()
	c := &caddyProcess{
		t: t, dir: dir, binary: filepath.Join(dir, "caddy"), config: filepath.Join(dir, "Caddyfile"),
		site: freeAddress(t), admin: freeAddress(t),
	}
	if out, err := exec.Command("go", "build", "-o", c.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	example, err := os.ReadFile("../../testdata/examples/quickstart.Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("localhost:8080", c.site, "localhost:9000", freeAddress(t), "localhost:2019", c.admin,
		"./larder-quickstart", filepath.Join(dir, "store")).Replace(string(example))
	if err := os.WriteFile(c.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if c.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.log.Close() })
	return c
}

// freeAddress returns an address that nobody listens at, with none of the ports that the kernel gives to connections and to listeners at
// port 0: one of those might have it before it is used.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("localhost:%d", 10_000+rand.IntN(20_000))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no free port from 10000 to 29999")
	return ""
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
	for range 1000 {
		conn, err := net.Dial("tcp", c.site)
		if err == nil {
			conn.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	log, _ := os.ReadFile(c.log.Name())
	c.t.Fatalf("the site did not come up:\n%s", log)
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

// fiftyAtOnce asks from fifty clients; all must get the same body, which is not old.
func (c *caddyProcess) fiftyAtOnce(old string) {
	c.t.Helper()
	bodies := make([]string, 50)
	var clients sync.WaitGroup
	for i := range bodies {
		clients.Go(func() {
			resp, err := http.Get("http://" + c.site + "/")
			if err != nil {
				c.t.Error(err)
				return
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			bodies[i] = string(body)
		})
	}
	clients.Wait()
	for _, body := range bodies {
		if body != bodies[0] || body == old {
			c.t.Errorf("fifty at once got %q and %q; before it was %q", bodies[0], body, old)
		}
	}
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

// waitForDisk returns when all that is stored is on disk, at most 2 s later.
func (c *caddyProcess) waitForDisk() {
	c.t.Helper()
	var stats struct {
		Memory, Disk struct{ Entries int }
		Queue        int `json:"queue_bytes"`
	}
	for range 400 {
		if err := json.Unmarshal([]byte(c.larder(0, "stats")), &stats); err != nil {
			c.t.Fatal(err)
		}
		if stats.Disk.Entries >= 1 && stats.Queue == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	c.t.Fatalf("the disk tier has fallen behind: %+v", stats)
}

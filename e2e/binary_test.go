package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// TestAsAUserRunsIt builds the binary and does with it what README shows: miss, hit, purge from the
// command line, fifty at once, and a kill; and an orderly restart between them.
func TestAsAUserRunsIt(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a process is stopped by signals here")
	}
	c := newProcess(t)
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
	version := regexp.MustCompile(`^larder \S+\ncaddy v2\.\S+\ngo1\.\S+ \w+/\w+\nlarder\.db schema \d+\n$`)
	if out := c.larder(0, "version"); !version.MatchString(out) {
		t.Errorf("version: %q", out)
	}

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

// TestInstallingShowsTheSchema holds the page to the schema that the binary has.
func TestInstallingShowsTheSchema(t *testing.T) {
	t.Parallel()
	schema := regexp.MustCompile(`larder\.db schema \d+`)
	page := schema.FindString(readPages(t, "docs/installing.md")[0].text)
	if has := schema.FindString(newProcess(t).larder(0, "version")); page != has || has == "" {
		t.Errorf("docs/installing.md shows %q, the binary has %q", page, has)
	}
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

// TestFaultValidateBesideAServer: `caddy validate` and `caddy adapt` with the configuration of a
// server that is running take nothing from it.
func TestFaultValidateBesideAServer(t *testing.T) {
	t.Parallel()
	c := newProcess(t)
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

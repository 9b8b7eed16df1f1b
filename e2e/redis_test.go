package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// redisProcess is a redis-server that keeps nothing on disk.
type redisProcess struct {
	t       *testing.T
	address string
	cmd     *exec.Cmd
}

// startRedis starts a redis-server. Without the program the test is skipped, unless LARDER_REDIS
// asks for all.
func startRedis(t *testing.T) *redisProcess {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("LARDER_REDIS") != "" {
			t.Fatal("redis-server is not installed, and LARDER_REDIS asks for it")
		}
		t.Skip("SKIPPED: redis-server is not installed")
	}
	r := &redisProcess{t: t, address: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	r.start()
	t.Cleanup(r.kill)
	return r
}

// start runs the server and returns when it answers.
func (r *redisProcess) start() {
	r.t.Helper()
	_, port, _ := strings.Cut(r.address, ":")
	r.cmd = exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", r.t.TempDir())
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	for range 1000 {
		if r.answers() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatal("redis-server did not come up")
}

func (r *redisProcess) answers() bool {
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write([]byte("PING\r\n"))
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return line == "+PONG\r\n"
}

// kill ends the server as kill -9 does.
func (r *redisProcess) kill() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

func (r *redisProcess) signal(s syscall.Signal) { _ = r.cmd.Process.Signal(s) }

func (c *caddyProcess) signal(s syscall.Signal) { _ = c.cmd.Process.Signal(s) }

// state is how a node stands to its fleet, "" where it does not answer.
func (c *caddyProcess) state(ctx context.Context) string {
	var stats struct {
		Shared struct{ State string }
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.admin+"/larder/stats", http.NoBody)
	if err != nil {
		return ""
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil {
		return ""
	}
	return stats.Shared.State
}

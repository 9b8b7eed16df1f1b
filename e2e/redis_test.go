package e2e

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
)

// redisServer is a redis-server without persistence.
type redisServer struct {
	t       *testing.T
	program string
	port    int
	auth    string   // the password that redis-cli gives it
	first   []string // before what all servers are told
	args    []string
	cmd     *exec.Cmd
}

// startRedis starts one, or the program that LARDER_REDIS_SERVER names. The test is skipped where
// it is missing, unless LARDER_REDIS says that it may not be.
func startRedis(t *testing.T, args ...string) *redisServer {
	t.Helper()
	program, err := exec.LookPath(cmp.Or(os.Getenv("LARDER_REDIS_SERVER"), "redis-server"))
	switch {
	case err == nil:
	case os.Getenv("LARDER_REDIS") == "required":
		t.Fatal("redis-server is missing, and LARDER_REDIS says that it is required")
	default:
		t.Skip("SKIPPED: redis-server IS MISSING, SO NO FLEET IS TESTED HERE (apt-get install redis-server)")
	}
	r := &redisServer{t: t, program: program, port: freePort(t), args: args}
	t.Cleanup(r.kill)
	r.start()
	return r
}

// start runs the server and returns when it listens. It has forgotten all.
func (r *redisServer) start() {
	r.t.Helper()
	all := []string{"--bind", "127.0.0.1", "--port", fmt.Sprint(r.port), "--dir", r.t.TempDir()}
	if r.first == nil { // it is no Sentinel
		all = append(all, "--save", "", "--appendonly", "no")
	}
	r.cmd = exec.Command(r.program, slices.Concat(r.first, all, r.args)...)
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "redis-server listens", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		return err == nil && conn.Close() == nil
	})
}

// kill ends the server as kill -9 does.
func (r *redisServer) kill() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

func (r *redisServer) signal(s syscall.Signal) { _ = r.cmd.Process.Signal(s) }

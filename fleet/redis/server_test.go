//go:build unix

package redis

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/larder-cache/larder/fleet"
)

// long is how long these tests wait for what has to come, on a machine however busy.
const long = 2 * time.Minute

// quick gives a connection up after two seconds.
const quick = 100 * time.Millisecond

// server is a redis-server of a test, on a free port of the loopback interface, in a folder of its
// own. It is killed by its process when the test ends.
type server struct {
	t            testing.TB
	port         int
	dir          string
	before, args []string // before and after what all servers are told
	binary       string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	tell rueidis.ClientOption
	with rueidis.Client
}

// serverProgram is the server's. LARDER_REDIS_SERVER names another one than redis-server.
func serverProgram(t testing.TB) string {
	t.Helper()
	return program(t, cmp.Or(os.Getenv("LARDER_REDIS_SERVER"), "redis-server"))
}

// program finds one, and skips the test where it is missing. In .ci/run it may not be.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("LARDER_REDIS") == "required" {
		t.Fatalf("%s is missing, and LARDER_REDIS says that it is required", name)
	}
	t.Skipf("SKIPPED: %s IS MISSING, SO NOTHING HERE IS TESTED AGAINST REDIS (apt-get install redis-server)", name)
	return ""
}

// newServer starts a server without persistence, with more arguments.
func newServer(t testing.TB, args ...string) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), binary: serverProgram(t), port: freePort(t)}
	s.args = append([]string{"--save", "", "--appendonly", "no", "--logfile", "log"}, args...)
	s.connect()
	t.Cleanup(s.end)
	s.start()
	return s
}

// connect says how the test itself connects to it.
func (s *server) connect() {
	s.tell = rueidis.ClientOption{
		InitAddress: []string{s.address()}, DisableCache: true, ForceSingleClient: true, PipelineMultiplex: -1,
		ClientSetInfo: rueidis.DisableClientSetInfo, Dialer: net.Dialer{Timeout: long}, ConnWriteTimeout: long,
	}
}

var lastPort atomic.Int32

// freePort looks below the ports that the system gives to clients, and above those of e2e: in
// between, no other process is given it. The bus of a Cluster is at 10,000 more.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 20_000 + (os.Getpid()*37+int(lastPort.Add(1))*3)%2_700
		free := true
		for _, p := range []int{port, port + 10_000} {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p))
			if err != nil {
				free = false
				break
			}
			_ = l.Close()
		}
		if free {
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func (s *server) address() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

func (s *server) url() string { return "redis://" + s.address() }

// start returns when the server answers.
func (s *server) start() {
	s.t.Helper()
	args := slices.Concat(s.before, []string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--daemonize", "no",
	}, s.args)
	cmd := exec.Command(s.binary, args...)
	cmd.Dir = s.dir
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	s.mu.Lock()
	s.cmd, s.done = cmd, done
	s.mu.Unlock()
	eventually(s.t, "the server answers", func() bool {
		select {
		case <-done:
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.t.Fatalf("redis-server has ended: %s", log)
		default:
		}
		err := s.try("PING")
		return err == nil || strings.HasPrefix(err.Error(), "NOAUTH")
	})
}

// kill is kill -9, and returns when the process has gone.
func (s *server) kill() {
	s.signal(syscall.SIGKILL)
	<-s.done
}

func (s *server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(sig)
	}
}

func (s *server) end() {
	if s.cmd != nil {
		s.kill()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.with != nil {
		s.with.Close()
	}
}

// client is one for the test itself.
func (s *server) client() (rueidis.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.with != nil {
		return s.with, nil
	}
	c, err := rueidis.NewClient(s.tell)
	if err != nil {
		if c != nil {
			c.Close()
		}
		return nil, err
	}
	s.with = c
	return c, nil
}

func (s *server) try(words ...string) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	err = c.Do(ctx, c.B().Arbitrary(words...).Build()).Error()
	if rueidis.IsRedisNil(err) {
		return nil
	}
	return err
}

// do has the server do a command that must succeed.
func (s *server) do(words ...string) rueidis.RedisMessage {
	s.t.Helper()
	c, err := s.client()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	reply := c.Do(ctx, c.B().Arbitrary(words...).Build())
	if err := reply.Error(); err != nil && !rueidis.IsRedisNil(err) {
		s.t.Fatalf("%s: %v", strings.Join(words, " "), err)
	}
	m, _ := reply.ToMessage()
	return m
}

// open returns an engine on a server. Unless the test says another Timeout it gives no connection
// up because the machine is busy: the server says nothing for two seconds then, and all is well.
func open(t testing.TB, config Config) *Engine {
	t.Helper()
	config.Timeout = cmp.Or(config.Timeout, long/10)
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func (s *server) open(t testing.TB) *Engine { return open(t, Config{Addresses: []string{s.url()}}) }

// shared is a server of all tests that need none of their own; each has a name of its own there.
var shared struct {
	once   sync.Once
	server *server
	names  atomic.Int64
}

type untilTheEnd struct {
	testing.TB
	dir  string
	ends []func()
}

func (u *untilTheEnd) Cleanup(f func()) { u.ends = append(u.ends, f) }
func (u *untilTheEnd) TempDir() string  { return u.dir }

var theEnd = &untilTheEnd{}

func sharedServer(t testing.TB) *server {
	t.Helper()
	serverProgram(t)
	shared.once.Do(func() {
		theEnd.TB = t
		shared.server = newServer(theEnd)
	})
	if shared.server == nil {
		t.Fatal("the shared server has not started")
	}
	return shared.server
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "larder-redis")
	if err != nil {
		panic(err)
	}
	theEnd.dir = dir
	// They wait for other processes for most of their time.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code := m.Run()
	for _, end := range theEnd.ends {
		end()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func newName() string { return fmt.Sprintf("n%d", shared.names.Add(1)) }

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(long); !done(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, long)
		}
		// What is asked for is in another process, on two processors.
		time.Sleep(time.Millisecond)
	}
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), long)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stateOfLog asks until the engine says.
func stateOfLog(t testing.TB, e fleet.Engine) fleet.State {
	t.Helper()
	var state fleet.State
	var err error
	eventually(t, "the engine says the state", func() bool {
		_, state, err = e.Nodes(within(t))
		return err == nil
	})
	return state
}

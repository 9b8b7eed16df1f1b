//go:build !windows

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestPurgeHoldsInTheFleet checks the promise of purges on five real Caddys that share one Redis.
// Readers and a purger choose a node at random. Meanwhile nodes are killed and started again on
// their old disk, stopped for longer than the fence, stopped in order, and Redis is restarted empty
// or killed. After a purge has answered, on whatever node, no request that starts later may see an
// older version, on whatever node. It goes on for a few seconds, or for as long as LARDER_HISTORY
// says (a duration):
//
//	LARDER_HISTORY=10m go test -run TestPurgeHoldsInTheFleet -timeout 30m ./e2e
func TestPurgeHoldsInTheFleet(t *testing.T) {
	t.Parallel()
	length := max(historyLength(t), 10*time.Second)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)

	f := newHistoryFleet(t, 5, fleetFence, 100*time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var load sync.WaitGroup
	for i := range 8 {
		load.Go(func() { f.reader(ctx, t, rand.New(rand.NewPCG(seed, uint64(i+1)))) })
	}
	load.Go(func() { f.purger(ctx, t, rand.New(rand.NewPCG(seed, 100))) })
	random := rand.New(rand.NewPCG(seed, 0))
	faults := make(map[string]int)
	// On a slow machine it goes on until something has been tried.
	for begun := time.Now(); time.Since(begun) < length || f.untried() && time.Since(begun) < length+time.Minute; {
		faults[f.fault(random)]++
	}
	cancel()
	load.Wait()
	t.Logf("faults %v, %d fetches", faults, f.fetches.Load())
	f.report(t)
}

// fleetFence is the shortest that can be configured, so that much happens at its end.
const fleetFence = time.Second

// historyFleet is a killWorld of several nodes and their Redis.
type historyFleet struct {
	*killWorld
	redis *redisServer
}

// newHistoryFleet starts a Redis and nodes at 127.0.0.1, 127.0.0.2 and so on, at the same port:
// nodes share what listeners with the same port have stored.
func newHistoryFleet(t *testing.T, nodes int, fence, timeout time.Duration) *historyFleet {
	t.Helper()
	f := &historyFleet{killWorld: &killWorld{purges: make(map[string]int)}, redis: startRedis(t)}
	origin := httptest.NewServer(f.killWorld)
	t.Cleanup(origin.Close)
	port := freePort(t)
	f.host = fmt.Sprintf("fleet.test:%d", port)
	f.options = fmt.Sprintf("shared redis://127.0.0.1:%d {\nfence %s\ntimeout %s\nsecret history\n}",
		f.redis.port, fence, timeout)
	for n := range nodes {
		address := fmt.Sprintf("127.0.0.%d", n+1)
		if probe, err := net.Listen("tcp", address+":0"); err != nil {
			t.Skipf("SKIPPED, the nodes of a fleet need %s: %v", address, err)
		} else {
			probe.Close()
		}
		c := newProcess(t)
		c.site = fmt.Sprintf("%s:%d", address, port)
		if err := os.WriteFile(c.config, []byte(f.caddyfile(c, origin.URL)), 0o600); err != nil {
			t.Fatal(err)
		}
		f.nodes = append(f.nodes, c)
		c.start()
		t.Cleanup(c.kill)
	}
	return f
}

// fault does something to a node or to Redis, mends it, and returns what it was.
func (f *historyFleet) fault(random *rand.Rand) string {
	node := f.any(random)
	switch random.IntN(9) {
	case 0, 1:
		node.kill()
		pause(random, 300*time.Millisecond)
		node.start()
		return "killed"
	case 2, 3:
		node.signal(syscall.SIGSTOP)
		time.Sleep(fleetFence)
		pause(random, 2*fleetFence)
		node.signal(syscall.SIGCONT)
		return "stood still"
	case 4:
		node.stop()
		node.start()
		return "restarted in order"
	case 8:
		for _, node := range f.nodes {
			node.stop()
			node.start()
		}
		return "all restarted in turn"
	case 5:
		f.redis.kill()
		pause(random, 2*fleetFence)
		f.redis.start()
		return "Redis lost everything"
	case 6:
		f.redis.signal(syscall.SIGSTOP)
		pause(random, 2*fleetFence)
		f.redis.signal(syscall.SIGCONT)
		return "Redis stood still"
	default:
		pause(random, time.Second)
		return "none"
	}
}

func pause(random *rand.Rand, most time.Duration) {
	time.Sleep(time.Duration(random.Int64N(int64(most))))
}

// TestOneFetchForTheFleet: however many ask a node each for something cold at the same time, the
// origin is asked once.
func TestOneFetchForTheFleet(t *testing.T) {
	t.Parallel()
	const nodes, requests = 3, 40
	f := newHistoryFleet(t, nodes, time.Minute, 10*time.Second) // a busy machine takes no pass away
	for _, c := range f.nodes {
		(&fleetNode{c, http.DefaultClient}).awaits("held")
	}
	for n := range 3 {
		before := f.fetches.Load()
		var clients sync.WaitGroup
		for i := range nodes * requests {
			clients.Go(func() {
				if status, _, _ := f.call(t.Context(), http.MethodGet, f.nodes[i%nodes].page(n), ""); status != http.StatusOK {
					t.Errorf("status %d", status)
				}
			})
		}
		clients.Wait()
		if got := f.fetches.Load() - before; got != 1 {
			t.Errorf("%d requests at %d nodes were %d fetches, want 1", nodes*requests, nodes, got)
		}
	}
}

// TestExampleFleet runs the script of the example, which checks what it shows.
func TestExampleFleet(t *testing.T) {
	t.Parallel()
	startRedis(t).kill() // is there one?
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	script := exec.Command("bash", filepath.Join(treeRoot, "testdata/examples/fleet/run"))
	script.Env = append(os.Environ(), "CADDY="+binary, "TIMEOUT=10s") // a busy machine is no failure
	for _, name := range []string{"PORT", "ADMIN_A", "ADMIN_B", "ORIGIN_PORT", "REDIS_PORT"} {
		script.Env = append(script.Env, fmt.Sprintf("%s=%d", name, freePort(t)))
	}
	if out, err := script.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func (c *caddyProcess) signal(s syscall.Signal) { _ = c.cmd.Process.Signal(s) }

//go:build unix

package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
)

// follow makes a server the replica of another, and returns when it has all that there is.
func (s *server) follow(primary *server) {
	s.t.Helper()
	s.do("REPLICAOF", "127.0.0.1", fmt.Sprint(primary.port))
	eventually(s.t, "the replica is there", func() bool {
		return strings.Contains(s.infoOf("replication"), "master_link_status:up")
	})
}

// infoOf is "" where there is no answer: a server that is promoted ends its connections.
func (s *server) infoOf(section string) string {
	c, err := s.client()
	if err != nil {
		return ""
	}
	info, _ := c.Do(context.Background(), c.B().Info().Section(section).Build()).ToString()
	return info
}

// newReplica starts one.
func newReplica(t *testing.T, primary *server, args ...string) *server {
	t.Helper()
	s := newServer(t, append([]string{"--repl-diskless-sync-delay", "0"}, args...)...)
	s.follow(primary)
	return s
}

// appendSoon waits for replicas for seconds.
func appendSoon(t *testing.T, e *Engine, replicas int) (fleet.Appended, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return e.Append(ctx, fleet.Place{}, []byte("x"), replicas)
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	a := newServer(t, "--repl-diskless-sync-delay", "0")
	b := newReplica(t, a)
	e, onReplica := a.open(t), b.open(t)
	has := func() {
		t.Helper()
		if out, err := e.Append(within(t), fleet.Place{}, []byte("x"), 1); out.Replicas != 1 || err != nil {
			t.Errorf("%d replicas have it, %v, want 1", out.Replicas, err)
		}
	}
	soon := func(replicas int) (int, error) {
		out, err := appendSoon(t, e, replicas)
		return out.Replicas, err
	}
	has()
	if n, err := e.Replicas(within(t)); n != 1 || err != nil {
		t.Errorf("Replicas is %d, %v", n, err)
	}
	if n, err := onReplica.Replicas(within(t)); n != 0 || err != nil {
		t.Errorf("a replica's Replicas is %d, %v", n, err)
	}
	eventually(t, "one of two has it", func() bool { // 0 where its word came too late
		n, err := soon(2)
		if n > 1 {
			t.Fatalf("of two %d have it, want 1", n)
		}
		return err == nil && n == 1
	})
	b.signal(syscall.SIGSTOP)
	eventually(t, "none has it", func() bool { // an error where all the time was over before the wait began
		n, err := soon(1)
		if n != 0 {
			t.Errorf("%d have it while the replica is stopped", n)
		}
		return err == nil
	})
	b.signal(syscall.SIGCONT)
	must(t, e.PutRecord(within(t), "key", "v", []byte("record"), []byte("row"), time.Hour))
	has()
	if _, err := onReplica.Append(within(t), fleet.Place{}, []byte("x"), 0); !errors.Is(err, fleet.ErrReadOnly) {
		t.Errorf("append to a replica: %v", err)
	}
	if record, index, err := onReplica.Find(within(t), "key", "v"); err != nil || string(record) != "record" || len(index) != 1 {
		t.Errorf("a replica has %q, %v, %v", record, index, err)
	}
}

// Two replicas that have lost the same suffix are promoted, one after the other has failed: none of
// the three gives a generation to two records.
func TestPromotionsThatLose(t *testing.T) {
	t.Parallel()
	a := newServer(t, "--repl-diskless-sync-delay", "0")
	b, c := newReplica(t, a), newReplica(t, a)
	e := a.open(t)
	kept, err := e.Append(within(t), fleet.Place{}, []byte("kept"), 2)
	if err != nil || kept.Replicas != 2 {
		t.Fatal(kept, err)
	}
	for _, s := range []*server{b, c} {
		// It goes on as a replica that does not reach its primary.
		s.do("REPLICAOF", "127.0.0.1", fmt.Sprint(freePort(t)))
	}
	seen := map[fleet.Generation]string{}
	for _, s := range []*server{a, b, c} {
		if s != a {
			s.do("REPLICAOF", "NO", "ONE")
		}
		e := s.open(t)
		before := stateOfLog(t, e)
		if s != a && (before.Epoch != kept.State.Epoch || before.Mark != before.Tail || before.Tail <= kept.Generation+1<<32) {
			t.Errorf("%+v, was %+v", before, kept.State)
		}
		for range 50 {
			out, err := e.Append(within(t), fleet.Place{}, []byte(s.address()), 0)
			must(t, err)
			if other := seen[out.Generation]; other != "" {
				t.Fatalf("%d is of %s and of %s", out.Generation, other, s.address())
			}
			seen[out.Generation] = s.address()
		}
		for _, r := range recordsAfter(t, e, kept.Generation) {
			if !r.Mark && string(r.Data) != s.address() {
				t.Errorf("%d has %q", r.Generation, r.Data)
			}
		}
	}
}

func recordsAfter(t *testing.T, e *Engine, after fleet.Generation) []fleet.Record {
	t.Helper()
	records, _, err := e.Read(within(t), fleet.Place{}, after, 10_000, 0)
	must(t, err)
	return records
}

// Three Sentinels promote the replica of a primary that is killed.
func TestSentinels(t *testing.T) {
	t.Parallel()
	a := newServer(t, "--repl-diskless-sync-delay", "0")
	b := newReplica(t, a)
	var sentinels []*server
	for range 3 {
		sentinels = append(sentinels, newSentinel(t, a))
	}
	eventually(t, "the Sentinels know of all", func() bool {
		for _, s := range sentinels {
			m := s.do("SENTINEL", "MASTER", "main")
			facts, err := m.AsStrMap()
			if err != nil || facts["num-other-sentinels"] != "2" || facts["num-slaves"] != "1" {
				return false
			}
		}
		return true
	})
	config := Config{Sentinel: "main"}
	for _, s := range sentinels {
		config.Addresses = append(config.Addresses, s.url())
	}
	e := open(t, config)
	was := worksAgain(t, e)
	var out fleet.Appended
	var err error
	eventually(t, "the replica has a record", func() bool {
		out, err = appendSoon(t, e, 1)
		return err == nil && out.Replicas == 1
	})
	if strings.Contains(b.infoOf("replication"), "role:master") { // a busy machine has had them change already
		a, b = b, a
	}
	begun := time.Now()
	a.kill()
	sentinels[0].kill()
	var is fleet.State
	eventually(t, "the replica is promoted", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, is, err = e.Nodes(ctx)
		return err == nil
	})
	t.Logf("promoted after %v", time.Since(begun))
	if is.Epoch != was.Epoch || is.Mark <= out.Generation {
		t.Errorf("%+v, was %+v", is, was)
	}
	eventually(t, "the replica is one no more", func() bool {
		return strings.Contains(b.infoOf("replication"), "role:master")
	})
	worksAgain(t, e)
}

// TestSentinelsWithAPassword get the one of the primary, where they want one.
func TestSentinelsWithAPassword(t *testing.T) {
	t.Parallel()
	primary := newServer(t)
	none, closed := newSentinel(t, primary), newSentinel(t, primary, "requirepass right")
	acl := newSentinel(t, primary, "user default off", "user larder on >right +@all")
	primary.do("ACL", "SETUSER", "larder", "on", ">right", "~*", "&*", "+@all")
	primary.do("CONFIG", "SET", "requirepass", "right")
	address := func(user string, s *server) string { return strings.Replace(s.url(), "://", "://"+user+"@", 1) }
	for name, addresses := range map[string][]string{
		"none of them wants one": {address(":right", none)}, "one wants a password": {address(":right", closed)},
		"one wants a user":    {address("larder:right", acl)},
		"the first wants one": {address(":right", closed), none.url()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			worksAgain(t, open(t, Config{Addresses: addresses, Sentinel: "main", Name: newName()}))
		})
	}
	t.Run("another password", func(t *testing.T) {
		t.Parallel()
		e := open(t, Config{Addresses: []string{address(":wrong", closed)}, Sentinel: "main", Name: newName()})
		for range 3 {
			if _, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0); !errors.Is(err, fleet.ErrRefused) {
				t.Error(err)
			}
		}
	})
}

func newSentinel(t *testing.T, primary *server, more ...string) *server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	must(t, os.WriteFile(file, []byte(fmt.Sprintf(`sentinel monitor main 127.0.0.1 %d 2
sentinel down-after-milliseconds main 2000
sentinel failover-timeout main 3000
%s
`, primary.port, strings.Join(more, "\n"))), 0o600))
	s := &server{t: t, dir: filepath.Dir(file), binary: serverProgram(t), port: freePort(t)}
	s.before, s.args = []string{file, "--sentinel"}, nil
	s.connect()
	t.Cleanup(s.end)
	s.start()
	return s
}

// A Cluster of three has the same to say as one server.
func TestCluster(t *testing.T) {
	t.Parallel()
	servers := newCluster(t)
	var addresses []string
	for _, s := range servers {
		addresses = append(addresses, s.url())
	}
	fleettest.TestEngine(t, func(t *testing.T) []fleet.Engine {
		name := newName()
		return []fleet.Engine{
			open(t, Config{Addresses: addresses, Name: name}),
			open(t, Config{Addresses: addresses[:1], Name: name}), // it learns of the others
		}
	})
	t.Run("a server is killed", func(t *testing.T) {
		t.Parallel()
		servers := newCluster(t)
		e := open(t, Config{Addresses: []string{servers[0].url(), servers[1].url(), servers[2].url()}})
		was := worksAgain(t, e)
		for _, s := range servers {
			s.kill()
			s.start()
		}
		if is := worksAgain(t, e); is.Epoch == was.Epoch {
			t.Errorf("the epoch is %q still, after all has been lost", is.Epoch)
		}
	})
	t.Run("the log moves to another server", func(t *testing.T) {
		t.Parallel()
		servers := newCluster(t)
		e := open(t, Config{Addresses: []string{servers[0].url(), servers[1].url(), servers[2].url()}})
		was := worksAgain(t, e)
		moveSlot(t, servers, "{larder:1:larder}:log", "{larder:1:larder}:fleet")
		// Another server may have another past: a term begins there.
		if is := worksAgain(t, e); is.Epoch != was.Epoch || is.Mark <= was.Tail {
			t.Errorf("%+v, was %+v", is, was)
		}
	})
}

// newCluster starts three servers with a third of the slots each.
func newCluster(t *testing.T) []*server {
	t.Helper()
	servers := make([]*server, 3)
	for i := range servers {
		servers[i] = newServer(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "30000", "--appendonly", "no")
	}
	for i, s := range servers {
		s.do("CLUSTER", "SET-CONFIG-EPOCH", fmt.Sprint(i+1))
		s.do("CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(i*16384/3), fmt.Sprint((i+1)*16384/3-1))
		s.do("CLUSTER", "MEET", "127.0.0.1", fmt.Sprint(servers[0].port))
	}
	eventually(t, "the Cluster is whole", func() bool {
		for _, s := range servers {
			m := s.do("CLUSTER", "INFO")
			info, _ := m.ToString()
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") {
				return false
			}
		}
		return true
	})
	return servers
}

// moveSlot moves all keys of a slot to the server that comes after its own.
func moveSlot(t *testing.T, servers []*server, keys ...string) {
	t.Helper()
	m := servers[0].do("CLUSTER", "KEYSLOT", keys[0])
	slot, err := m.AsInt64()
	must(t, err)
	var ids []string
	for _, s := range servers {
		m := s.do("CLUSTER", "MYID")
		id, _ := m.ToString()
		ids = append(ids, id)
	}
	from := 0
	for (from+1)*16384/3-1 < int(slot) {
		from++
	}
	to := (from + 1) % 3
	number := fmt.Sprint(slot)
	servers[to].do("CLUSTER", "SETSLOT", number, "IMPORTING", ids[from])
	servers[from].do("CLUSTER", "SETSLOT", number, "MIGRATING", ids[to])
	servers[from].do(append([]string{"MIGRATE", "127.0.0.1", fmt.Sprint(servers[to].port), "", "0", "5000", "KEYS"}, keys...)...)
	for i := range servers {
		servers[(to+i)%3].do("CLUSTER", "SETSLOT", number, "NODE", ids[to])
	}
}

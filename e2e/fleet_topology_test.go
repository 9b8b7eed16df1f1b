package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// says is what redis-cli prints for a command. Where the server gives no answer it is an error.
func (r *redisServer) says(words ...string) string {
	r.t.Helper()
	program, err := exec.LookPath("redis-cli")
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{"-p", fmt.Sprint(r.port)}, words...)...)
	if r.auth != "" {
		cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+r.auth)
	}
	out, _ := cmd.CombinedOutput()
	return string(out)
}

// saysSo returns when the answer to a command has all of some parts.
func (r *redisServer) saysSo(command string, parts ...string) {
	r.t.Helper()
	eventually(r.t, command+" at a server of Redis", func() bool {
		answer := r.says(strings.Fields(command)...)
		for _, part := range parts {
			if !strings.Contains(answer, part) {
				return false
			}
		}
		return true
	})
}

// must has a command succeed.
func (r *redisServer) must(command string) {
	r.t.Helper()
	if answer := r.says(strings.Fields(command)...); strings.TrimSpace(answer) != "OK" {
		r.t.Fatalf("%s: %s", command, answer)
	}
}

// startSentinel starts one that watches a primary by the name "main", and wants a password.
func startSentinel(t *testing.T, primary *redisServer, password string) *redisServer {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf(`sentinel monitor main 127.0.0.1 %d 2
sentinel auth-pass main %s
sentinel sentinel-pass %s
requirepass %s
sentinel down-after-milliseconds main 2000
sentinel failover-timeout main 3000
`, primary.port, password, password, password)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &redisServer{t: t, program: primary.program, port: freePort(t), auth: password, first: []string{file, "--sentinel"}}
	t.Cleanup(s.kill)
	s.start()
	return s
}

// addresses are the URLs of servers, for shared.
func addresses(user string, servers ...*redisServer) string {
	var urls []string
	for _, s := range servers {
		urls = append(urls, fmt.Sprintf("redis://%s127.0.0.1:%d", user, s.port))
	}
	return strings.Join(urls, " ")
}

// sharesAndPurges checks what a fleet is for: what one node has fetched the other answers with, and
// a purge on one holds on both. It returns the version of the page by then.
func sharesAndPurges(t *testing.T, nodes []*fleetNode, path string, version int) int {
	t.Helper()
	a, b := nodes[0], nodes[1]
	body := fmt.Sprint("version ", version)
	a.wants(path, fleetMiss, body)
	eventually(t, "the response is shared", func() bool {
		_, got := b.ask(http.MethodGet, path)
		status, _ := b.ask(http.MethodGet, path)
		return got == body && status == fleetHit
	})
	a.ask(http.MethodPut, "/other") // a new version, of which no cache hears
	status, p := b.purges(`{"tags":["page"]}`)
	if status != http.StatusOK || p.Nodes != 2 {
		t.Errorf("the purge: %d %+v", status, p)
	}
	body = fmt.Sprint("version ", version+1)
	for i, n := range nodes {
		if _, got := n.ask(http.MethodGet, path); got != body {
			t.Errorf("after the purge node %d has %q, want %q", i, got, body)
		}
	}
	return version + 1
}

// TestFleetOnSentinels: the primary is killed, and the replica takes its place, of which clients
// see nothing. The Sentinels want a password of their own, which is the primary's and in the
// address.
func TestFleetOnSentinels(t *testing.T) {
	t.Parallel()
	const password = "right"
	args := []string{"--requirepass", password, "--masterauth", password, "--repl-diskless-sync-delay", "0"}
	withPassword := func() *redisServer {
		r := startRedis(t, args...)
		r.auth = password
		return r
	}
	primary, replica := withPassword(), withPassword()
	replica.must(fmt.Sprint("REPLICAOF 127.0.0.1 ", primary.port))
	replica.saysSo("INFO replication", "master_link_status:up")
	var sentinels []*redisServer
	for range 3 {
		sentinels = append(sentinels, startSentinel(t, primary, password))
	}
	for _, s := range sentinels {
		s.saysSo("SENTINEL MASTER main", "num-other-sentinels\n2\n", "num-slaves\n1\n")
	}

	o := versions(t)
	nodes := newFleet(t, 2, "shared "+addresses(":"+password+"@", sentinels...)+` {
		sentinel main
		replicas 1
		fence    5s
		timeout  10s
	}`, o)
	for _, n := range nodes {
		n.start()
		n.awaits("held")
	}
	version := sharesAndPurges(t, nodes, "/", 1)
	if strings.Contains(replica.says("INFO", "replication"), "role:master") { // a busy machine has had them change already
		primary, replica = replica, primary
		replica.saysSo("INFO replication", "master_link_status:up")
	}
	before := nodes[0].fleetStats().Epoch

	primary.kill()
	for range 20 { // while there is none, too
		for _, n := range nodes {
			if _, body := n.ask(http.MethodGet, "/"); body != fmt.Sprint("version ", version) {
				t.Fatalf("%s answers %q, want version %d", n.site, body, version)
			}
		}
	}
	replica.saysSo("INFO replication", "role:master")
	for _, n := range nodes {
		eventually(t, n.site+" is in the fleet of the new primary", func() bool {
			s := n.fleetStats()
			return s.State == "held" && s.Epoch != before
		})
	}
	// It has no replica, so a purge that waits for one says that it may be lost.
	if status, p := nodes[0].purges(`{"tags":["page"]}`); status != http.StatusServiceUnavailable || !strings.Contains(p.Error, "replica") {
		t.Errorf("a purge without a replica: %d %+v", status, p)
	}
	another := withPassword()
	another.must(fmt.Sprint("REPLICAOF 127.0.0.1 ", replica.port))
	another.saysSo("INFO replication", "master_link_status:up")
	sharesAndPurges(t, nodes, "/new", version)
}

// TestFleetOnACluster of three servers, each of which has a third of the keys.
func TestFleetOnACluster(t *testing.T) {
	t.Parallel()
	var servers []*redisServer
	for i := range 3 {
		s := startRedis(t, "--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(freePort(t)))
		s.must(fmt.Sprint("CLUSTER SET-CONFIG-EPOCH ", i+1))
		s.must(fmt.Sprintf("CLUSTER ADDSLOTSRANGE %d %d", i*16384/3, (i+1)*16384/3-1))
		servers = append(servers, s)
	}
	for _, s := range servers[1:] {
		s.must(fmt.Sprintf("CLUSTER MEET 127.0.0.1 %d %s", servers[0].port, servers[0].args[3]))
	}
	for _, s := range servers {
		s.saysSo("CLUSTER INFO", "cluster_state:ok", "cluster_known_nodes:3")
	}
	nodes := newFleet(t, 2, "shared "+addresses("", servers...)+" {\ntimeout 10s\n}", versions(t))
	for _, n := range nodes {
		n.start()
		n.awaits("held")
	}
	version := 1
	for i := range 3 {
		version = sharesAndPurges(t, nodes, fmt.Sprint("/", i), version)
	}
	for i := range 30 { // the keys of a few URLs may all be one server's
		nodes[0].ask(http.MethodGet, fmt.Sprint("/many/", i))
	}
	for _, s := range servers {
		eventually(t, "a third of the keys is this server's", func() bool { return strings.TrimSpace(s.says("DBSIZE")) != "0" })
	}
}

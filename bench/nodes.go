package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// nodesHost is the Host of requests to any node: what a client asks for is the same everywhere.
const nodesHost = "nodes.example"

// nodes are some machines with one cache: each is a Caddy at an address of 127.0.0.0/8, all at the
// same port, because what came in at the same port is what nodes share.
type nodes struct {
	*bench
	redis *redisServer
	port  string
	fence time.Duration
	all   []*subject
}

// serveNodes starts a Redis and n nodes that use it. With pinned set they have the server's core,
// and the Redis that of the generators.
func (b *bench) serveNodes(ctx context.Context, n int, fence time.Duration, pinned bool) (*nodes, error) {
	core := ""
	if pinned {
		core = generatorCore
	}
	redis, err := b.startRedis(ctx, core)
	if err != nil {
		return nil, err
	}
	port, err := freePort(n)
	if err != nil {
		return nil, err
	}
	all := &nodes{bench: b, redis: redis, port: port, fence: fence}
	for i := range n {
		s, err := b.serve(ctx, all.node(i, !pinned))
		if err != nil {
			return nil, err
		}
		all.all = append(all.all, s)
	}
	return all, nil
}

// node describes the node with a number.
func (n *nodes) node(i int, free bool) subjectOf {
	return subjectOf{
		name: "node", kind: larderKind, memory: "256MiB", free: free,
		host: nodeHost(i), port: n.port, shared: n.redis.block("larder", n.fence),
	}
}

func nodeHost(i int) string { return fmt.Sprintf("127.0.0.%d", i+1) }

// freePort is a port that is free at the addresses of n nodes.
func freePort(n int) (string, error) {
	const tries = 100
	for range tries {
		address, err := freeAddress()
		if err != nil {
			return "", err
		}
		port := portOf(address)
		if isFree(port, n) {
			return port, nil
		}
	}
	return "", fmt.Errorf("no port is free at 127.0.0.1 to %s: the system needs all of 127.0.0.0/8 on loopback, as Linux has it", nodeHost(n-1))
}

func isFree(port string, n int) bool {
	for i := range n {
		l, err := net.Listen("tcp", net.JoinHostPort(nodeHost(i), port))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

// awaitPass waits until a node answers from what it has.
func (b *bench) awaitPass(ctx context.Context, s *subject) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		st, err := b.stats(ctx, s)
		switch {
		case err != nil:
			return err
		case st.Shared == nil:
			return fmt.Errorf("%s: the statistics have nothing of a fleet", s.name)
		case st.Shared.State == "held":
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has no pass, it is %s:\n%s", s.name, st.Shared.State, s.process.tail())
		case <-time.After(time.Millisecond):
		}
	}
}

// cpu is the processor time that all nodes and their Redis have used.
func (n *nodes) cpu() time.Duration {
	sum := n.redis.cpu()
	for _, s := range n.all {
		sum += s.process.cpu()
	}
	return sum
}

// serveSettled starts nodes as serveNodes does, unpinned, and waits until they are settled.
func (b *bench) serveSettled(ctx context.Context, n int, fence time.Duration) (*nodes, error) {
	all, err := b.serveNodes(ctx, n, fence, false)
	if err == nil {
		err = all.settle(ctx)
	}
	return all, err
}

// settle waits until purges do not wait for the term to be older than the fence.
func (n *nodes) settle(ctx context.Context) error {
	a, err := n.purgeFrom(ctx, n.all[0], `{"tags":["none"]}`)
	if err == nil && (a.Nodes != len(n.all) || len(a.Fenced) > 0) {
		err = fmt.Errorf("the first purge holds on %d nodes and fences %d, want %d and none", a.Nodes, len(a.Fenced), len(n.all))
	}
	return err
}

// ask sends a GET for path to s. The Host is the same for all nodes of a fleet.
func (b *bench) ask(ctx context.Context, s *subject, path string) (reply, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.h1+path, nil)
	if err != nil {
		return reply{}, err
	}
	r.Host = s.hostHeader()
	return b.do(r)
}

// hostHeader is the Host of requests to s.
func (s *subject) hostHeader() string {
	if s.shared != "" {
		return nodesHost
	}
	return s.address
}

// kill ends the program at once, as a crash does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// fleetPurge is the answer to a purge as far as the bench looks at it.
type fleetPurge struct {
	took    time.Duration
	Matched *int
	Nodes   int
	Fenced  []string
}

// purgeFrom posts body to the admin API of s.
func (b *bench) purgeFrom(ctx context.Context, s *subject, body string) (a fleetPurge, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.admin+"/larder/purge", strings.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	// So that net/http sends it again where a reload has closed an idle connection.
	req.Header.Set("Idempotency-Key", "purge")
	start := time.Now()
	got, err := b.do(req)
	took := time.Since(start)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(got.body, &a); err != nil || a.Matched == nil || got.status != http.StatusOK {
		return a, fmt.Errorf("purge: status %d: %s", got.status, got.body)
	}
	a.took = took
	return a, nil
}

// serialOf is the number that the origin gave to a response of ?serial=.
func serialOf(a reply) (int64, error) {
	n, err := strconv.ParseInt(a.header.Get("Serial"), 10, 64)
	if err != nil || a.status != http.StatusOK {
		return 0, errors.Join(fmt.Errorf("status %d, Cache-Status %q", a.status, a.cacheStatus), err)
	}
	return n, nil
}

package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// The fleet's cases run a Redis of their own, as it is installed: no persistence, because what a
// disk costs it is no matter of Larder's.

const (
	redisProgram = "redis-server"
	redisLoad    = "redis-benchmark"
	redisHint    = redisProgram + " or " + redisLoad + " is missing; on Debian: apt-get install -y redis-server"
)

// redisServer is a running Redis.
type redisServer struct {
	*process
	address string
}

func redisInstalled() bool {
	_, noServer := exec.LookPath(redisProgram)
	_, noLoad := exec.LookPath(redisLoad)
	return errors.Join(noServer, noLoad) == nil
}

// startRedis starts a Redis on the core of the generators, or with "" on any.
func (b *bench) startRedis(ctx context.Context, core string) (*redisServer, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	b.served++
	p, err := b.start(fmt.Sprintf("redis-%d", b.served), core, nil, redisProgram,
		"--bind", "127.0.0.1", "--port", portOf(address), "--save", "", "--appendonly", "no", "--dir", b.dir)
	if err != nil {
		return nil, err
	}
	return &redisServer{p, address}, p.awaitPort(ctx, address)
}

// awaitPort waits until the program takes connections.
func (p *process) awaitPort(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s has ended:\n%s", p.name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s takes no connections: %w:\n%s", p.name, err, p.tail())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// block is what a node's configuration says of the fleet. Fleets of other names keep apart.
func (s *redisServer) block(name string, fence time.Duration) string {
	return fmt.Sprintf("\t\tshared redis://%s {\n\t\t\tname %s\n\t\t\tfence %s\n\t\t}\n", s.address, name, fence)
}

// benchmarkGet sends n plain GETs of a value of size bytes, one after the other on one connection.
func (b *bench) benchmarkGet(ctx context.Context, s *redisServer, size, n int) (p50, p99 time.Duration, err error) {
	out, err := b.tool(ctx, redisLoad, "-h", "127.0.0.1", "-p", portOf(s.address), "-t", "set,get",
		"-d", strconv.Itoa(size), "-c", "1", "-n", strconv.Itoa(n), "--csv")
	if err != nil {
		return 0, 0, err
	}
	return parseRedisBenchmark(out)
}

// parseRedisBenchmark reads the line of GET from the table that redis-benchmark writes. Its times
// are in milliseconds.
func parseRedisBenchmark(out []byte) (p50, p99 time.Duration, err error) {
	table, err := csv.NewReader(strings.NewReader(string(out))).ReadAll()
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", redisLoad, err)
	}
	for _, line := range table[1:] {
		if line[0] != "GET" {
			continue
		}
		found := 0
		for i, column := range table[0] {
			into := map[string]*time.Duration{"p50_latency_ms": &p50, "p99_latency_ms": &p99}[column]
			if into == nil {
				continue
			}
			if *into, err = time.ParseDuration(line[i] + "ms"); err != nil {
				return 0, 0, fmt.Errorf("%s: %w", redisLoad, err)
			}
			found++
		}
		if found == 2 {
			return p50, p99, nil
		}
	}
	return 0, 0, fmt.Errorf("%s: no latencies of GET in %q", redisLoad, out)
}

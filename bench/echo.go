package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Upgraded connections: what WebSocket is to a proxy, without its frames. wrk knows no such thing,
// so the bench's own binary is the generator, in a process of its own that can be pinned as wrk is.

const (
	echoProtocol = "bench-echo"
	echoMessage  = kib
	echoMessages = 100 // on a connection, then another is opened
	// echoTimeout is how long past its end a generator waits for an answer on a busy machine.
	echoTimeout = time.Minute
	// echoEnv makes the bench's own binary a generator of echoes, for the job in it as JSON.
	echoEnv = "LARDER_BENCH_ECHOES"
)

// echoJob is what such a generator is told.
type echoJob struct {
	Address string
	Conns   int
	Length  time.Duration
}

// echoed is what it answers.
type echoed struct {
	Requests int
	Rate     float64
	P50, P99 time.Duration
}

// echo is the origin's side: 101, then every byte back.
func echo(w http.ResponseWriter) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "no upgrade on this connection", http.StatusBadRequest)
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+echoProtocol+"\r\n\r\n"); err != nil {
		return
	}
	_, _ = io.Copy(conn, buffered)
}

// echo runs the generator to its end.
func (b *bench) echo(ctx context.Context, base string, l load, d time.Duration) (turn, error) {
	if b.short {
		d = 200 * time.Millisecond
	}
	job, err := json.Marshal(echoJob{strings.TrimPrefix(base, "http://"), l.conns, d})
	if err != nil {
		return turn{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return turn{}, err
	}
	out, err := b.tool(ctx, "env", echoEnv+"="+string(job), self)
	if err != nil {
		return turn{}, err
	}
	var e echoed
	if err := json.Unmarshal(out, &e); err != nil {
		return turn{}, fmt.Errorf("echoes: %w: %q", err, out)
	}
	return turn{requests: e.Requests, rate: e.Rate, p50: e.P50, p99: e.P99}, nil
}

// runEchoes is the generator.
func runEchoes(text string) error {
	var job echoJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return fmt.Errorf("%s: %w", echoEnv, err)
	}
	began := time.Now()
	end := began.Add(job.Length)
	all := make([][]time.Duration, job.Conns)
	errs := make([]error, job.Conns)
	var group sync.WaitGroup
	for i := range job.Conns {
		group.Go(func() {
			for {
				took, err := echoConnection(job.Address, end)
				all[i] = append(all[i], took...)
				if errs[i] = err; err != nil || !time.Now().Before(end) {
					return
				}
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var took []time.Duration
	for _, t := range all {
		took = append(took, t...)
	}
	e := echoed{Requests: len(took), Rate: float64(len(took)) / time.Since(began).Seconds()}
	e.P50, e.P99 = quantiles(took)
	return json.NewEncoder(os.Stdout).Encode(e)
}

// echoConnection upgrades one connection, sends messages over it until end, at least one, and
// returns what each took.
func echoConnection(address string, end time.Time) (took []time.Duration, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(end.Add(echoTimeout)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "GET /echo HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", address, echoProtocol); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // empty
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("echoes: status %d, want 101", resp.StatusCode)
	}
	sent, got := bytes.Repeat([]byte("m"), echoMessage), make([]byte, echoMessage)
	for n := 0; n == 0 || n < echoMessages && time.Now().Before(end); n++ {
		sent[0] = byte(n)
		began := time.Now()
		if _, err := conn.Write(sent); err != nil {
			return took, err
		}
		if _, err := io.ReadFull(in, got); err != nil {
			return took, err
		}
		if !bytes.Equal(got, sent) {
			return took, errors.New("echoes: another message came back")
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

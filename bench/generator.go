package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// load is what a generator sends: requests to one server over a number of connections.
type load struct {
	h2     bool
	echoes bool // messages on upgraded connections
	conns  int
	method string
	path   string // `%d` in it stands for a number
	count  int    // where above 0 the number is a random one below it, else it counts up from from
	from   int
}

// turn is what a generator found in one round.
type turn struct {
	requests int
	rate     float64       // requests a second
	p50, p99 time.Duration // latency as the generator sees it, in a closed loop
}

// generate drives base for d with the tool for l.
func (b *bench) generate(ctx context.Context, base string, l load, d time.Duration) (turn, error) {
	switch {
	case l.echoes:
		return b.echo(ctx, base, l, d)
	case b.short:
		return b.drive(ctx, base, l)
	case l.h2:
		return b.h2load(ctx, base, l, d)
	}
	return b.wrk(ctx, base, l, d)
}

// wrk is HTTP/1.1.
func (b *bench) wrk(ctx context.Context, base string, l load, d time.Duration) (turn, error) {
	script := filepath.Join(b.dir, "load.lua")
	if err := os.WriteFile(script, []byte(l.lua(strings.TrimPrefix(base, "http://"))), 0o600); err != nil {
		return turn{}, err
	}
	out, err := b.tool(ctx, "wrk", "-t1", "-c"+strconv.Itoa(l.conns), "-d"+wholeSeconds(d),
		"--timeout", "10s", "--latency", "-s", script, base)
	if err != nil {
		return turn{}, err
	}
	return parseWrk(out)
}

// lua is a script for wrk that makes the requests. Their text is put together here: wrk.format
// would cost the generator more than the request costs the server.
func (l load) lua(host string) string {
	method := l.method
	if method == "" {
		method = http.MethodGet
	}
	before, after, numbered := strings.Cut(l.path, "%d")
	tail := " HTTP/1.1\\r\\nHost: " + host + "\\r\\n"
	if method == http.MethodPost {
		tail += "Content-Length: 0\\r\\n"
	}
	tail += "\\r\\n"
	number := "n"
	switch {
	case !numbered:
		return fmt.Sprintf("local q = \"%s %s%s\"\nrequest = function() return q end\n", method, before, tail)
	case l.count > 0:
		number = fmt.Sprintf("math.random(0, %d)", l.count-1)
	}
	return fmt.Sprintf("local n = %d\nrequest = function()\n\tn = n + 1\n\treturn \"%s %s\" .. %s .. \"%s%s\"\nend\n",
		l.from-1, method, before, number, after, tail)
}

// wholeSeconds rounds up: the generators know no others.
func wholeSeconds(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}

var (
	wrkRate     = regexp.MustCompile(`(?m)^Requests/sec:\s+([\d.]+)`)
	wrkRequests = regexp.MustCompile(`(?m)^\s+(\d+) requests in`)
	wrkP50      = regexp.MustCompile(`(?m)^\s+50%\s+(\S+)`)
	wrkP99      = regexp.MustCompile(`(?m)^\s+99%\s+(\S+)`)
	wrkErrors   = regexp.MustCompile(`(?m)^\s+(Socket errors|Non-2xx or 3xx responses):.*[1-9].*$`)
)

func parseWrk(out []byte) (turn, error) {
	if bad := wrkErrors.Find(out); bad != nil {
		return turn{}, fmt.Errorf("wrk: %s", bytes.TrimSpace(bad))
	}
	var texts [4]string
	for i, expr := range []*regexp.Regexp{wrkRate, wrkRequests, wrkP50, wrkP99} {
		m := expr.FindSubmatch(out)
		if m == nil {
			return turn{}, fmt.Errorf("wrk: no match for %v in %q", expr, out)
		}
		texts[i] = string(m[1])
	}
	var r turn
	var errs [4]error
	r.rate, errs[0] = strconv.ParseFloat(texts[0], 64)
	r.requests, errs[1] = strconv.Atoi(texts[1])
	r.p50, errs[2] = time.ParseDuration(texts[2])
	r.p99, errs[3] = time.ParseDuration(texts[3])
	return r, errors.Join(errs[:]...)
}

// h2load is HTTP/2 over TLS, 10 streams a connection.
func (b *bench) h2load(ctx context.Context, base string, l load, d time.Duration) (turn, error) {
	const streams = 10
	log := filepath.Join(b.dir, "h2load.log")
	_ = os.Remove(log)
	out, err := b.tool(ctx, "h2load", "-t1", "-c"+strconv.Itoa(max(1, l.conns/streams)), "-m"+strconv.Itoa(streams),
		"-D"+wholeSeconds(d), "--log-file="+log, base+l.path)
	if err != nil {
		return turn{}, err
	}
	file, err := os.Open(log)
	if err != nil {
		return turn{}, fmt.Errorf("h2load: %w", err)
	}
	defer file.Close()
	return parseH2load(out, file)
}

var h2loadRate = regexp.MustCompile(`finished in \S+, ([\d.]+) req/s`)

// parseH2load reads the rate from the output and the latencies from the log: a line is start,
// status and duration, times in microseconds.
func parseH2load(out []byte, log io.Reader) (turn, error) {
	m := h2loadRate.FindSubmatch(out)
	if m == nil {
		return turn{}, fmt.Errorf("h2load: no rate in %q", out)
	}
	var r turn
	rate, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		return turn{}, fmt.Errorf("h2load: rate: %w", err)
	}
	r.rate = rate
	var took []time.Duration
	for lines := bufio.NewScanner(log); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			return turn{}, fmt.Errorf("h2load: log line %q", lines.Text())
		}
		us, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return turn{}, fmt.Errorf("h2load: log line %q: %w", lines.Text(), err)
		}
		if fields[1] != "200" {
			return turn{}, fmt.Errorf("h2load: a response with status %s", fields[1])
		}
		took = append(took, time.Duration(us)*time.Microsecond)
	}
	r.requests = len(took)
	r.p50, r.p99 = quantiles(took)
	return r, nil
}

// quantiles returns the median and the 99th percentile, and sorts d.
func quantiles(d []time.Duration) (p50, p99 time.Duration) {
	if len(d) == 0 {
		return 0, 0
	}
	slices.Sort(d)
	return d[len(d)/2], d[len(d)*99/100]
}

// driveRequests is how many requests drive sends.
const driveRequests = 1000

// drive sends a few requests with Go's client and looks at each answer: for the short form, which
// asks whether the bench and the servers do what they say, not how fast.
func (b *bench) drive(ctx context.Context, base string, l load) (turn, error) {
	var (
		mu    sync.Mutex
		took  []time.Duration
		group sync.WaitGroup
		first error
	)
	start := time.Now()
	for worker := range l.conns {
		group.Go(func() {
			for i := worker; i < driveRequests; i += l.conns {
				began := time.Now()
				err := b.driveOne(ctx, base, l, i)
				mu.Lock()
				took = append(took, time.Since(began))
				if first == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	r := turn{requests: len(took), rate: float64(len(took)) / time.Since(start).Seconds()}
	r.p50, r.p99 = quantiles(took)
	return r, first
}

func (b *bench) driveOne(ctx context.Context, base string, l load, i int) error {
	path := l.path
	if strings.Contains(path, "%d") {
		n := l.from + i
		if l.count > 0 {
			n = i % l.count
		}
		path = fmt.Sprintf(path, n)
	}
	a, err := b.request(ctx, l.method, base+path)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK || a.size != wantSize(path) {
		return fmt.Errorf("%s%s: status %d with %d bytes, want 200 with %d", base, path, a.status, a.size, wantSize(path))
	}
	if l.h2 != (a.proto == "HTTP/2.0") {
		return fmt.Errorf("%s%s: answered in %s", base, path, a.proto)
	}
	return nil
}

// wantSize is the length of the body that the origin and the ceiling have for path.
func wantSize(path string) int64 {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	size, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return -1
	}
	if strings.HasSuffix(path, "?sse") {
		return sseEvents * (size + int64(len("data: \n\n")))
	}
	return size
}

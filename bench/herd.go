package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	herdSize    = 1000
	herdBody    = 64 * kib
	herdCount   = 5
	herdLimit   = 40.0 // ms, of a follower's first byte behind the leader's
	herdTimeout = 30 * time.Second
)

// herd sends many requests for one cold URL at the same time, and again for others.
func herd(ctx context.Context, b *bench, c *benchCase, r *report) error {
	s, err := b.serve(ctx, inMemory)
	if err != nil {
		return err
	}
	size, herds := herdSize, herdCount
	if b.short {
		size, herds = size/10, 1
	}
	// Connections are opened before, and what they cost is part of the base.
	crowd, err := gather(ctx, s, size)
	if err != nil {
		return err
	}
	defer crowd.leave()
	if _, err := crowd.stampede(fmt.Sprintf("/%d/open?slow", herdBody)); err != nil {
		return err
	}
	base, err := b.settledRSS(ctx, s)
	if err != nil {
		return err
	}
	lags, most := make([]float64, herds), int64(0)
	for i := range lags {
		lag, fetches, err := b.oneHerd(ctx, crowd, fmt.Sprintf("/%d/herd%d?slow", herdBody, i))
		if err != nil {
			return err
		}
		lags[i], most = milliseconds(lag), max(most, fetches)
	}
	settled, err := b.settledRSS(ctx, s)
	if err != nil {
		return err
	}
	if b.short {
		return nil
	}
	r.atMost(c, "most fetches for a herd", float64(most), "", 1)
	what := fmt.Sprintf("last first byte of %d followers behind the leader's", size-1)
	r.atMost(c, fmt.Sprintf("%s, median of %d herds", what, herds), median(lags), "ms", herdLimit)
	r.note(c, what+", longest", slices.Max(lags), "ms")
	r.atMost(c, "RssAnon after by RssAnon before", float64(settled)/float64(base), "", 1.1)
	return nil
}

// oneHerd sends a herd after a cold URL and returns how far its last follower's first byte came
// behind the leader's, and how often the origin was asked. It fails if that was not once, or by
// more than one.
func (b *bench) oneHerd(ctx context.Context, crowd crowd, path string) (lag time.Duration, fetches int64, err error) {
	before, err := b.fetches(ctx)
	if err != nil {
		return 0, 0, err
	}
	arrivals, err := crowd.stampede(path)
	if err != nil {
		return 0, 0, err
	}
	after, err := b.fetches(ctx)
	if err != nil {
		return 0, 0, err
	}
	lag, leaders := lagOf(arrivals)
	fetches = after - before
	if leaders != 1 || fetches != 1 {
		return 0, 0, fmt.Errorf("%d fetches and %d leaders, want 1", fetches, leaders)
	}
	return lag, fetches, nil
}

// arrival is one request of the herd.
type arrival struct {
	first    time.Duration // byte, since all set off
	last     time.Duration // byte of who leads, which reads at once
	follower bool
	sum      uint64 // of the body
	err      error
}

// lagOf is how far the last follower's first byte came behind the leader's.
func lagOf(arrivals []arrival) (lag time.Duration, leaders int) {
	var leader, last time.Duration
	for _, a := range arrivals {
		if a.follower {
			last = max(last, a.first)
		} else {
			leader, leaders = a.first, leaders+1
		}
	}
	return last - leader, leaders
}

// crowd is the connections of a herd. They are bare: net/http's client needs as much of a core for
// a thousand responses as the server does, and a first byte that waits for it would count as late.
type crowd []member

type member struct {
	conn net.Conn
	in   *bufio.Reader
	host string // of its requests
}

// gather opens n connections to s.
func gather(ctx context.Context, s *subject, n int) (crowd, error) {
	var c crowd
	for range n {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
		if err != nil {
			c.leave()
			return nil, err
		}
		c = append(c, member{conn, bufio.NewReader(conn), s.hostHeader()})
	}
	return c, nil
}

func (c crowd) leave() {
	for _, m := range c {
		_ = m.conn.Close()
	}
}

var bodySeed = maphash.MakeSeed()

// stampede sends a request for path on each connection at once. All must get the same whole body.
func (c crowd) stampede(path string) ([]arrival, error) {
	arrivals := make([]arrival, len(c))
	var ready, begun, done sync.WaitGroup
	ready.Add(len(c))
	begun.Add(len(c))
	set := make(chan struct{})
	var start time.Time
	for i, m := range c {
		done.Go(func() {
			a := &arrivals[i]
			ready.Done()
			<-set
			a.err = m.ask(path)
			a.first = time.Since(start)
			begun.Done()
			if a.err != nil {
				return
			}
			if m.follows() {
				begun.Wait() // what is read now keeps nobody's first byte waiting
			}
			a.follower, a.sum, a.err = m.hear()
			a.last = time.Since(start)
		})
	}
	ready.Wait()
	start = time.Now()
	close(set)
	done.Wait()
	for _, a := range arrivals {
		if a.err == nil && a.sum != arrivals[0].sum {
			a.err = errors.New("two of the herd have different bodies")
		}
		if a.err != nil {
			return nil, a.err
		}
	}
	return arrivals, nil
}

// ask sends a request and waits for the first byte of the response.
func (m member) ask(path string) error {
	if err := m.conn.SetDeadline(time.Now().Add(herdTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(m.conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, m.host); err != nil {
		return err
	}
	_, err := m.in.Peek(1)
	return err
}

// follows tells whether what has come of a response is of one that others have been fetching.
func (m member) follows() bool {
	head, _ := m.in.Peek(m.in.Buffered())
	return bytes.Contains(head, []byte("collapsed")) || bytes.Contains(head, []byte("Larder; hit"))
}

// hear reads the response.
func (m member) hear() (follower bool, sum uint64, err error) {
	got, sum, err := m.read()
	if err == nil && (got.status != http.StatusOK || got.size != herdBody) {
		err = fmt.Errorf("status %d with %d bytes, want 200 with %d", got.status, got.size, herdBody)
	}
	return strings.Contains(got.cacheStatus, "collapsed") || isHit(got), sum, err
}

// read reads the response, whatever it is. sum is that of its body.
func (m member) read() (got reply, sum uint64, err error) {
	resp, err := http.ReadResponse(m.in, nil)
	if err != nil {
		return got, 0, err
	}
	defer resp.Body.Close()
	var body maphash.Hash
	body.SetSeed(bodySeed)
	got = reply{status: resp.StatusCode, cacheStatus: resp.Header.Get("Cache-Status")}
	got.size, err = io.Copy(&body, resp.Body)
	return got, body.Sum64(), err
}

// visit sends a request for path and reads the response. took is until its end.
func (m member) visit(path string) (got reply, took time.Duration, err error) {
	start := time.Now()
	if err := m.ask(path); err != nil {
		return got, 0, err
	}
	got, _, err = m.read()
	return got, time.Since(start), err
}

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
)

// patience is how long clients wait for what has to come, on a machine however busy.
const patience = 2 * time.Minute

// answer is a whole response.
type answer struct {
	*http.Response
	body string
	err  error // of reading the body
}

// cacheStatus is our member of Cache-Status.
func (a *answer) cacheStatus() string { return a.Header.Get("Cache-Status") }

// isHit reports whether the answer came from the store.
func (a *answer) isHit() bool { return strings.HasPrefix(a.cacheStatus(), "Larder; hit") }

// ttl is the ttl parameter of our member of Cache-Status.
func (a *answer) ttl(t *testing.T) int {
	t.Helper()
	_, rest, found := strings.Cut(a.cacheStatus(), "; ttl=")
	digits, _, _ := strings.Cut(rest, ";")
	n, err := strconv.Atoi(digits)
	if !found || err != nil {
		t.Fatalf("Cache-Status %q has no ttl", a.cacheStatus())
	}
	return n
}

// wantTTL compares ttl with what it was when the response was stored, which was after begun.
func (a *answer) wantTTL(t *testing.T, want int, begun time.Time) {
	t.Helper()
	if got := a.ttl(t); got > want || got < want-secondsSince(begun) {
		t.Errorf("Cache-Status %q, want ttl=%d", a.cacheStatus(), want)
	}
}

// secondsSince is how much later dates in whole seconds may be than at begun.
func secondsSince(begun time.Time) int { return int(time.Since(begun)/time.Second) + 2 }

// want compares what a response is with what it should be; an empty string is not compared.
func (a *answer) want(t *testing.T, status int, body, cacheStatus string) {
	t.Helper()
	if a.err != nil {
		t.Errorf("reading the body: %v", a.err)
	}
	if a.StatusCode != status {
		t.Errorf("status %d, want %d (body %q)", a.StatusCode, status, a.body)
	}
	if body != "" && a.body != body {
		t.Errorf("body %q, want %q", a.body, body)
	}
	if cacheStatus != "" && a.cacheStatus() != cacheStatus {
		t.Errorf("Cache-Status %q, want %q", a.cacheStatus(), cacheStatus)
	}
}

// wantParsed checks that Cache-Status is a structured field whose last member is ours (RFC 9211 2).
func (a *answer) wantParsed(t *testing.T) {
	t.Helper()
	list, err := httpsfv.UnmarshalList(a.Header.Values("Cache-Status"))
	if err != nil || len(list) == 0 {
		t.Errorf("Cache-Status %q: %v", a.Header.Values("Cache-Status"), err)
		return
	}
	item, ok := list[len(list)-1].(httpsfv.Item)
	if !ok || item.Value != httpsfv.Token("Larder") {
		t.Errorf("the last member of %q is not ours", a.Header.Values("Cache-Status"))
	}
}

// wantStatus compares Cache-Status with want, in which ttl=N stands for any number of the sign.
func (a *answer) wantStatus(t *testing.T, want string) {
	t.Helper()
	a.wantParsed(t)
	got := a.cacheStatus()
	if before, rest, found := strings.Cut(got, "; ttl="); found {
		digits, after, more := strings.Cut(rest, ";")
		sign := "N"
		if strings.HasPrefix(digits, "-") {
			sign = "-N"
		}
		got = before + "; ttl=" + sign
		if more {
			got += ";" + after
		}
	}
	if got != want {
		t.Errorf("Cache-Status %q, want %q", a.cacheStatus(), want)
	}
}

func (in *instance) url(path string) string {
	return fmt.Sprintf("http://localhost:%d%s", in.port, path)
}

// get asks for path with header fields given as pairs.
func (in *instance) get(path string, header ...string) *answer {
	in.t.Helper()
	return in.do(http.MethodGet, path, "", header...)
}

// do sends a request and fails the test if there is no response. At a reload the server that goes
// may take a connection and close it without a word; a browser asks again for what is safe to ask
// for, and so does this.
func (in *instance) do(method, path, body string, header ...string) *answer {
	in.t.Helper()
	a, err := in.try(context.Background(), method, path, body, header...)
	for attempt := 1; err != nil && attempt < 3 && (method == http.MethodGet || method == http.MethodHead) && droppedUnanswered(err); attempt++ {
		in.t.Logf("asking again for %s: %v", path, err)
		a, err = in.try(context.Background(), method, path, body, header...)
	}
	if err != nil {
		in.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func droppedUnanswered(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
}

// try sends a request. It may be called from any goroutine.
func (in *instance) try(ctx context.Context, method, path, body string, header ...string) (*answer, error) {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, in.url(path), content)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := in.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return &answer{Response: resp, body: string(b), err: err}, nil
}

// from is a client with another address.
func (in *instance) from(t *testing.T, address string) *instance {
	t.Helper()
	other := *in
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", in.port))
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	other.client = &http.Client{Transport: transport, Timeout: patience}
	return &other
}

// open sends a GET and returns the response with its body unread.
func (in *instance) open(ctx context.Context, path string, header ...string) *http.Response {
	in.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, in.url(path), nil)
	if err != nil {
		in.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := in.client.Do(r)
	if err != nil {
		in.t.Fatalf("GET %s: %v", path, err)
	}
	return resp
}

// connection is a client that speaks HTTP by hand.
type connection struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (in *instance) dial() *connection {
	in.t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("localhost:%d", in.port))
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &connection{Conn: conn, t: in.t, r: bufio.NewReader(conn)}
}

func (c *connection) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// response reads a response's header; its body is the caller's.
func (c *connection) response(method string) *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

// raw writes text to a connection of its own, "\n" standing for a line's end, and reads one
// response.
func (in *instance) raw(text string) *answer {
	in.t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("localhost:%d", in.port))
	if err != nil {
		in.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	go func() { // a server that refuses may not read to the end
		_, _ = io.WriteString(conn, strings.ReplaceAll(text, "\n", "\r\n"))
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		in.t.Fatalf("%.60q: %v", text, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return &answer{Response: resp, body: string(body), err: err}
}

// rawGet asks for target, to the letter.
func (in *instance) rawGet(target string, lines ...string) *answer {
	in.t.Helper()
	lines = append(lines, "Connection: close")
	return in.raw(fmt.Sprintf("GET %s HTTP/1.1\nHost: localhost:%d\n%s\n\n", target, in.port, strings.Join(lines, "\n")))
}

// unread asks for path and reads what comes without judging it: net/http's client refuses some
// answers.
func (in *instance) unread(path string) {
	in.t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("localhost:%d", in.port))
	if err != nil {
		in.t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost:%d\r\nConnection: close\r\n\r\n", path, in.port)
	_, _ = io.Copy(io.Discard, conn)
}

// crowd is a number of clients at work.
type crowd struct {
	t       *testing.T
	clients sync.WaitGroup
	answers []*answer
	errs    []error
}

// gather sends n requests at once; header gives each client's own fields.
func gather(t *testing.T, in *instance, n int, method, path string, header func(i int) []string) *crowd {
	t.Helper()
	c := &crowd{t: t, answers: make([]*answer, n), errs: make([]error, n)}
	for i := range n {
		var fields []string
		if header != nil {
			fields = header(i)
		}
		c.clients.Go(func() { c.answers[i], c.errs[i] = in.try(t.Context(), method, path, "", fields...) })
	}
	return c
}

// all waits for the answers, every one of which must have a header.
func (c *crowd) all() []*answer {
	c.t.Helper()
	c.clients.Wait()
	for i, err := range c.errs {
		if err != nil {
			c.t.Fatalf("client %d: %v", i, err)
		}
	}
	return c.answers
}

// statuses counts the answers by their member of Cache-Status.
func statuses(answers []*answer) map[string]int {
	count := make(map[string]int)
	for _, a := range answers {
		count[a.cacheStatus()]++
	}
	return count
}

// eventually waits until condition holds; it is for what happens behind an answer
// (the write-behind, a background refresh).
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	if !within(patience, condition) {
		t.Fatalf("waited %v in vain: %s", patience, what)
	}
}

// within polls until condition holds, and reports false when that takes longer than limit.
func within(limit time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if condition() {
			return true
		}
	}
	return condition()
}

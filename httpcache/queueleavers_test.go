package httpcache

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/larder-cache/larder/origin"
)

// queueLength tells each change of how many requests wait.
type queueLength chan int

func (q queueLength) Waiting(by int)     { q <- by }
func (q queueLength) Refused(origin.Why) {}

// TestClientsThatLeaveTheQueueWithABody: the server did not learn that a client had left whose body
// it had not read, and the request kept its place in the queue until its time was over.
func TestClientsThatLeaveTheQueueWithABody(t *testing.T) {
	waiting := make(queueLength, 100)
	h, taken := newTestHandler(t), new(origin.Place)
	h.Budget = origin.New("api", origin.Limits{MaxConcurrent: 1, Queue: 1, Wait: time.Hour}, waiting)
	if err := h.Budget.Take(t.Context(), taken, origin.ClassWaiting); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(Middleware(h.Route)(http.NotFoundHandler()))
	defer server.Close()
	defer taken.Done() // first
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err = fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4\r\n\r\nbody"); err != nil {
		t.Fatal(err)
	}
	if by := <-waiting; by != 1 {
		t.Fatalf("%d more wait", by)
	}
	_ = c.Close()
	select {
	case by := <-waiting:
		if by != -1 {
			t.Errorf("%d more wait when the client has left", by)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits still")
	}
}

// TestBodyThatBreaksOffIsNotWhole: of a body that broke off while it was read ahead, to be a part
// of the key, the handlers had what there was and no error, as if that were all.
func TestBodyThatBreaksOffIsNotWhole(t *testing.T) {
	type read struct {
		body string
		err  error
	}
	came := make(chan read, 1)
	h := newTestHandler(t)
	h.Methods = []string{http.MethodGet, http.MethodPost}
	server := httptest.NewServer(Middleware(h.Route)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		came <- read{string(body), err}
	})))
	defer server.Close()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err = fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, c)
	select {
	case got := <-came:
		if got.body != "half" || !errors.Is(got.err, io.ErrUnexpectedEOF) {
			t.Errorf("the handlers read %q, %v", got.body, got.err)
		}
	default:
		t.Log("the server has found first that the client has gone")
	}
}

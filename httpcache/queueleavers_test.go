package httpcache

import (
	"fmt"
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
	for name, request := range map[string]string{
		"with a length": "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4\r\n\r\nbody",
		"in chunks":     "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
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
			if _, err = fmt.Fprint(c, request); err != nil {
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
		})
	}
}

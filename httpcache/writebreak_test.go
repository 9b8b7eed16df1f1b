package httpcache

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// slowConn is a client's connection, as the server has it: any goroutine may set its deadline. It
// takes the first writes at once, and a later one not before the deadline.
type slowConn struct {
	*httptest.ResponseRecorder
	takes   int
	mu      sync.Mutex
	late    time.Time
	changed chan struct{}
}

// Write implements io.Writer.
func (c *slowConn) Write(p []byte) (int, error) {
	if c.takes--; c.takes >= 0 {
		return len(p), nil
	}
	for {
		c.mu.Lock()
		late, changed := c.late, c.changed
		c.mu.Unlock()
		if late.IsZero() {
			<-changed
			continue
		}
		select {
		case <-changed:
		case <-time.After(time.Until(late)):
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// SetWriteDeadline is for http.ResponseController.
func (c *slowConn) SetWriteDeadline(late time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.late, c.changed = late, make(chan struct{})
	return nil
}

// idleWriter is a server's writer that gives each write a time, and has a handler's deadline beside
// that, like Caddy's: one goroutine may use it.
type idleWriter struct {
	http.ResponseWriter
	byHandler time.Time
}

// Unwrap is for http.ResponseController.
func (w *idleWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// SetWriteDeadline is for http.ResponseController.
func (w *idleWriter) SetWriteDeadline(late time.Time) error {
	w.byHandler = late
	return http.NewResponseController(w.ResponseWriter).SetWriteDeadline(late)
}

// Write implements io.Writer.
func (w *idleWriter) Write(p []byte) (int, error) {
	late := time.Now().Add(time.Hour)
	if !w.byHandler.IsZero() && w.byHandler.Before(late) {
		late = w.byHandler
	}
	if err := http.NewResponseController(w.ResponseWriter).SetWriteDeadline(late); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(p)
}

// TestHangingWriteIsBrokenOffAtTheConnection: a client that a window drops is broken off by a
// deadline of its connection. A writer above that may be in use by the client's own goroutine.
func TestHangingWriteIsBrokenOffAtTheConnection(t *testing.T) {
	for _, takes := range []int{0, 1, 3} {
		synctest.Test(t, func(t *testing.T) { hangingWriteIsBrokenOff(t, takes) })
	}
}

func hangingWriteIsBrokenOff(t *testing.T, takes int) {
	defer time.Sleep(2 * workerIdle) // in the bubble's time: the goroutine of the fetch ends by then
	h := newTestHandler(t)
	h.MaxBody = 1 << 10
	h.cache.flights = coalesce.NewGroup[store.Key](h.cache.store, coalesce.Limits{Window: 64 << 10, ReaderIdle: time.Minute})
	proceed, piece := make(chan struct{}), make([]byte, 32<<10)
	origin := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		<-proceed
		w.Header().Set("Cache-Control", "max-age=60")
		for range 32 {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		return nil
	})
	good := httptest.NewRecorder()
	conn := &slowConn{ResponseRecorder: httptest.NewRecorder(), takes: takes, changed: make(chan struct{})}
	var clients sync.WaitGroup
	clients.Go(func() {
		if err := h.ServeHTTP(good, newTestRequest(good), origin); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	begun := time.Now()
	clients.Go(func() {
		defer func() {
			if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
				t.Errorf("the slow client's handler has ended with %v", err)
			}
			if d := time.Since(begun); d > 20*time.Minute {
				t.Errorf("it was broken off after %v", d)
			}
		}()
		w := &idleWriter{ResponseWriter: conn}
		_ = h.ServeHTTP(w, newTestRequest(w), origin)
	})
	synctest.Wait()
	close(proceed)
	clients.Wait()
	if !bytes.Equal(good.Body.Bytes(), make([]byte, 1<<20)) {
		t.Errorf("the good client has %d bytes", good.Body.Len())
	}
}

// TestWriteIsBrokenOffAgain: where a write gets a later deadline in the moment in which it is
// broken off, it is broken off once more, and none is when the body has been sent.
func TestWriteIsBrokenOffAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &slowConn{ResponseRecorder: httptest.NewRecorder(), changed: make(chan struct{})}
		q := &Request{w: &idleWriter{ResponseWriter: conn}}
		q.beginSending()
		q.breakWrite()
		begun := time.Now()
		if _, err := q.w.Write([]byte("a")); !errors.Is(err, os.ErrDeadlineExceeded) { // it has an hour
			t.Errorf("the write has ended with %v", err)
		}
		if d := time.Since(begun); d != breakAgain {
			t.Errorf("it was broken off after %v", d)
		}
		q.endSending()
		if err := conn.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * breakAgain)
		if !conn.late.IsZero() {
			t.Error("it is broken off although the body has been sent")
		}
		q.beginSending() // another part of it
		if conn.late.IsZero() {
			t.Error("the next part is not broken off")
		}
		q.endSending()
	})
}

// TestHangingWriteOfAServerIsBrokenOff: so is one of net/http, in HTTP/1 and HTTP/2.
func TestHangingWriteOfAServerIsBrokenOff(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		ended := make(chan error, 1)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			q := &Request{w: &idleWriter{ResponseWriter: w}}
			q.beginSending()
			defer q.endSending()
			go q.breakWrite()
			for piece := make([]byte, 1<<20); ; {
				if _, err := q.w.Write(piece); err != nil {
					ended <- err
					return
				}
			}
		}))
		server.EnableHTTP2 = http2
		server.StartTLS()
		answer, err := server.Client().Get(server.URL)
		if err == nil { // it may be broken off before its header
			defer func() { _ = answer.Body.Close() }()
		}
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Errorf("HTTP/2 %v: the write hangs", http2)
		}
		server.CloseClientConnections()
		server.Close()
	}
}

// TestWholeAnswerIsNotBrokenOff: a client that was given up when its answer had been written had a
// part of that in a buffer of the server's still, and lost it.
func TestWholeAnswerIsNotBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &slowConn{ResponseRecorder: httptest.NewRecorder(), takes: 1, changed: make(chan struct{})}
		q := &Request{w: conn}
		q.beginSending()
		if _, err := q.w.Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
		q.endSending()
		q.breakWrite()
		time.Sleep(10 * breakAgain)
		if !conn.late.IsZero() {
			t.Error("it is broken off")
		}
	})
}

// givenUp is a client that is given up at one of the writes of its answer.
type givenUp struct {
	*httptest.ResponseRecorder
	q      *Request
	writes int
	at     int
	cut    bool // its connection has a deadline
}

// WriteHeader implements http.ResponseWriter.
func (c *givenUp) WriteHeader(status int) {
	c.write()
	c.ResponseRecorder.WriteHeader(status)
}

// Write implements io.Writer.
func (c *givenUp) Write(p []byte) (int, error) {
	if c.write(); c.cut {
		return 0, os.ErrDeadlineExceeded
	}
	return len(p), nil
}

func (c *givenUp) write() {
	if c.writes++; c.writes == c.at {
		c.q.breakWrite()
	}
}

// SetWriteDeadline is for http.ResponseController.
func (c *givenUp) SetWriteDeadline(time.Time) error {
	c.cut = true
	return nil
}

// TestPartsAreBrokenOffAtOnce: so is a client that is given up at the header, or at what stands
// around one of several parts, and not only at the next part.
func TestPartsAreBrokenOffAtOnce(t *testing.T) {
	h := newTestHandler(t)
	ask(t, h, func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		_, err := w.Write(make([]byte, 1000))
		return err
	})
	for at := range 5 { // the header, a part's header, the part, and the next
		w := &givenUp{ResponseRecorder: httptest.NewRecorder(), at: at + 1}
		w.q = h.newRequest(w, newTestRequest(w, "Range", "bytes=0-9,500-509"), nil)
		broken := func() (broken bool) {
			defer func() { broken = recover() != nil }()
			w.q.classify()
			w.q.readKey()
			w.q.lookUp()
			_ = w.q.respondStored(OutcomeHit, NoDetail)
			return false
		}()
		w.q.found.Release()
		if !broken || !w.cut || w.writes > max(2, w.at) {
			t.Errorf("given up at write %d: cut %t, broken off %t, after %d writes", w.at, w.cut, broken, w.writes)
		}
	}
}

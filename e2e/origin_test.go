package e2e

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// origin is an upstream that counts what it is asked.
type origin struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
}

// newOrigin starts an upstream that answers by handler.
func newOrigin(t *testing.T, handler http.HandlerFunc) *origin {
	t.Helper()
	return newOriginAt(t, "127.0.0.1:0", handler)
}

// newOriginAt starts an upstream that answers by handler at an address.
func newOriginAt(t *testing.T, address string, handler http.HandlerFunc) *origin {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{}
	o.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.seen = append(o.seen, r.Clone(context.Background()))
		o.mu.Unlock()
		handler(w, r)
	}))
	_ = o.Listener.Close()
	o.Listener = l
	o.Start()
	t.Cleanup(o.Close)
	return o
}

// newQuietOrigin starts an upstream that counts nothing and logs no panic of its handler.
func newQuietOrigin(t *testing.T, handler http.HandlerFunc) *origin {
	t.Helper()
	o := &origin{Server: httptest.NewUnstartedServer(handler)}
	o.Config.ErrorLog = log.New(io.Discard, "", 0)
	o.Start()
	t.Cleanup(o.Close)
	return o
}

// count returns how many requests have come.
func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.seen)
}

// asked fails the test unless n requests have come.
func (o *origin) asked(t *testing.T, n int) {
	t.Helper()
	if got := o.count(); got != n {
		t.Errorf("the origin was asked %d times, want %d", got, n)
	}
}

// last returns the request that came last.
func (o *origin) last() *http.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.seen) == 0 {
		return nil
	}
	return o.seen[len(o.seen)-1]
}

// numbered answers with a body that is different each time: "1", "2", and so on.
func numbered(header ...string) http.HandlerFunc {
	var mu sync.Mutex
	n := 0
	return func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		n++
		body := fmt.Sprint(n)
		mu.Unlock()
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		_, _ = io.WriteString(w, body)
	}
}

// answering answers with the status, the header fields given as pairs, and a body that is different
// each time: "1", "2", and so on.
func answering(status int, header ...string) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			value := header[i+1]
			if d, err := time.ParseDuration(strings.TrimPrefix(value, atAnswer)); err == nil && strings.HasPrefix(value, atAnswer) {
				value = httpDate(d)
			}
			w.Header().Add(header[i], value)
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, n.Add(1))
	}
}

// counted numbers the requests.
func counted(handler func(w http.ResponseWriter, r *http.Request, number int)) http.HandlerFunc {
	g := make(chan int, 1)
	g <- 0
	return func(w http.ResponseWriter, r *http.Request) {
		n := <-g + 1
		g <- n
		handler(w, r, n)
	}
}

// stale answers with what is stale on arrival, and from the second request on as then says.
func stale(then http.HandlerFunc, header ...string) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 1 {
			then(w, r)
			return
		}
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.Header().Set("Age", "100")
		_, _ = io.WriteString(w, "old")
	}
}

// atAnswer begins what fromNow returns.
const atAnswer = "from now: "

// fromNow stands for the date that is d from when answering answers. In a long table of tests an
// httpDate would be as old as the table.
func fromNow(d time.Duration) string { return atAnswer + d.String() }

// httpDate is the time d from now as it stands in header fields.
func httpDate(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }

// echo answers with all that it was sent, cacheable for a minute unless the request's path says
// otherwise.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "text/plain")
	if !strings.HasPrefix(r.URL.Path, "/unstated") {
		w.Header().Set("Cache-Control", "public, max-age=60")
	}
	_, _ = fmt.Fprintf(w, "%s %s\nHost: %s\n", r.Method, r.RequestURI, r.Host)
	names := make([]string, 0, len(r.Header))
	for name := range r.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		_, _ = fmt.Fprintf(w, "%s: %s\n", name, strings.Join(r.Header[name], " | "))
	}
	_, _ = fmt.Fprintf(w, "\n%s", body)
}

// gate is an origin whose every request shows up in arrived and then waits.
type gate struct {
	*origin
	arrived chan *visit
}

// visit is a request that has come to a gate. Its handler goes on when the test closes proceed.
type visit struct {
	*http.Request
	number  int // 1 for the first
	proceed chan struct{}
}

// newGate starts an origin that answers by handler once the test lets it.
func newGate(t *testing.T, handler func(w http.ResponseWriter, v *visit)) *gate {
	t.Helper()
	g := &gate{arrived: make(chan *visit, 1000)}
	var number atomic.Int64
	over := make(chan struct{})
	g.origin = newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		v := &visit{Request: r, number: int(number.Add(1)), proceed: make(chan struct{})}
		g.arrived <- v
		select {
		case <-v.proceed:
			handler(w, v)
		case <-r.Context().Done():
		case <-over:
		}
	})
	t.Cleanup(func() { close(over) }) // before the server is closed, which waits for its handlers
	return g
}

// next waits for n requests.
func (g *gate) next(t *testing.T, n int) []*visit {
	t.Helper()
	all := make([]*visit, 0, n)
	for len(all) < n {
		select {
		case v := <-g.arrived:
			all = append(all, v)
		case <-t.Context().Done():
			t.Fatalf("%d of %d requests came to the origin", len(all), n)
		}
	}
	return all
}

// noMore fails the test if a request has come that was not asked for.
func (g *gate) noMore(t *testing.T) {
	t.Helper()
	select {
	case v := <-g.arrived:
		t.Errorf("one request too many came to the origin: %s %s %v", v.Method, v.URL, v.Header)
	default:
	}
}

// letThrough makes one request and lets it through.
func (g *gate) letThrough(t *testing.T, in *instance, path string, header ...string) *answer {
	t.Helper()
	c := gather(t, in, 1, http.MethodGet, path, func(int) []string { return header })
	open(g.next(t, 1)...)
	return c.all()[0]
}

// open lets a visit go on.
func open(visits ...*visit) {
	for _, v := range visits {
		close(v.proceed)
	}
}

// twoParts answers with "first ", and with "last" when rest is closed; not whole if the one who
// asked goes before.
func twoParts(w http.ResponseWriter, v *visit, rest <-chan struct{}) (whole bool) {
	_, _ = io.WriteString(w, "first ")
	_ = http.NewResponseController(w).Flush()
	select {
	case <-rest:
		_, _ = io.WriteString(w, "last")
		return true
	case <-v.Context().Done():
		return false
	}
}

// heldOrigin answers at once but for /slow, which waits.
func heldOrigin(t *testing.T) (o *origin, arrived, release chan struct{}) {
	arrived, release = make(chan struct{}, 1), make(chan struct{})
	answer := numbered("Cache-Control", "max-age=600")
	o = newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			arrived <- struct{}{}
			<-release
		}
		answer(w, r)
	})
	return o, arrived, release
}

// rawOrigin is an upstream that answers with bytes.
func rawOrigin(t *testing.T, answers map[string]string) *origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				head := make([]byte, 4096)
				n, _ := conn.Read(head)
				_, path, _ := strings.Cut(string(head[:n]), " ")
				path, _, _ = strings.Cut(path, " ")
				_, _ = io.WriteString(conn, strings.ReplaceAll(answers[path], "\n", "\r\n"))
			}()
		}
	}()
	o := newOrigin(t, echo)
	o.URL = "http://" + l.Addr().String()
	return o
}

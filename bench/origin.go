package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The origin answers /<size>/<anything> with size bytes. What stands behind the question mark says
// how:
//
//	(nothing)       storable for an hour
//	nostore         Cache-Control: no-store
//	json            storable, JSON such as an API sends
//	sse             an event stream of sseEvents events, each flushed
//	slow            storable, its header after slowHeader, its body in slowParts parts
//	tag=<tag>       storable, with the tag as its Surrogate-Key
//	tags=<n>        storable, with n of a thousand tags
//	late=<ms>,<s>   storable for so many seconds, after so many milliseconds
//	serial=<tag>    as with tag, and Serial has a number that grows with each fetch
//
// A request to upgrade to echoProtocol gets its connection's bytes back.
//
// GET /fetches answers the number of other requests so far, GET /most how many of them have been
// under way at once since it was asked last. /pages/ and /renew/ are the soak's: see
// pages.go. /film/ has large files: see film.go.

const (
	sseEvents  = 20
	slowHeader = 300 * time.Millisecond
	slowParts  = 4
	slowPause  = 20 * time.Millisecond
	// originEnv makes the bench's own binary an origin, listening at its value.
	originEnv = "LARDER_BENCH_ORIGIN"
)

// origin is the handler.
type origin struct {
	fetches  atomic.Int64
	under    gauge
	bodies   sync.Map // size → []byte
	films    films
	versions versions
}

// runOrigin serves until the process is told to end.
func runOrigin(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("origin: %w", err)
	}
	server := &http.Server{Handler: new(origin), ReadHeaderTimeout: time.Minute}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-stop
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("origin: %w", err)
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/fetches" {
		fmt.Fprint(w, o.fetches.Load())
		return
	}
	if r.URL.Path == "/sent" {
		fmt.Fprint(w, o.films.sent.Load())
		return
	}
	if r.URL.Path == "/most" {
		fmt.Fprint(w, o.under.takeMost())
		return
	}
	serial := o.fetches.Add(1)
	defer o.under.enter()()
	if r.Header.Get("Upgrade") == echoProtocol {
		echo(w)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/pages/") || strings.HasPrefix(r.URL.Path, "/renew/") {
		o.servePage(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/film/") {
		o.films.serve(w, r)
		return
	}
	o.serveSize(w, r, serial)
}

// serveSize serves a body of the size that the path begins with, as the query says.
func (o *origin) serveSize(w http.ResponseWriter, r *http.Request, serial int64) {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	size, err := strconv.Atoi(first)
	if err != nil {
		http.Error(w, "the path is /<size>/<anything>", http.StatusBadRequest)
		return
	}
	h := w.Header()
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	h["Etag"] = []string{`"` + first + `"`}
	h["Cache-Control"] = []string{"max-age=3600"}
	body := o.body(size)
	tag, tagged := strings.CutPrefix(r.URL.RawQuery, "tag=")
	count, counted := strings.CutPrefix(r.URL.RawQuery, "tags=")
	late, isLate := strings.CutPrefix(r.URL.RawQuery, "late=")
	serialTag, numbered := strings.CutPrefix(r.URL.RawQuery, "serial=")
	switch {
	case isLate:
		beLate(h, late)
	case numbered:
		h["Surrogate-Key"] = []string{serialTag}
		h["Serial"] = []string{strconv.FormatInt(serial, 10)}
	case tagged:
		h["Surrogate-Key"] = []string{tag}
	case counted:
		h["Surrogate-Key"] = []string{o.someTags(count)}
	case r.URL.RawQuery == "nostore":
		h["Cache-Control"] = []string{"no-store"}
	case r.URL.RawQuery == "json":
		h["Content-Type"] = []string{"application/json"}
		body = products(size)
	case r.URL.RawQuery == "sse":
		stream(w, body)
		return
	case r.URL.RawQuery == "slow":
		drip(w, body)
		return
	}
	h["Content-Length"] = []string{first}
	_, _ = w.Write(body)
}

// products is a list of products in JSON, cut off after size bytes.
func products(size int) []byte {
	random := rand.New(rand.NewPCG(1, uint64(size)))
	adjectives := []string{"small", "blue", "woollen", "waterproof", "used", "light", "heavy", "folding"}
	nouns := []string{"coat", "lamp", "table", "bicycle", "tent", "kettle", "chair", "rucksack"}
	list := []byte("[")
	for len(list) < size {
		name := adjectives[random.IntN(len(adjectives))] + " " + nouns[random.IntN(len(nouns))]
		list = fmt.Appendf(list, `{"id":%d,"name":%q,"price":{"amount":%d.%02d,"currency":"EUR"},"stock":%d,"rating":%.2f,"updated":"2026-11-%02dT%02d:%02d:00Z"},`,
			random.IntN(1_000_000), name, random.IntN(900), random.IntN(100), random.IntN(50), 5*random.Float64(), 1+random.IntN(28), random.IntN(24), random.IntN(60))
	}
	return list[:size]
}

// beLate waits, and says how long the answer is fresh.
func beLate(h http.Header, late string) {
	before, age, _ := strings.Cut(late, ",")
	h["Cache-Control"] = []string{"max-age=" + age}
	ms, _ := strconv.Atoi(before)
	time.Sleep(time.Duration(ms) * time.Millisecond)
}

// someTags makes a Surrogate-Key of n tags, others at each request.
func (o *origin) someTags(text string) string {
	const tags = 1000
	n, _ := strconv.Atoi(text)
	first := int(o.fetches.Load()) * n
	var field strings.Builder
	for i := range n {
		fmt.Fprintf(&field, "tag-%d ", (first+i)%tags)
	}
	return field.String()
}

func (o *origin) body(size int) []byte {
	if b, ok := o.bodies.Load(size); ok {
		return b.([]byte)
	}
	b, _ := o.bodies.LoadOrStore(size, []byte(strings.Repeat("x", size)))
	return b.([]byte)
}

// stream sends body as server-sent events.
func stream(w http.ResponseWriter, body []byte) {
	w.Header()["Content-Type"] = []string{"text/event-stream"}
	w.Header()["Cache-Control"] = []string{"no-cache"}
	delete(w.Header(), "Etag")
	out := http.NewResponseController(w)
	for range sseEvents {
		if _, err := fmt.Fprintf(w, "data: %s\n\n", body); err != nil {
			return
		}
		if out.Flush() != nil {
			return
		}
	}
}

// drip sends body slowly.
func drip(w http.ResponseWriter, body []byte) {
	time.Sleep(slowHeader)
	out := http.NewResponseController(w)
	part := (len(body) + slowParts - 1) / slowParts
	for len(body) > 0 {
		n := min(part, len(body))
		if _, err := w.Write(body[:n]); err != nil || out.Flush() != nil {
			return
		}
		body = body[n:]
		time.Sleep(slowPause)
	}
}

// gauge counts what is under way, and the most there has been at once.
type gauge struct {
	mu        sync.Mutex
	now, most int
}

// enter counts one more until leave.
func (g *gauge) enter() (leave func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now++
	g.most = max(g.most, g.now)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.now--
	}
}

// takeMost returns the most since the last call.
func (g *gauge) takeMost() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	most := g.most
	g.most = g.now
	return most
}

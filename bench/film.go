package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// films are the origin's large files: /film/<size>/<name> has size bytes, in parts where Range asks
// for them. /sent answers how many bytes of them have been sent so far. With ?rate=<n> all of them
// together are sent at n bytes a second, as over a link of that width.
type films struct {
	sent atomic.Int64
	link link
}

func (f *films) serve(w http.ResponseWriter, r *http.Request) {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/film/"), "/")
	size, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		http.Error(w, "the path is /film/<size>/<name>", http.StatusBadRequest)
		return
	}
	rate, _ := strconv.ParseInt(r.URL.Query().Get("rate"), 10, 64)
	h := w.Header()
	h.Set("Etag", fmt.Sprintf(`"%d"`, size))
	h.Set("Cache-Control", "max-age=3600")
	h.Set("Content-Type", "video/mp4")
	http.ServeContent(&filmWriter{ResponseWriter: w, films: f, rate: rate}, r, "", time.Time{}, &film{size: size})
}

// filmWriter counts and paces what is sent.
type filmWriter struct {
	http.ResponseWriter
	films *films
	rate  int64
}

func (w *filmWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		piece := p[:min(len(p), 16*kib)]
		w.films.link.pass(len(piece), w.rate)
		var some int
		some, err = w.ResponseWriter.Write(piece)
		w.films.sent.Add(int64(some))
		n, p = n+some, p[some:]
	}
	return n, err
}

// link lets bytes pass at a rate.
type link struct {
	mu   sync.Mutex
	free time.Time // from then on
}

// pass waits until n bytes have had their time. 0 is any rate.
func (l *link) pass(n int, rate int64) {
	if rate <= 0 {
		return
	}
	l.mu.Lock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(int64(n) * int64(time.Second) / rate))
	until := l.free
	l.mu.Unlock()
	time.Sleep(time.Until(until))
}

// film is a file of a size, made while it is read.
type film struct{ size, at int64 }

// filmByte is the byte at a position.
func filmByte(at int64) byte { return byte(uint64(at) * 0x9e3779b97f4a7c15 >> 56) }

func (f *film) Read(p []byte) (int, error) {
	if f.at >= f.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), f.size-f.at)]
	for i := range p {
		p[i] = filmByte(f.at + int64(i))
	}
	f.at += int64(len(p))
	return len(p), nil
}

func (f *film) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		f.at = offset
	case io.SeekCurrent:
		f.at += offset
	case io.SeekEnd:
		f.at = f.size + offset
	}
	if f.at < 0 {
		return 0, errors.New("a position before the film")
	}
	return f.at, nil
}

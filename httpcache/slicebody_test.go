package httpcache

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/larder-cache/larder/coalesce"
)

// The bytes that a client asks for do not wait until the rest of their slice is stored.
func TestPartOfASliceGoesOutBeforeTheSliceIsStored(t *testing.T) {
	h, f := newSlicing(t), newFilm(70, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, cold)
	answered := make(chan struct{})
	f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Range", "bytes 100-199/1000")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(f.content[100:200])
		<-answered
		return true
	}
	w := httptest.NewRecorder()
	if broke := f.read(h, w, newTestRequest(w, "Range", "bytes=110-119")); broke {
		t.Error("the answer has broken off")
	}
	close(answered)
	f.want(t, w, 206, 110, 120, partly)
}

// A slice that breaks off is fetched again, and the next one, whose fetch has begun, is not.
func TestReadAheadOutlivesASliceThatBreaksOff(t *testing.T) {
	h, f := newSlicing(t), newFilm(71, 300)
	f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, cold)
	f.take()
	ahead, again := make(chan struct{}), make(chan struct{})
	var first, second atomic.Int32
	f.alter = func(w http.ResponseWriter, r *http.Request) bool {
		switch r.Header.Get("Range") {
		case "bytes=100-199":
			if first.Add(1) > 1 {
				close(again)
				return false
			}
			w.Header().Set("Content-Range", "bytes 100-199/300")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(f.content[100:160])
			<-ahead
			panic(http.ErrAbortHandler)
		case "bytes=200-299":
			if second.Add(1) == 1 {
				close(ahead)
			}
			select {
			case <-again:
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			}
		}
		return false
	}
	w := httptest.NewRecorder()
	if broke := f.read(h, w, newTestRequest(w, "Range", "bytes=100-299")); broke || !bytes.Equal(w.Body.Bytes(), f.content[100:]) {
		t.Errorf("broken off: %t, after %d bytes", broke, w.Body.Len())
	}
	f.wantAsked(t, "bytes=100-199", "bytes=100-199", "bytes=200-299")
}

// Another fetch makes up for what the origin or the disk has failed at, and for no client that
// takes nothing.
func TestWhoseFaultItIsThatASliceEnds(t *testing.T) {
	broken := errors.New("the origin's connection broke")
	for err, want := range map[error]bool{
		io.ErrUnexpectedEOF: true, errStalled: true, broken: true, coalesce.ErrSpill: true, coalesce.ErrPassed: true,
		coalesce.ErrTooSlow: false, io.ErrClosedPipe: false,
	} {
		if got := isSliceFault(err, broken); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}

// A slice that is fetched before the header goes out, because the origin may refuse it to this
// client, is fetched once, also where no request joins a fetch. It was fetched twice there if it
// had not come whole by the time at which the answer came to it.
func TestSliceBeforeTheHeaderIsFetchedOnce(t *testing.T) {
	for name, off := range map[string]bool{"coalesce": false, "coalesce off": true} {
		t.Run(name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(105, 300)
			h.CoalesceOff = off
			f.want(t, f.get(t, h, "Range", "bytes=10-19"), 206, 10, 20, cold)
			f.take()
			reader := &signalling{httptest.NewRecorder(), 100, make(chan struct{})}
			f.alter = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Range") == "bytes=100-199" {
					w.Header().Set("Content-Range", "bytes 100-199/300")
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(f.content[100:120])
					<-reader.come
					_, _ = w.Write(f.content[120:200])
					return true
				}
				return false
			}
			if broke := f.read(h, reader, newTestRequest(reader, "Cookie", "a=b")); broke || !bytes.Equal(reader.Body.Bytes(), f.content) {
				t.Errorf("broken off: %t, after %d bytes", broke, reader.Body.Len())
			}
			f.wantAsked(t, "bytes=100-199", "bytes=200-299")
		})
	}
}

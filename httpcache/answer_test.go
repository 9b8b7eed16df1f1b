package httpcache

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/larder-cache/larder/store"
)

// inGzip codes what write writes.
func inGzip(write func(io.Writer)) string {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	write(w)
	_ = w.Close()
	return b.String()
}

// inZstd codes what write writes, as a stream whose length is not known before.
func inZstd(window int, write func(io.Writer)) string {
	var b bytes.Buffer
	w, _ := zstd.NewWriter(&b, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	write(w)
	_ = w.Flush() // or what is short would get no window
	_ = w.Close()
	return b.String()
}

// list returns an answer with n numbers, or one string of as many bytes.
func list(n int, asText bool) func(io.Writer) {
	begin, piece, end := `{"data":[0`, strings.Repeat(",0", 32<<10), `]}`
	if asText {
		begin, piece, end = `{"data":"`, strings.Repeat(" ", 64<<10), `"}`
	}
	return func(w io.Writer) {
		_, _ = io.WriteString(w, begin)
		for left := n; left > 0; left -= len(piece) {
			_, _ = io.WriteString(w, piece[:min(left, len(piece))])
		}
		_, _ = io.WriteString(w, end)
	}
}

// checkAnswerIn is checkAnswer of a text in a coding.
func checkAnswerIn(c *Cache, coding, text string) error {
	return c.checkAnswer(http.Header{"Content-Encoding": {coding}}, store.NewBody([][]byte{[]byte(text)}))
}

// TestAnswerThatGrowsIsNotStored: of an answer of 60 KB as many megabytes were decoded, for any
// number of requests at once, and kept where they were one string.
func TestAnswerThatGrowsIsNotStored(t *testing.T) {
	c := newTestHandler(t).cache
	for name, test := range map[string]struct {
		coding, text string
		stored       bool
	}{
		"gzip, a string":    {"gzip", inGzip(list(16<<20, true)), false},
		"gzip, numbers":     {"gzip", inGzip(list(16<<20, false)), false},
		"zstd, a string":    {"zstd", inZstd(128<<10, list(16<<20, true)), false},
		"zstd, one window":  {"zstd", inZstd(8<<20, list(16<<20, false)), false},
		"gzip, small":       {"gzip", inGzip(list(smallDecoded-20, true)), true},
		"gzip, not so":      {"gzip", inGzip(list(smallDecoded, true)), false},
		"zstd, small":       {"zstd", inZstd(8<<20, list(smallDecoded-20, false)), true},
		"zstd, not so":      {"zstd", inZstd(8<<20, list(smallDecoded, true)), false},
		"zstd of one piece": {"zstd", string(zstdOfLength(1 << 20)), false},
		"zstd without end":  {"zstd", string(zstdOfLength(1 << 40)), false},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := checkAnswerIn(c, test.coding, test.text)
		runtime.ReadMemStats(&after)
		if (err == nil) != test.stored {
			t.Errorf("%s, %d bytes: %v", name, len(test.text), err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
			t.Errorf("%s, %d bytes: %d bytes were allocated", name, len(test.text), took)
		}
	}
}

// zstdOfLength is the header of a frame that is said to have n bytes, and to be kept whole.
func zstdOfLength(n uint64) []byte {
	header := []byte{0x28, 0xb5, 0x2f, 0xfd, 3<<6 | 1<<5}
	return append(binary.LittleEndian.AppendUint64(header, n), 0, 0, 0)
}

// TestAnswerThatCompressesWellIsStored: an answer may be a hundred times as long as it came.
func TestAnswerThatCompressesWellIsStored(t *testing.T) {
	c := newTestHandler(t).cache
	objects := func(w io.Writer) {
		_, _ = io.WriteString(w, `{"data":{"products":[{}`)
		for i := range 40_000 {
			_, _ = fmt.Fprintf(w, `,{"__typename":"Product","id":%d,"stock":null,"inCart":false,"price":{"currency":"EUR","amount":%d}}`, i, i*i%997)
		}
		_, _ = io.WriteString(w, `]}}`)
	}
	for coding, text := range map[string]string{"gzip": inGzip(objects), "zstd": inZstd(1<<20, objects)} {
		if err := checkAnswerIn(c, coding, text); err != nil {
			t.Errorf("%s of %d bytes: %v", coding, len(text), err)
		}
	}
}

// TestAnswerIsDecodedInTheBudget: what the window of an answer in zstd takes counts, which is no
// more than the answer may grow to.
func TestAnswerIsDecodedInTheBudget(t *testing.T) {
	h := newTestHandlerWith(t, store.Config{}, store.Settings{Memory: 8 << 20})
	used := func() int64 { return h.cache.store.Stats().Memory.Bytes }
	before, short, long := used(), list(1<<10, false), func(w io.Writer) {
		_, _ = io.WriteString(w, `{"data":[0`)
		for i := range 100_000 {
			_, _ = fmt.Fprint(w, ",", uint32(i)*2654435761) // Knuth's multiplicative hash
		}
		_, _ = io.WriteString(w, `]}`)
	}
	for window, want := range map[int][2]error{
		1 << 10: {nil, nil}, 128 << 10: {nil, nil}, 1 << 20: {nil, nil},
		4 << 20: {nil, errNoDecoderRoom}, 8 << 20: {nil, errNoDecoderRoom}, 16 << 20: {zstd.ErrWindowSizeExceeded, zstd.ErrWindowSizeExceeded},
	} {
		for i, answer := range []func(io.Writer){short, long} {
			if err := checkAnswerIn(h.cache, "zstd", inZstd(window, answer)); !errors.Is(err, want[i]) {
				t.Errorf("a window of %d bytes: %v, want %v", window, err, want[i])
			}
		}
	}
	frames := inZstd(1<<10, func(w io.Writer) { _, _ = io.WriteString(w, `{"data":`) }) + inZstd(1<<20, func(w io.Writer) { _, _ = io.WriteString(w, `1}`) })
	if err := checkAnswerIn(h.cache, "zstd", frames); err == nil {
		t.Error("the window of the second frame counted as that of the first")
	}
	if after := used(); after != before {
		t.Errorf("%d bytes are counted, %d before", after, before)
	}
}

// TestAnswersAreDecodedAFewAtOnce: what finds too many waits a moment, and is not stored then.
func TestAnswersAreDecodedAFewAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := contentRoute(t, BodyGraphQL)
		coded := inGzip(list(1<<10, false))
		next, calls := counting(func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Encoding", "gzip")
			_, err := io.WriteString(w, coded)
			return err
		})
		ask := func() { h.exchange(t, next, "POST", "/graphql", `{"query":"{a}"}`) }
		for range cap(h.cache.decoders) {
			h.cache.decoders <- struct{}{}
		}
		begun := time.Now()
		ask()
		h.awaitIdle()
		if took := time.Since(begun); took < decoderWait {
			t.Errorf("it was decided in %s", took)
		}
		go func() {
			time.Sleep(decoderWait / 2)
			<-h.cache.decoders
		}()
		for range 2 {
			ask()
			h.awaitIdle()
		}
		if *calls != 2 {
			t.Errorf("%d fetches, want one that is not stored and one that is", *calls)
		}
	})
}

// TestAnswerCountsWhileItWaitsToBeDecoded: it had given its room in memory to others before.
func TestAnswerCountsWhileItWaitsToBeDecoded(t *testing.T) {
	for name, end := range map[string]string{"stored": `]}`, "not stored": `],"errors":[{}]}`} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := contentRoute(t, BodyGraphQL)
				coded := inGzip(func(w io.Writer) {
					_, _ = io.WriteString(w, `{"data":[0`)
					for i := range 100_000 {
						_, _ = fmt.Fprint(w, ",", uint32(i)*2654435761) // Knuth's multiplicative hash
					}
					_, _ = io.WriteString(w, end)
				})
				next, calls := counting(func(w http.ResponseWriter, _ *http.Request) error {
					w.Header().Set("Content-Encoding", "gzip")
					_, err := io.WriteString(w, coded)
					return err
				})
				for range cap(h.cache.decoders) {
					h.cache.decoders <- struct{}{}
				}
				ask := func() { h.exchange(t, next, "POST", "/graphql", `{"query":"{a}"}`) }
				asked := make(chan struct{})
				go func() {
					defer close(asked)
					ask()
				}()
				time.Sleep(decoderWait / 2)
				if n := h.cache.store.Stats().InFlight.Kept; n < int64(len(coded)) {
					t.Errorf("%d bytes count of an answer of %d", n, len(coded))
				}
				<-h.cache.decoders
				<-asked
				h.awaitIdle()
				if inFlight := h.cache.store.Stats().InFlight; inFlight != (store.InFlight{}) {
					t.Errorf("these are left: %+v", inFlight)
				}
				ask()
				h.awaitIdle()
				if stored := *calls == 1; stored != (name == "stored") {
					t.Errorf("%d fetches", *calls)
				}
			})
		})
	}
}

package httpcache

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/http"
	"runtime"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/larder-cache/larder/graphql"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// The answer to a GraphQL query is a 200 whatever went wrong, so its body is read before it is
// stored. What that takes is bounded by what has come, and not by what it says that it is:
//
//	memory  none of the answer is kept, see graphql.CheckAnswer. A window of zstd, whose size is the
//	        answer's to name, is not larger than what may be decoded, and counts in the budget
//	work    an answer of which more would have to be decoded than mayDecode is not stored
//	both    as many are decoded at once as there are processors. Others wait for a moment

const (
	// maxDecoded is how many bytes an answer may have that came coded.
	maxDecoded = 64 << 20
	// maxGrowth is how many times as long as it came an answer may be. Lists of objects that are
	// much alike come to thirty.
	maxGrowth = 100
	// smallDecoded is how many bytes an answer may have in any case.
	smallDecoded = 256 << 10
	// maxAnswerWindow is the largest window of zstd in bytes (RFC 9659 3).
	maxAnswerWindow = 8 << 20
	// maxDecoders is how many answers are decoded at once at most.
	maxDecoders = 16
	// decoderWait is how long an answer waits for others to be decoded.
	decoderWait = time.Second
)

var (
	errCoding        = errors.New("its Content-Encoding is neither gzip nor zstd")
	errDecodersBusy  = errors.New("too many answers are being decoded")
	errNoDecoderRoom = errors.New("memory has no room to decode it")
	errGrows         = errors.New("it grows too much when it is decoded")
)

// newDecoders returns the places for answers that are being decoded.
func newDecoders() chan struct{} {
	return make(chan struct{}, min(runtime.GOMAXPROCS(0), maxDecoders))
}

// mayDecode is how many bytes an answer may have that came as coded ones.
func mayDecode(coded int64) int64 { return min(maxDecoded, max(smallDecoded, maxGrowth*coded)) }

// reasonAgainst says why a whole answer is not stored, by what it says to the request.
func (x *Fetch) reasonAgainst(header http.Header, body store.Body) rfc9111.Reason {
	if !x.keyed.content.isQuery() {
		return rfc9111.Storable
	}
	switch err := x.cache.checkAnswer(header, body); {
	case errors.Is(err, errDecodersBusy), errors.Is(err, errNoDecoderRoom):
		return rfc9111.ReasonFull
	case err != nil:
		return rfc9111.ReasonGraphQL
	}
	return rfc9111.Storable
}

// reasonWhileCounted is reasonAgainst of an answer that is in memory, where it counts until it is
// handed over: to judge it may take a while, and its room would be another's meanwhile. judged is
// false of one that has spilled or is not whole.
func (x *Fetch) reasonWhileCounted(header http.Header) (reason rfc9111.Reason, judged bool) {
	if !x.keyed.content.isQuery() {
		return rfc9111.Storable, true
	}
	chunks, whole := x.flight.Body()
	if !whole {
		return rfc9111.Storable, false
	}
	return x.reasonAgainst(header, store.NewBody(chunks)), true
}

// checkAnswer is graphql.CheckAnswer of what a body says that its header calls coded.
func (c *Cache) checkAnswer(header http.Header, body store.Body) error {
	codings, in := header["Content-Encoding"], &bodyReader{body: body}
	if len(codings) > 1 {
		return errCoding
	}
	coding := ""
	if len(codings) > 0 {
		coding = rfc9111.ToLower(rfc9111.TrimOWS(codings[0]))
	}
	var check func(io.Reader, int64) error
	switch coding {
	case "", "identity":
		return graphql.CheckAnswer(in)
	case "gzip", "x-gzip":
		check = checkGzip
	case "zstd":
		check = c.checkZstd
	default:
		return errCoding
	}
	if !c.takeDecoder() {
		return errDecodersBusy
	}
	defer func() { <-c.decoders }()
	return check(in, mayDecode(body.Len()))
}

// takeDecoder waits for one of the places for answers that are being decoded.
func (c *Cache) takeDecoder() bool {
	select {
	case c.decoders <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(decoderWait)
	defer timer.Stop()
	select {
	case c.decoders <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

// checkGzip checks an answer in gzip, of up to limit bytes. A decoder takes 80 KiB.
func checkGzip(body io.Reader, limit int64) error {
	decoded, err := gzip.NewReader(body)
	if err != nil {
		return fmt.Errorf("reading gzip: %w", err)
	}
	return graphql.CheckAnswer(io.LimitReader(decoded, limit))
}

// checkZstd checks an answer in zstd, of up to limit bytes. No frame may have a larger window than
// the first.
func (c *Cache) checkZstd(body io.Reader, limit int64) error {
	in, window, err := zstdFrame(body, limit)
	if err != nil {
		return err
	}
	room := zstdRoom(window)
	if !c.store.Reserve(room, 0) {
		return errNoDecoderRoom
	}
	defer c.store.Unreserve(room)
	decoded, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(window)))
	if err != nil {
		return fmt.Errorf("reading zstd: %w", err)
	}
	defer decoded.Close()
	return graphql.CheckAnswer(io.LimitReader(decoded, limit))
}

// zstdFrame reads the header of the first frame, and returns the frame with its window in bytes. No
// match begins further back than the limit of what is decoded, so no window has to be larger: one
// that is has another exponent in the frame that is returned (RFC 8878 3.1.1.1.2).
func zstdFrame(body io.Reader, limit int64) (in io.Reader, window int64, err error) {
	const descriptor, leastExponent = 5, 10 // where it is, and what is the window of exponent 0
	whole := bufio.NewReader(body)
	begin, _ := whole.Peek(zstd.HeaderMaxSize)
	var frame zstd.Header
	if err := frame.Decode(begin); err != nil {
		return nil, 0, fmt.Errorf("reading zstd: %w", err)
	}
	size := frame.WindowSize
	if frame.SingleSegment {
		size = frame.FrameContentSize
	}
	switch size = max(size, zstd.MinWindowSize); {
	case frame.HasFCS && frame.FrameContentSize > uint64(limit):
		return nil, 0, errGrows
	case size > maxAnswerWindow:
		return nil, 0, zstd.ErrWindowSizeExceeded
	case frame.SingleSegment, size <= uint64(limit):
		return whole, int64(size), nil
	}
	exponent := bits.Len64(uint64(limit-1)) - leastExponent
	changed := append([]byte(nil), begin[:descriptor+1]...)
	changed[descriptor] = byte(exponent << 3)
	_, _ = whole.Discard(len(changed))
	return io.MultiReader(bytes.NewReader(changed), whole), 1 << (leastExponent + exponent), nil
}

// zstdRoom is how many bytes a decoder allocates for a window, as measured: it and as much again,
// up to a megabyte, for what is decoded, and blocks of up to 128 KiB in several forms.
func zstdRoom(window int64) int64 { return window + min(window+window/2, 3<<19) + 64<<10 }

// bodyReader reads a body from its beginning.
type bodyReader struct {
	body store.Body
	off  int64
	rest []byte
}

// Read implements io.Reader.
func (r *bodyReader) Read(p []byte) (n int, err error) {
	if len(r.rest) == 0 {
		if r.off == r.body.Len() {
			return 0, io.EOF
		}
		if r.rest, err = r.body.Chunk(r.off); err != nil {
			return 0, err
		}
		r.off += int64(len(r.rest))
	}
	n = copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Package frames compresses a piece of a body so that any part of it can be read alone: as frames
// of zstd (RFC 8878), each of so many bytes that a reader has in hand at once anyway.
//
//	sizes   2 bytes for each frame but the last, big-endian: its length as it stands here
//	frames  one for each Size bytes of the piece. One that is as long as these is these bytes
//	        themselves, any other is a frame of zstd
//
// How long the piece is stands elsewhere. What is read is not trusted: no more is decompressed than
// the piece is said to have, and each frame has a checksum of what it decompresses to.
//
// # Memory
//
// Encoders and decoders are shared by the whole process and kept: as many of each as may run at
// once, which is GOMAXPROCS when the first is needed, and maxCoders at most. An encoder takes 0.5
// MiB, of which there are two kinds, a decoder 0.2 MiB.
//
// # Level
//
// It is the fastest of the library. Of JSON and HTML the next one saves a hundredth more and takes
// half as long again; both are decompressed alike. A frame that comes to a quarter without entropy
// coding has none: it is read in half the time, and takes a third more room. Prose does not come to
// that, and is coded twice.
package frames

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Size is how many bytes of a piece a frame is of; the last may be of fewer.
const Size = 32 << 10

// maxCoders is how many encoders, and how many decoders, there are at most.
const maxCoders = 16

// minSaved is what part of a piece has to be saved, for it to be read more slowly.
const minSaved = 8

// minPlain is to what part of its length a frame must come without entropy coding, to stay so.
const minPlain = 4

// ErrDamaged says that what was to be read is not what Append returns.
var ErrDamaged = errors.New("compressed frames are damaged")

func coders() int { return min(runtime.GOMAXPROCS(0), maxCoders) }

// The encoders and the decoder bound by themselves how many calls are under way.
var (
	plainEncoder = sync.OnceValue(func() *zstd.Encoder { return newEncoder(false) })
	denseEncoder = sync.OnceValue(func() *zstd.Encoder { return newEncoder(true) })
)

// newEncoder makes an encoder, with entropy coding of what it does not find twice or without.
func newEncoder(entropy bool) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(Size),
		zstd.WithEncoderConcurrency(coders()), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(true), zstd.WithNoEntropyCompression(!entropy))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
}

var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(coders()), zstd.WithDecoderLowmem(true),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(Size), zstd.WithDecoderMaxWindow(Size))
	if err != nil {
		panic(err)
	}
	return d
})

// count is how many frames a piece of length bytes has.
func count(length int) int { return (length + Size - 1) / Size }

// Append appends a piece, compressed, to dst. Where that saves less than an eighth of it, ok is
// false and nothing is appended.
func Append(dst, piece []byte) (out []byte, ok bool) {
	n, start := count(len(piece)), len(dst)
	if n == 0 {
		return dst, false
	}
	out = append(dst, make([]byte, 2*(n-1))...)
	for i := range n {
		plain, from := piece[i*Size:min((i+1)*Size, len(piece))], len(out)
		out = appendFrame(out, plain)
		if len(out)-from >= len(plain)-len(plain)/minSaved {
			out = append(out[:from], plain...)
		}
		if i < n-1 {
			binary.BigEndian.PutUint16(out[start+2*i:], uint16(len(out)-from))
		}
	}
	if len(out)-start >= len(piece)-len(piece)/minSaved {
		return out[:start], false
	}
	return out, true
}

// appendFrame appends a frame of zstd. Without entropy coding it is read in half the time, which is
// what counts where the most is saved anyway.
func appendFrame(dst, plain []byte) []byte {
	out := plainEncoder().EncodeAll(plain, dst)
	if len(out)-len(dst) <= len(plain)/minPlain {
		return out
	}
	return denseEncoder().EncodeAll(plain, dst)
}

// Frames is a piece as Append has left it. The zero value is one without bytes.
type Frames struct {
	data   []byte
	length int
}

// Open looks at the sizes in data, which is of a piece of length bytes. The result keeps data.
func Open(data []byte, length int) (Frames, error) {
	n := count(length)
	if n == 0 || len(data) < 2*(n-1) || len(data) >= length {
		return Frames{}, fmt.Errorf("%w: %d bytes are not of %d", ErrDamaged, len(data), length)
	}
	f := Frames{data: data, length: length}
	if from, to := f.place(n - 1); from > to {
		return Frames{}, fmt.Errorf("%w: sizes", ErrDamaged)
	}
	return f, nil
}

// Len is the length of the piece in bytes.
func (f Frames) Len() int { return f.length }

// SizesOf is how many bytes of what Append returns for a piece of length bytes are sizes.
func SizesOf(length int) int { return 2 * max(count(length)-1, 0) }

// Place is where in the data the frame stands that has the byte at off of the piece.
func (f Frames) Place(off int) (from, to int) { return f.place(off / Size) }

// place is where a frame stands. That of the last may be none, if the sizes are wrong.
func (f Frames) place(i int) (from, to int) {
	last := count(f.length) - 1
	from = 2 * last
	for k := range i {
		from += int(binary.BigEndian.Uint16(f.data[2*k:]))
	}
	if i == last {
		return from, len(f.data)
	}
	return from, from + int(binary.BigEndian.Uint16(f.data[2*i:]))
}

// Read returns the bytes of the piece from off on, as far as the frame reaches that they are in: in
// the memory of room where that has the frame's length, which Size always is, or else elsewhere.
// Off is below Len.
func (f Frames) Read(room []byte, off int) ([]byte, error) {
	i := off / Size
	plain, err := f.frame(room[:0], i)
	if err != nil {
		return nil, err
	}
	return plain[off-i*Size:], nil
}

// ReadAll decompresses the piece into dst, which has its length.
func (f Frames) ReadAll(dst []byte) error {
	if len(dst) != f.length {
		return fmt.Errorf("%w: of %d bytes, not %d", ErrDamaged, f.length, len(dst))
	}
	for i := range count(f.length) {
		from, to := i*Size, min((i+1)*Size, f.length)
		if _, err := f.frame(dst[from:from:to], i); err != nil {
			return err
		}
	}
	return nil
}

// frame decompresses a frame into the capacity of room, where that is enough for it.
func (f Frames) frame(room []byte, i int) ([]byte, error) {
	from, to := f.place(i)
	length := min(Size, f.length-i*Size)
	if cap(room) < length {
		room = make([]byte, 0, length)
	}
	coded := f.data[from:to]
	if len(coded) == length {
		return append(room, coded...), nil
	}
	plain, err := decoder().DecodeAll(coded, room[:0:length])
	if err != nil {
		return nil, fmt.Errorf("%w: frame %d: %w", ErrDamaged, i, err)
	}
	if len(plain) != length {
		return nil, fmt.Errorf("%w: frame %d is of %d bytes, not %d", ErrDamaged, i, len(plain), length)
	}
	return plain, nil
}

package store

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/larder-cache/larder/internal/frames"
)

// Compression is what bodies are compressed by on disk. In memory they stand as they are.
type Compression uint8

// The compressions.
const (
	// CompressOff stores bodies as they are.
	CompressOff Compression = iota
	// CompressZstd compresses those that Compressible accepts, by zstd (RFC 8878).
	CompressZstd
)

// String returns the word of the configuration.
func (c Compression) String() string {
	switch c {
	case CompressOff:
		return "off"
	case CompressZstd:
		return "zstd"
	default:
		return fmt.Sprintf("compression(%d)", uint8(c))
	}
}

// ParseCompression reads the word of the configuration: off or zstd. Any other is an error.
func ParseCompression(word string) (Compression, error) {
	for _, c := range []Compression{CompressOff, CompressZstd} {
		if word == c.String() {
			return c, nil
		}
	}
	return CompressOff, fmt.Errorf("unknown compression %q: want off or zstd", word)
}

// minCompressed is from how many bytes on a body is compressed.
const minCompressed = 1 << 10

// Compressible tells whether a body of length bytes, -1 if that is not known yet, is of a type that
// can be expected to be much smaller when it is compressed, and not compressed already.
func Compressible(header http.Header, length int64) bool {
	if length >= 0 && length < minCompressed || len(header["Content-Encoding"]) > 0 {
		return false
	}
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return false
	}
	if strings.HasPrefix(kind, "text/") || slices.ContainsFunc(compressibleSuffixes, func(s string) bool { return strings.HasSuffix(kind, s) }) {
		return true
	}
	_, listed := compressibleTypes[kind]
	return listed
}

// compressibleSuffixes end the types of formats that are built on these (RFC 6839).
var compressibleSuffixes = []string{"+json", "+json-seq", "+xml", "+yaml"}

// compressibleTypes are those of Caddy's encode which do not begin with text and have no suffix,
// and some that have come since.
var compressibleTypes = setOf(
	"application/eot", "application/font", "application/font-sfnt", "application/gpx", "application/graphql", "application/javascript", "application/json",
	"application/json-seq", "application/jsonl", "application/opentype", "application/otf", "application/postscript", "application/rtf",
	"application/sql", "application/truetype", "application/ttf", "application/vnd.ms-fontobject", "application/wasm", "application/x-httpd-cgi",
	"application/x-javascript", "application/x-ndjson", "application/x-opentype", "application/x-otf", "application/x-perl",
	"application/x-protobuf", "application/x-ttf", "application/x-yaml", "application/xml", "application/xml-dtd", "application/yaml",
	"font/otf", "font/sfnt", "font/ttf", "image/bmp", "image/vnd.microsoft.icon", "image/x-icon", "multipart/bag", "multipart/mixed",
)

func setOf(words ...string) map[string]struct{} {
	set := make(map[string]struct{}, len(words))
	for _, word := range words {
		set[word] = struct{}{}
	}
	return set
}

// packers are buffers in which a piece is compressed, before it is known how long that comes out.
var packers = sync.Pool{New: func() any { return new([]byte) }}

// pack compresses the body of an entry that fits a chunk, on the goroutine that puts it: there are
// many of these, and one that writes to the disk. The chunks of a longer body, which are few beside
// those, it leaves to that one.
func (s *Store) pack(j *job, e *Entry) {
	length := e.Body.Len()
	header := e.Header
	if e.Of != nil {
		header = e.Of
	}
	if s.settings.Load().Compress != CompressZstd || !Compressible(header, length) {
		return
	}
	if _, onDisk := e.Body.(*diskBody); onDisk {
		return
	}
	if j.compress = length > chunkSize; j.compress {
		return
	}
	if plain, err := readRange(e.Body, 0, length); err == nil { // else the disk writer will meet it
		j.packed = packPiece(plain)
	}
}

// packPiece compresses a piece of a body; nil where little is saved.
func packPiece(plain []byte) []byte {
	buf := packers.Get().(*[]byte)
	defer packers.Put(buf)
	packed, ok := frames.Append((*buf)[:0], plain)
	*buf = packed[:0]
	if !ok {
		return nil
	}
	return slices.Clone(packed)
}

// openFrames is frames.Open for what has been read from the file.
func openFrames(data []byte, length int64) (frames.Frames, error) {
	f, err := frames.Open(data, int(length))
	if err != nil {
		return f, fmt.Errorf("%w: %w", err, errDamaged)
	}
	return f, nil
}

// packedBody is a body that is compressed, as it is within a transaction.
type packedBody struct{ frames.Frames }

// Len is the whole length in bytes.
func (b packedBody) Len() int64 { return int64(b.Frames.Len()) }

// Chunk returns some bytes from off on, decompressed.
func (b packedBody) Chunk(off int64) ([]byte, error) {
	if off < 0 || off > b.Len() {
		return nil, errOffset(off, b.Len())
	}
	if off == b.Len() {
		return nil, nil
	}
	plain, err := b.Read(nil, int(off))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errDamaged)
	}
	return plain, nil
}

// fill implements filler.
func (b packedBody) fill(dst []byte) error {
	if err := b.ReadAll(dst); err != nil {
		return fmt.Errorf("%w: %w", err, errDamaged)
	}
	return nil
}

// filler is a body that is copied as a whole with less work than chunk by chunk.
type filler interface{ fill(dst []byte) error }

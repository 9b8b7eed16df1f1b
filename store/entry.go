package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// Key names everything the caller keyed: the SHA-256 of it. All variants of a URL share one Key.
type Key [32]byte

// Flags are facts of the fetching request that the caller wants back with the entry. All but the
// following are opaque to the store. An entry of a later release that has other flags is not found.
type Flags uint8

const (
	// FlagPart says that the entry is a part of what another one stands for, under a key that only
	// its caller can find from that one. It is purged, evicted and expires as any other, and its
	// bytes count. It is in no listing, and neither Stats nor what a purge returns counts it.
	FlagPart Flags = 1 << 7
	// FlagHead says that the entry stands for such parts, and that its notes tell how large the
	// whole is. Sorted listings show them to Order.By.
	FlagHead Flags = 1 << 6
)

// Variant is what a response was selected by (RFC 9111 4.1). It is opaque to the store, which
// compares variants only for equality.
type Variant struct {
	// Names are the field names of the response's Vary, canonical and sorted.
	Names []string
	// Values are the normalised values the fetching request had for Names; same length.
	Values []string
	// Coding is the response's Content-Encoding, so that a match can be judged without the
	// response.
	Coding string
}

// Equal tells whether two variants select the same requests by the same coding.
func (v *Variant) Equal(o *Variant) bool {
	return v.Coding == o.Coding && slices.Equal(v.Names, o.Names) && slices.Equal(v.Values, o.Values)
}

// variantSum stands for a variant where only equality is asked, and where many wait: a variant may
// be as long as the header of a request.
type variantSum [sha256.Size]byte

// sum is that of v. Each string goes in behind its length, so that no two variants are one text.
func (v *Variant) sum() (s variantSum) {
	if len(v.Names) == 0 && v.Coding == "" { // as a rule
		return s
	}
	h := sha256.New()
	var buf []byte
	add := func(text string) {
		buf = append(binary.AppendUvarint(buf[:0], uint64(len(text))), text...)
		_, _ = h.Write(buf) // never fails
	}
	add(v.Coding)
	for i, name := range v.Names {
		add(name)
		add(v.Values[i])
	}
	h.Sum(s[:0])
	return s
}

// summed is a variant with its sum, which is made once, when it is first asked for.
type summed struct {
	*Variant
	made bool
	of   variantSum
}

func (v *summed) sum() variantSum {
	if !v.made {
		v.of, v.made = v.Variant.sum(), true
	}
	return v.of
}

// Entry is one stored response. It is immutable once put: share the pointer, copy with Clone. Its
// strings are good for ever; its Body, where Lookup returned it, until the Result is released.
type Entry struct {
	// ID is given by Put, ascending over the life of the store and of its file; that of a
	// BodyWriter was given when it began, and that of a renewed large body is that of the first
	// with it.
	ID uint64
	// Key is the primary key, as the caller computed it.
	Key Key
	// URL is what the client asked for, normalised by the caller: absolute, for purge and listing,
	// and with the listener at which it was asked for, as URLAt has it.
	URL string
	// Variant is what selected this response among those of its Key.
	Variant Variant
	// Method is the request method that fetched it.
	Method string
	// Flags are the caller's, kept as they are.
	Flags Flags
	// Notes are the caller's too.
	Notes []string
	// Status is the HTTP status of the response.
	Status int
	// Header and Trailer are the response's fields. They are never written to after Put.
	Header, Trailer http.Header
	// Of is the header of the response that this is a part of, nil for one that is whole. It says
	// whether the body is Compressible, and is not stored.
	Of http.Header
	// RequestTime and ResponseTime are those of RFC 9111 4.2.3.
	RequestTime, ResponseTime time.Time
	// FetchTime is how long the origin takes for it, an average kept by the caller; 0 if unknown.
	FetchTime time.Duration
	// FreshUntil is the end of freshness as judged when stored; for listing only.
	FreshUntil time.Time
	// KeptFrom is the end of its lifetime and of its stale windows. From then on it is only kept,
	// and goes before others when room is needed. Zero: it never is.
	KeptFrom time.Time
	// KeepUntil is when the entry is of no use to anyone any more, not even stale or for
	// revalidation. It is not looked up from then on, and swept.
	KeepUntil time.Time
	// Tags are surrogate keys: exact, case-sensitive. Those that begin with a NUL byte are
	// internal: purgeable, never listed.
	Tags []string
	// Generation is that of the Ticket under which the fetch began.
	Generation uint64
	// Body is the response body, whole.
	Body Body
	// Derived is room for what the caller derived from an entry, so that it need not derive it
	// again while the entry is among those kept decoded. It is not stored and begins nil.
	Derived atomic.Pointer[any]

	renews *Entry // see Renewal
}

// keptFrom is KeptFrom, or KeepUntil where it is never only kept.
func (e *Entry) keptFrom() time.Time {
	if e.KeptFrom.IsZero() {
		return e.KeepUntil
	}
	return e.KeptFrom
}

// Clone returns a shallow copy with no ID and no Derived: what a refreshed response starts from.
// Header and Trailer are shared and must be replaced, not changed.
func (e *Entry) Clone() *Entry {
	return &Entry{
		Key: e.Key, URL: e.URL, Variant: e.Variant, Method: e.Method, Flags: e.Flags, Notes: e.Notes,
		Status: e.Status, Header: e.Header, Trailer: e.Trailer, Of: e.Of,
		RequestTime: e.RequestTime, ResponseTime: e.ResponseTime, FetchTime: e.FetchTime,
		FreshUntil: e.FreshUntil, KeptFrom: e.KeptFrom, KeepUntil: e.KeepUntil,
		Tags: e.Tags, Generation: e.Generation, Body: e.Body,
	}
}

// Renewal is Clone for a stored response that was validated: whatever else is changed, the Body
// stays. When it is put with the same Key, URL and Variant it takes e's place and its ID, and a
// large body is neither copied nor written again. It is not stored where e was purged meanwhile, by
// whatever e had: a renewal may have other tags.
func (e *Entry) Renewal() *Entry {
	r := e.Clone()
	r.renews = e
	return r
}

// Body is a stored body. Its methods are safe for concurrent use.
type Body interface {
	// Len is the whole length in bytes.
	Len() int64
	// Chunk returns some bytes from off on, one at least; none and no error at off == Len. They are
	// those of the memory tier, good until the Result is released, or a private copy (disk, at most
	// 32 KiB); the caller must not write to them.
	Chunk(off int64) ([]byte, error)
}

// memoryBody is a body on the Go heap, in the chunks in which it was captured.
type memoryBody struct {
	chunks [][]byte
	ends   []int64 // ends[i] is the offset behind chunks[i]; nil for a single chunk
	length int64
}

// NewBody makes a Body of the chunks captured by a fetch and takes them over. Empty chunks are
// left out.
func NewBody(chunks [][]byte) Body {
	b := &memoryBody{chunks: slices.DeleteFunc(chunks, func(c []byte) bool { return len(c) == 0 })}
	for _, c := range b.chunks {
		b.length += int64(len(c))
	}
	if len(b.chunks) > 1 {
		b.ends = make([]int64, len(b.chunks))
		var end int64
		for i, c := range b.chunks {
			end += int64(len(c))
			b.ends[i] = end
		}
	}
	return b
}

// Len is the whole length in bytes.
func (b *memoryBody) Len() int64 { return b.length }

// Chunk returns the bytes from off to the end of the chunk that holds off.
func (b *memoryBody) Chunk(off int64) ([]byte, error) {
	if off < 0 || off > b.length {
		return nil, errOffset(off, b.length)
	}
	if off == b.length {
		return nil, nil
	}
	if b.ends == nil {
		return b.chunks[0][off:], nil
	}
	i, found := slices.BinarySearch(b.ends, off)
	if found { // off is the end of chunk i, so it is the beginning of the next
		i++
	}
	start := b.ends[i] - int64(len(b.chunks[i]))
	return b.chunks[i][off-start:], nil
}

func errOffset(off, length int64) error {
	return fmt.Errorf("body chunk: offset %d outside of %d bytes", off, length)
}

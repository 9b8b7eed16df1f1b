package fleet

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/larder-cache/larder/store"
)

// A record of the shared tier is a stored response as bytes. Numbers are big-endian:
//
//	 0  magic(4), version(1)
//	 5  coding(1)      of the body, 0: as it is, 1: compressed
//	 6  stamp(8)       where the node was in the log when the fetch began
//	14  body(8)        length of the body
//	22  entry(4)       length of the entry
//	26  epoch(1)       length of the epoch
//	27  epoch          of the log that the stamp is of
//	    entry          store.AppendEntry, with its times by the server's clock
//	    body           up to inlineBody bytes; of a longer one the SHA-256 of each chunk as it stands
//	    seal(32)
//
// The seal is an HMAC with the fleet's secret over the record and the place where it stands, so a
// record cannot be moved to another key or variant. Without a secret it is a checksum. The chunks
// of a body stand under a name that is made of their sums: a node that has the record can tell
// chunks that are not its own, and a response that was renewed has the chunks that it had.
//
// A body that is compressed, or a part of it, has the form of internal/frames: one that stands
// here, or each chunk that is shorter than its bytes are. Such a record has a version of its own: a
// node that does not know it takes it for none, and leaves it to those that do.
//
// What is read is not trusted. A record that is foreign, older, newer or damaged is none. No more
// is decompressed than the length of the body says.
const (
	recordMagic   = "LRDR"
	recordVersion = 1
	packedVersion = 2 // of one whose body is compressed
	recordFixed   = 27

	inlineBody = 64 << 10
	chunkBytes = MaxChunkBytes
	sealBytes  = sha256.Size
	// maxEntryBytes bounds what an entry is beside its body.
	maxEntryBytes = store.MaxEntryBytes
	// maxBodyBytes is how long a body may be whose sums have room in a record.
	maxBodyBytes = chunkBytes * ((MaxRecordBytes - maxEntryBytes - recordFixed - 255 - sealBytes) / sha256.Size)
)

// coding says what a body is like in the tier.
type coding uint8

const (
	codingNone coding = iota
	codingZstd
)

// version is that of the records with a coding.
func (c coding) version() byte {
	if c == codingNone {
		return recordVersion
	}
	return packedVersion
}

var (
	errForeign  = errors.New("the record is not of this fleet")
	errTooLarge = errors.New("the response has no room in a record")
)

// record is a decoded one.
type record struct {
	stamp  Stamp
	entry  *store.Entry // without its body
	length int64        // of the body
	coding coding       // of what follows
	inline []byte       // the body, where that is short; one that was read is decompressed
	sums   []byte       // of the chunks, where it is long
}

// place is where a record stands.
type place struct {
	key     store.Key
	variant string
}

// keyText is a key as the engine has it.
func keyText(key store.Key) string { return hex.EncodeToString(key[:]) }

// sealer makes and checks seals.
type sealer struct{ secret []byte }

func (s *sealer) hash() hash.Hash {
	if len(s.secret) == 0 {
		return sha256.New()
	}
	return hmac.New(sha256.New, s.secret)
}

// seal returns the seal of content where it stands: parts name the place.
func (s *sealer) seal(content []byte, parts ...string) []byte {
	h := s.hash()
	for _, part := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	h.Write(content)
	return h.Sum(nil)
}

// appendRecord encodes a record at its place. clock turns this node's times into the server's.
func (s *sealer) appendRecord(b []byte, r *record, at place, clock func(time.Time) time.Time) ([]byte, error) {
	start := len(b)
	var fixed [recordFixed]byte
	copy(fixed[:], recordMagic)
	fixed[4], fixed[5] = r.coding.version(), byte(r.coding)
	order := binary.BigEndian
	order.PutUint64(fixed[6:], uint64(r.stamp.Generation))
	order.PutUint64(fixed[14:], uint64(r.length))
	fixed[26] = byte(len(r.stamp.Epoch))
	b = append(append(b, fixed[:]...), r.stamp.Epoch...)
	from := len(b)
	b = store.AppendEntry(b, withTimes(r.entry, clock))
	entry := len(b) - from
	order.PutUint32(b[start+22:], uint32(entry))
	if len(r.stamp.Epoch) > 255 || entry > maxEntryBytes || r.length > maxBodyBytes {
		return nil, errTooLarge
	}
	b = append(append(b, r.inline...), r.sums...)
	return append(b, s.seal(b[start:], "record", string(at.key[:]), at.variant)...), nil
}

// decodeRecord is the inverse. Nothing in the result shares b's memory but the body and the sums.
func (s *sealer) decodeRecord(b []byte, at place, clock func(time.Time) time.Time) (*record, error) {
	if len(b) < recordFixed+sealBytes || len(b) > MaxRecordBytes ||
		string(b[:4]) != recordMagic || coding(b[5]) > codingZstd || b[4] != coding(b[5]).version() {
		return nil, errForeign
	}
	content := b[:len(b)-sealBytes]
	if !hmac.Equal(b[len(content):], s.seal(content, "record", string(at.key[:]), at.variant)) {
		return nil, fmt.Errorf("seal: %w", errForeign)
	}
	order := binary.BigEndian
	r := &record{
		stamp:  Stamp{Generation: Generation(order.Uint64(b[6:]))},
		length: int64(order.Uint64(b[14:])),
		coding: coding(b[5]),
	}
	epoch, entry := int(b[26]), uint64(order.Uint32(b[22:]))
	rest := content[recordFixed:]
	if r.length < 0 || r.length > maxBodyBytes || entry > maxEntryBytes || uint64(epoch)+entry > uint64(len(rest)) {
		return nil, fmt.Errorf("lengths: %w", errForeign)
	}
	r.stamp.Epoch = string(rest[:epoch])
	encoded, body := rest[epoch:epoch+int(entry)], rest[epoch+int(entry):]
	if err := r.takeBody(body); err != nil {
		return nil, err
	}
	decoded, length, err := store.DecodeEntry(encoded)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errForeign, err)
	}
	if length != r.length || decoded.Key != at.key || variantID(&decoded.Variant) != at.variant {
		return nil, fmt.Errorf("place: %w", errForeign)
	}
	r.entry = withTimes(decoded, clock)
	return r, nil
}

// takeBody takes what follows the entry in a record: the body, which it decompresses, or the sums.
func (r *record) takeBody(b []byte) (err error) {
	switch {
	case r.length > inlineBody:
		r.sums = b
		if len(b) != chunksOf(r.length)*sha256.Size {
			return fmt.Errorf("number of sums: %w", errForeign)
		}
	case r.coding == codingZstd:
		if r.inline, err = unpack(b, r.length); err != nil {
			return fmt.Errorf("%w: %w", errForeign, err)
		}
	case int64(len(b)) != r.length:
		return fmt.Errorf("length of the body: %w", errForeign)
	default:
		r.inline = b
	}
	return nil
}

// chunksOf is how many chunks a body of a length has.
func chunksOf(length int64) int { return int((length + chunkBytes - 1) / chunkBytes) }

// sum is the sum of chunk i.
func (r *record) sum(i int) []byte { return r.sums[i*sha256.Size : (i+1)*sha256.Size] }

// chunkID is the name under which the chunks of a body stand.
func chunkID(sums []byte) string {
	sum := sha256.Sum256(sums)
	return hex.EncodeToString(sum[:16])
}

// withTimes is a copy of an entry with its times by another clock.
func withTimes(e *store.Entry, clock func(time.Time) time.Time) *store.Entry {
	c := e.Clone()
	for _, t := range [...]*time.Time{&c.RequestTime, &c.ResponseTime, &c.FreshUntil, &c.KeptFrom, &c.KeepUntil} {
		if !t.IsZero() {
			*t = clock(*t)
		}
	}
	return c
}

// Rows of the index say what the variants of a key are: the names and values that select one, and
// its coding. A variant's name in the tier is made of its row. A look-up reads all rows of a key,
// so they are short: a variant that has longer values is not shared.

const (
	maxRowBytes = 1 << 10
	maxRows     = 1 << 10
	maxNames    = 64
)

// hasRow reports whether a variant has room in a row.
func hasRow(v *store.Variant) bool {
	return len(v.Names) <= maxNames && len(appendRow(nil, v)) <= maxRowBytes
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendRow encodes a variant.
func appendRow(b []byte, v *store.Variant) []byte {
	b = binary.AppendUvarint(appendText(b, v.Coding), uint64(len(v.Names)))
	for i, name := range v.Names {
		b = appendText(appendText(b, name), v.Values[i])
	}
	return b
}

// parseRow is the inverse. ok is false for what no node has written.
func parseRow(row []byte) (v store.Variant, ok bool) {
	if len(row) > maxRowBytes {
		return v, false
	}
	rest := row
	v.Coding = takeText(&rest)
	n := takeUvarint(&rest)
	if n > maxNames {
		return v, false
	}
	for range n {
		v.Names = append(v.Names, takeText(&rest))
		v.Values = append(v.Values, takeText(&rest))
	}
	return v, bytes.Equal(appendRow(nil, &v), row)
}

// decodeRow is parseRow for a row of the index. ok is false for the row of another variant, too.
func decodeRow(row []byte, id string) (v store.Variant, ok bool) {
	v, ok = parseRow(row)
	return v, ok && variantID(&v) == id
}

// takeUvarint and takeText read what was appended, and zero values where it is not there.
func takeUvarint(rest *[]byte) uint64 {
	n, size := binary.Uvarint(*rest)
	if size <= 0 {
		*rest = nil
		return 0
	}
	*rest = (*rest)[size:]
	return n
}

func takeText(rest *[]byte) string {
	n := takeUvarint(rest)
	if n > uint64(len(*rest)) {
		*rest = nil
		return ""
	}
	s := string((*rest)[:n])
	*rest = (*rest)[n:]
	return s
}

// variantID is the name of a variant in the tier.
func variantID(v *store.Variant) string {
	sum := sha256.Sum256(appendRow(nil, v))
	return hex.EncodeToString(sum[:16])
}

package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/larder-cache/larder/store/internal/boltcheck"
)

// errDamaged is wrapped by every error that says that bytes read back are not those written.
var errDamaged = boltcheck.ErrDamaged

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers what bytes are and where they belong: the parts are hashed one after the other.
func checksum(parts ...[]byte) uint32 {
	var sum uint32
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	return sum
}

// appendString writes a length and the bytes. Strings need not be UTF-8: field values may hold any
// bytes (RFC 9110 5.5).
func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendList writes a number and so many strings.
func appendList(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

// decoder reads what was appended. What it returns are substrings of rest, so one copy made before
// serves all. After a field that is not there it returns zero values, and bad is set.
type decoder struct {
	rest string
	bad  bool
}

func (d *decoder) uvarint() uint64 {
	var n uint64
	for i := 0; i < len(d.rest) && i < binary.MaxVarintLen64; i++ {
		b := d.rest[i]
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			d.rest = d.rest[i+1:]
			return n
		}
	}
	d.fail()
	return 0
}

func (d *decoder) take(n uint64) string {
	if n > uint64(len(d.rest)) {
		d.fail()
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) byte() byte {
	s := d.take(1)
	if s == "" {
		return 0
	}
	return s[0]
}

func (d *decoder) string() string { return d.take(d.uvarint()) }

// count reads how many elements follow, each of which has at least size bytes: no number read can
// ask for more memory than the input justifies.
func (d *decoder) count(size uint64) int {
	n := d.uvarint()
	if n > uint64(len(d.rest))/size {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) list() []string {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = d.string()
	}
	return list
}

func (d *decoder) fail() { d.rest, d.bad = "", true }

// The flags of a purge on disk.
const (
	purgeSoft = 1 << iota
	purgeAll
)

// encodePurge is the value of a purge record, under its generation: checksum, flags, the lists of
// selectors.
func encodePurge(rec *purgeRecord) []byte {
	v := make([]byte, 5, 64)
	if rec.soft {
		v[4] |= purgeSoft
	}
	if rec.sel.All {
		v[4] |= purgeAll
	}
	for _, list := range [][]string{rec.sel.Tags, rec.sel.URLs, rec.sel.Prefixes, rec.sel.Hosts} {
		v = appendList(v, list)
	}
	binary.BigEndian.PutUint32(v, checksum(idBytes(rec.gen), v[4:]))
	return v
}

func decodePurge(key, value []byte) (*purgeRecord, error) {
	if len(key) != 8 || len(value) < 5 || binary.BigEndian.Uint32(value) != checksum(key, value[4:]) {
		return nil, fmt.Errorf("purge record: checksum: %w", errDamaged)
	}
	d := decoder{rest: string(value[5:])}
	sel := Selectors{Tags: d.list(), URLs: d.list(), Prefixes: d.list(), Hosts: d.list(), All: value[4]&purgeAll != 0}
	if d.bad || d.rest != "" {
		return nil, fmt.Errorf("purge record: selectors: %w", errDamaged)
	}
	return &purgeRecord{
		gen: binary.BigEndian.Uint64(key), soft: value[4]&purgeSoft != 0, sel: sel, written: true, counted: true,
	}, nil
}

// latest is the last time that can be stored, in April 2262.
var latest = time.Unix(0, math.MaxInt64)

// nanos is a time as it is stored. Times that do not fit (before 1970, after latest) go to the
// nearest end.
func nanos(t time.Time) int64 {
	switch {
	case t.Year() < 1970:
		return 0
	case t.After(latest):
		return math.MaxInt64
	default:
		return t.UnixNano()
	}
}

func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// idBytes is an id, a rank or a generation as a key: big-endian, so that keys sort as numbers.
func idBytes(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

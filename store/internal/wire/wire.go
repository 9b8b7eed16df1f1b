// Package wire writes strings, lists and header fields as bytes, and reads them back without trust
// in what it reads. It does not know what they are of.
package wire

import (
	"encoding/binary"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is CRC-32C of what bytes are and of where they belong: of the parts, one after the
// other.
func Checksum(parts ...[]byte) uint32 {
	var sum uint32
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	return sum
}

// AppendString writes a length and the bytes. Strings need not be UTF-8: field values may hold any
// bytes (RFC 9110 5.5).
func AppendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// AppendList writes a number and so many strings.
func AppendList(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = AppendString(b, s)
	}
	return b
}

// Decoder reads what was appended. What it returns are substrings of its input, so one copy made
// before serves all. After a field that is not there it returns zero values, and Bad says so.
type Decoder struct {
	rest string
	bad  bool
}

// NewDecoder returns one for all of s.
func NewDecoder(s string) Decoder { return Decoder{rest: s} }

// Bad tells whether something was not there.
func (d *Decoder) Bad() bool { return d.bad }

// AtEnd tells whether nothing is left to read, as also after something that was not there.
func (d *Decoder) AtEnd() bool { return d.rest == "" }

// Done tells whether all has been read, and all of it was there.
func (d *Decoder) Done() bool { return d.AtEnd() && !d.bad }

// Uvarint reads a number.
func (d *Decoder) Uvarint() uint64 {
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

// Take reads n bytes.
func (d *Decoder) Take(n uint64) string {
	if n > uint64(len(d.rest)) {
		d.fail()
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

// Byte reads one.
func (d *Decoder) Byte() byte {
	s := d.Take(1)
	if s == "" {
		return 0
	}
	return s[0]
}

// Text reads what AppendString wrote.
func (d *Decoder) Text() string { return d.Take(d.Uvarint()) }

// Count reads how many elements follow, each of which has at least size bytes: no number read can
// ask for more memory than the input justifies.
func (d *Decoder) Count(size uint64) int {
	n := d.Uvarint()
	if n > uint64(len(d.rest))/size {
		d.fail()
		return 0
	}
	return int(n)
}

// List reads what AppendList wrote; nil for an empty list.
func (d *Decoder) List() []string {
	n := d.Count(1)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = d.Text()
	}
	return list
}

func (d *Decoder) fail() { d.rest, d.bad = "", true }

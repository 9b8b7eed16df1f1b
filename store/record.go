package store

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"time"

	"github.com/larder-cache/larder/store/internal/wire"
)

// recordVersion is the fifth byte of a record; another one does not decode and counts as damaged.
const recordVersion = 5

// recordWithoutKeptFrom is the version of before, which is read too: it lacks KeptFrom.
const recordWithoutKeptFrom = 4

// recordPacked is the version of an entry whose body is compressed on disk, or a part of it. A
// release that knows nothing of that takes the record for damaged, which is a miss. In memory there
// is none: see plain.
const recordPacked = 6

// record is an entry but for its body, as both tiers keep it: what is asked of many entries at once
// stands at fixed places, so that looking at it decodes nothing. Numbers are big-endian, times
// nanoseconds since 1970.
//
//	 0  wire.Checksum(4) of the id and the rest of the record; filled in on the way to the disk
//	 4  version(1)
//	 5  flags(1)         of the caller
//	 6  status(2)        with room for flags of later releases, see laterFlags
//	 8  length(4)        of the record
//	12  body(8)          length of the body
//	20  generation(8)
//	28  RequestTime(8), ResponseTime(8), FreshUntil(8), KeepUntil(8)
//	60  key(32)
//	92  lengths(4 each)  of URL, variant, tags
//	104 wire.Checksum(4) of the id and the body in the same row; filled in on the way to the disk
//	108 URL              and listener, see URLAt
//	    variant          coding, number of names, names and values in turn
//	    tags             number of tags, tags
//	    method, header, trailer
//	    notes            number of notes, notes
//	    FetchTime        nanoseconds as a uvarint; nothing where it is 0, as in records from before
//	                     it was kept
//	    KeptFrom(8)      as the last thing, so that it is found without decoding the rest
//	    stored(8)        of recordPacked, behind that: how many bytes of the file the body takes
//
// Strings but the URL have their length in front. A header is its number of names, its number of
// values, and for each name: a byte of wellKnown, or 0 and the name; how many values it has; the
// values.
//
// A small body follows at once, in the same row of the file, in memory in any case. It has a
// checksum of its own, because most of those who read a record, to evict it or to sweep, have no
// use for the body. That of recordPacked is one frame of internal/frames.
type record []byte

// laterFlags are the bits of the status that no status has. All flags have a meaning by now. One
// that is added goes there, and says something that this release would pass over: so a record with
// one is none here, as after a downgrade or in a fleet whose machines are being upgraded.
const laterFlags = 0xfc00

const (
	recordFixed   = 108
	recordBodySum = 104
)

// appendRecord encodes an entry without its body and its checksum.
func appendRecord(b []byte, e *Entry) record {
	start := len(b)
	var fixed [recordFixed]byte
	b = append(append(b, fixed[:]...), e.URL...)
	variant := len(b)
	b = binary.AppendUvarint(wire.AppendString(b, e.Variant.Coding), uint64(len(e.Variant.Names)))
	for i, name := range e.Variant.Names {
		b = wire.AppendString(wire.AppendString(b, name), e.Variant.Values[i])
	}
	tags := len(b)
	b = wire.AppendList(b, e.Tags)
	rest := len(b)
	b = wire.AppendHeader(wire.AppendHeader(wire.AppendString(b, e.Method), e.Header), e.Trailer)
	b = wire.AppendList(b, e.Notes)
	if e.FetchTime > 0 {
		b = binary.AppendUvarint(b, uint64(e.FetchTime))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(nanos(e.keptFrom())))

	r := b[start:]
	r[4], r[5] = recordVersion, byte(e.Flags)
	order := binary.BigEndian
	order.PutUint16(r[6:], uint16(e.Status))
	order.PutUint32(r[8:], uint32(len(r)))
	order.PutUint64(r[12:], uint64(e.Body.Len()))
	order.PutUint64(r[20:], e.Generation)
	for i, t := range [...]int64{nanos(e.RequestTime), nanos(e.ResponseTime), nanos(e.FreshUntil), nanos(e.KeepUntil)} {
		order.PutUint64(r[28+8*i:], uint64(t))
	}
	copy(r[60:], e.Key[:])
	order.PutUint32(r[92:], uint32(len(e.URL)))
	order.PutUint32(r[96:], uint32(tags-variant))
	order.PutUint32(r[100:], uint32(rest-tags))
	return record(b)
}

// seal fills in the checksums for the value of a row: the record, which ends at n, and the body
// where that follows.
func seal(id uint64, value []byte, n int) {
	if n < len(value) {
		binary.BigEndian.PutUint32(value[recordBodySum:], wire.Checksum(idBytes(id), value[n:]))
	}
	binary.BigEndian.PutUint32(value, wire.Checksum(idBytes(id), value[4:n]))
}

// recordLen is how long the record says to be that the value of a row begins with, 0 if there is
// none.
func recordLen(value []byte) uint64 {
	if len(value) < recordFixed {
		return 0
	}
	return uint64(binary.BigEndian.Uint32(value[8:]))
}

// openRecord checks the value of a row and parts it into the record and the body that follows it,
// or nil where the body is in chunks. The body is for checkBody to check.
func openRecord(id uint64, value []byte) (r record, inline []byte, err error) {
	n := recordLen(value)
	if n < recordFixed || n > uint64(len(value)) {
		return nil, nil, fmt.Errorf("record %d: length: %w", id, errDamaged)
	}
	if binary.BigEndian.Uint32(value) != wire.Checksum(idBytes(id), value[4:n]) {
		return nil, nil, fmt.Errorf("record %d: checksum: %w", id, errDamaged)
	}
	if v := value[4]; v != recordVersion && v != recordWithoutKeptFrom && v != recordPacked {
		return nil, nil, fmt.Errorf("record %d: version %d: %w", id, v, errDamaged)
	}
	if flags := binary.BigEndian.Uint16(value[6:]) & laterFlags; flags != 0 {
		return nil, nil, fmt.Errorf("record %d: flags %#x of a later release: %w", id, flags, errDamaged)
	}
	r = record(value[:n])
	if r.end() < recordFixed {
		return nil, nil, fmt.Errorf("record %d: length: %w", id, errDamaged)
	}
	switch rest := value[n:]; {
	case r.isPacked() && (r.stored() <= 0 || r.stored() >= r.bodyLen()):
	case len(rest) == 0 && r.bodyLen() > 0:
		return r, nil, nil
	case r.isPacked() && r.bodyLen() > inlineSize:
	case r.stored() == int64(len(rest)):
		return r, rest, nil
	}
	return nil, nil, fmt.Errorf("record %d: length of the body: %w", id, errDamaged)
}

// checkBody checks a body that is in the same row.
func (r record) checkBody(id uint64, inline []byte) error {
	if len(inline) > 0 && binary.BigEndian.Uint32(r[recordBodySum:]) != wire.Checksum(idBytes(id), inline) {
		return fmt.Errorf("record %d: checksum of the body: %w", id, errDamaged)
	}
	return nil
}

// decodeRecord is the inverse of appendRecord but for the body, which is nil. Nothing in the result
// shares r's memory.
func decodeRecord(id uint64, r record) (*Entry, error) {
	e := new(Entry)
	if !decodeInto(e, id, r) {
		return nil, fmt.Errorf("record %d: fields disagree: %w", id, errDamaged)
	}
	return e, nil
}

// decodeInto is decodeRecord into an empty entry; false when the record is none.
func decodeInto(e *Entry, id uint64, r record) bool {
	order := binary.BigEndian
	url, variant, tags := uint64(order.Uint32(r[92:])), uint64(order.Uint32(r[96:])), uint64(order.Uint32(r[100:]))
	all := wire.NewDecoder(string(r[recordFixed:r.end()])) // the one copy
	e.URL = all.Take(url)
	v := wire.NewDecoder(all.Take(variant))
	e.Variant = decodeVariant(&v)
	t := wire.NewDecoder(all.Take(tags))
	e.Tags = t.List()
	e.Method = all.Text()
	if e.Header = all.Header(); e.Header == nil {
		e.Header = http.Header{}
	}
	e.Trailer, e.Notes = all.Header(), all.List()
	if !all.AtEnd() {
		if e.FetchTime = time.Duration(all.Uvarint()); e.FetchTime < 0 {
			return false
		}
	}
	times := [4]int64{}
	for i := range times {
		if times[i] = int64(order.Uint64(r[28+8*i:])); times[i] < 0 {
			return false
		}
	}
	e.RequestTime, e.ResponseTime = instant(times[0]), instant(times[1])
	e.FreshUntil, e.KeepUntil = instant(times[2]), instant(times[3])
	if from := r.keptFrom(); from != r.keepUntil() {
		e.KeptFrom = instant(from)
	}
	e.ID, e.Key, e.Flags, e.Status, e.Generation = id, r.key(), Flags(r[5]), int(order.Uint16(r[6:])), r.generation()
	return all.Done() && v.Done() && t.Done() && r.bodyLen() >= 0 && r.keptFrom() >= 0
}

func decodeVariant(d *wire.Decoder) Variant {
	v := Variant{Coding: d.Text()}
	if n := d.Count(2); n > 0 {
		list := make([]string, 2*n)
		v.Names, v.Values = list[:n:n], list[n:]
		for i := range n {
			v.Names[i], v.Values[i] = d.Text(), d.Text()
		}
	}
	return v
}

// What follows reads single fields of a record that has been checked, or made here.

func (r record) bodyLen() int64     { return int64(binary.BigEndian.Uint64(r[12:])) }
func (r record) generation() uint64 { return binary.BigEndian.Uint64(r[20:]) }
func (r record) requestTime() int64 { return int64(binary.BigEndian.Uint64(r[28:])) }
func (r record) keepUntil() int64   { return int64(binary.BigEndian.Uint64(r[52:])) }

func (r record) responseTime() time.Time { return instant(int64(binary.BigEndian.Uint64(r[36:]))) }
func (r record) freshUntil() time.Time   { return instant(int64(binary.BigEndian.Uint64(r[44:]))) }

// end is where KeptFrom begins, or would.
func (r record) end() int {
	switch r[4] {
	case recordWithoutKeptFrom:
		return len(r)
	case recordPacked:
		return len(r) - 16
	}
	return len(r) - 8
}

// isPacked tells of a record of the file whose body is compressed, or a part of it.
func (r record) isPacked() bool { return r[4] == recordPacked }

// stored is how many bytes of the file the body takes.
func (r record) stored() int64 {
	if r.isPacked() {
		return int64(binary.BigEndian.Uint64(r[len(r)-8:]))
	}
	return r.bodyLen()
}

// packed is a copy, of recordVersion, as that of an entry whose body takes so many bytes of the
// file. Room is left behind it for more bytes.
func (r record) packed(stored int64, more int) record {
	p := append(make([]byte, 0, len(r)+8+more), r...)
	p = binary.BigEndian.AppendUint64(p, uint64(stored))
	p[4] = recordPacked
	binary.BigEndian.PutUint32(p[8:], uint32(len(p)))
	return p
}

// plain is the record for the memory tier, where the body stands as it is. It is appended to buf
// unless it is r.
func (r record) plain(buf []byte) record {
	if !r.isPacked() {
		return r
	}
	p := record(append(buf, r[:len(r)-8]...))
	p[4] = recordVersion
	binary.BigEndian.PutUint32(p[8:], uint32(len(p)))
	return p
}

// keptFrom is keepUntil in records from before it was kept.
func (r record) keptFrom() int64 {
	if end := r.end(); end < len(r) {
		return int64(binary.BigEndian.Uint64(r[end:]))
	}
	return r.keepUntil()
}

func (r record) key() Key { return Key(r[60:92]) }

// isHead tells of what stands for parts.
func (r record) isHead() bool { return Flags(r[5])&FlagHead != 0 }

// isPart tells of a part, which is neither counted nor listed.
func (r record) isPart() bool { return Flags(r[5])&FlagPart != 0 }

func (r record) url() []byte {
	return r[recordFixed : recordFixed+int(r.urlLen())]
}
func (r record) urlLen() uint32 { return binary.BigEndian.Uint32(r[92:]) }

func (r record) section(i int) []byte { // 0: variant, 1: tags
	from := recordFixed
	for n := range i + 1 {
		from += int(binary.BigEndian.Uint32(r[92+4*n:]))
	}
	return r[from : from+int(binary.BigEndian.Uint32(r[96+4*i:]))]
}

// variant copies the variant.
func (r record) variant() Variant {
	d := wire.NewDecoder(string(r.section(0)))
	return decodeVariant(&d)
}

// tags copies the tags.
func (r record) tags() []string {
	section := r.section(1)
	if section[0] == 0 {
		return nil
	}
	d := wire.NewDecoder(string(section))
	return d.List()
}

// writeSize is what there is of the entry to write.
func (r record) writeSize() writeSize {
	tags := r.section(1)
	n, _ := binary.Uvarint(tags)
	return writeSize{url: int(r.urlLen()), tags: int(n), tagBytes: len(tags), body: r.bodyLen()}
}

// takes is how many bytes of the file the entry takes, about.
func (r record) takes() int64 { return int64(len(r)+r.writeSize().rows()) + r.stored() }

// eachTag calls fn for every tag, in the record's memory.
func (r record) eachTag(fn func(tag []byte)) {
	rest := r.section(1)
	count, skip := binary.Uvarint(rest)
	for rest = rest[skip:]; count > 0; count-- {
		n, skip := binary.Uvarint(rest)
		fn(rest[skip : skip+int(n)])
		rest = rest[skip+int(n):]
	}
}

// hasTag tells whether a tag is among them.
func (r record) hasTag(tag string) (has bool) {
	r.eachTag(func(t []byte) { has = has || string(t) == tag })
	return has
}

package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"net/http"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// errDamaged is wrapped by every error that says that bytes read back are not those written.
var errDamaged = errors.New("damaged")

// recordVersion is the first byte of a record; another one does not decode and counts as damaged.
const recordVersion = 1

// record is an Entry on disk. Times are nanoseconds since 1970.
type record struct {
	Key          []byte              `cbor:"1,keyasint"`
	URL          string              `cbor:"2,keyasint"`
	Names        []string            `cbor:"3,keyasint,omitempty"`
	Values       []string            `cbor:"4,keyasint,omitempty"`
	Coding       string              `cbor:"5,keyasint,omitempty"`
	Method       string              `cbor:"6,keyasint"`
	Flags        uint8               `cbor:"7,keyasint,omitempty"`
	Status       int                 `cbor:"8,keyasint"`
	Header       map[string][]string `cbor:"9,keyasint,omitempty"`
	Trailer      map[string][]string `cbor:"10,keyasint,omitempty"`
	RequestTime  int64               `cbor:"11,keyasint"`
	ResponseTime int64               `cbor:"12,keyasint"`
	FreshUntil   int64               `cbor:"13,keyasint"`
	KeepUntil    int64               `cbor:"14,keyasint"`
	Tags         []string            `cbor:"15,keyasint,omitempty"`
	Generation   uint64              `cbor:"16,keyasint"`
	BodyLen      int64               `cbor:"17,keyasint"`
	Inline       []byte              `cbor:"18,keyasint,omitempty"` // the body, where it is small
}

// decoding takes strings as they are: field values may hold bytes that are not UTF-8 (RFC 9110 5.5).
var decoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return mode
}()

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers what bytes are and where they belong: the parts are hashed one after the other.
func checksum(parts ...[]byte) uint32 {
	var sum uint32
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	return sum
}

// encodeRecord turns an entry into the value stored under id: checksum, version, CBOR. inline is the
// body where it is stored in the record, else nil.
func encodeRecord(e *Entry, inline []byte) ([]byte, error) {
	body, err := cbor.Marshal(&record{
		Key: e.Key[:], URL: e.URL, Names: e.Variant.Names, Values: e.Variant.Values, Coding: e.Variant.Coding,
		Method: e.Method, Flags: uint8(e.Flags), Status: e.Status, Header: e.Header, Trailer: e.Trailer,
		RequestTime: nanos(e.RequestTime), ResponseTime: nanos(e.ResponseTime),
		FreshUntil: nanos(e.FreshUntil), KeepUntil: nanos(e.KeepUntil),
		Tags: e.Tags, Generation: e.Generation, BodyLen: e.Body.Len(), Inline: inline,
	})
	if err != nil {
		return nil, fmt.Errorf("encode record %d: %w", e.ID, err)
	}
	value := make([]byte, 5, 5+len(body))
	value[4] = recordVersion
	value = append(value, body...)
	binary.BigEndian.PutUint32(value, checksum(idBytes(e.ID), value[4:]))
	return value, nil
}

// decodeRecord is the inverse of encodeRecord. Body stays nil unless it was inline; the length is
// returned beside. Nothing in the result shares value's memory.
func decodeRecord(id uint64, value []byte) (*Entry, int64, error) {
	if len(value) < 5 || binary.BigEndian.Uint32(value) != checksum(idBytes(id), value[4:]) {
		return nil, 0, fmt.Errorf("record %d: checksum: %w", id, errDamaged)
	}
	if value[4] != recordVersion {
		return nil, 0, fmt.Errorf("record %d: version %d: %w", id, value[4], errDamaged)
	}
	var r record
	if err := decoding.Unmarshal(value[5:], &r); err != nil {
		return nil, 0, fmt.Errorf("record %d: %w: %w", id, err, errDamaged)
	}
	if len(r.Key) != len(Key{}) || len(r.Names) != len(r.Values) || r.BodyLen < 0 ||
		min(r.RequestTime, r.ResponseTime, r.FreshUntil, r.KeepUntil) < 0 ||
		(r.Inline != nil && int64(len(r.Inline)) != r.BodyLen) {
		return nil, 0, fmt.Errorf("record %d: fields disagree: %w", id, errDamaged)
	}
	e := &Entry{
		ID: id, Key: Key(r.Key), URL: r.URL, Method: r.Method, Flags: Flags(r.Flags), Status: r.Status,
		Variant: Variant{Names: r.Names, Values: r.Values, Coding: r.Coding},
		Header:  http.Header(r.Header), Trailer: http.Header(r.Trailer),
		RequestTime: instant(r.RequestTime), ResponseTime: instant(r.ResponseTime),
		FreshUntil: instant(r.FreshUntil), KeepUntil: instant(r.KeepUntil),
		Tags: r.Tags, Generation: r.Generation,
	}
	if e.Header == nil {
		e.Header = http.Header{}
	}
	if r.BodyLen == 0 || r.Inline != nil {
		e.Body = NewBody([][]byte{r.Inline})
	}
	return e, r.BodyLen, nil
}

// encodePurge and decodePurge are the value of a purge record, under its generation.
func encodePurge(rec *purgeRecord) ([]byte, error) {
	body, err := cbor.Marshal(&rec.sel)
	if err != nil {
		return nil, fmt.Errorf("encode purge: %w", err)
	}
	value := make([]byte, 5, 5+len(body))
	if rec.soft {
		value[4] = 1
	}
	value = append(value, body...)
	binary.BigEndian.PutUint32(value, checksum(idBytes(rec.gen), value[4:]))
	return value, nil
}

func decodePurge(key, value []byte) (*purgeRecord, error) {
	if len(key) != 8 || len(value) < 5 || binary.BigEndian.Uint32(value) != checksum(key, value[4:]) {
		return nil, fmt.Errorf("purge record: checksum: %w", errDamaged)
	}
	rec := &purgeRecord{gen: binary.BigEndian.Uint64(key), soft: value[4] == 1, written: true, counted: true}
	if err := decoding.Unmarshal(value[5:], &rec.sel); err != nil {
		return nil, fmt.Errorf("purge record: %w: %w", err, errDamaged)
	}
	return rec, nil
}

// nanos is a time on disk. Times that do not fit (before 1970, after 2262) go to the nearest end.
func nanos(t time.Time) int64 {
	switch {
	case t.Year() < 1970:
		return 0
	case t.Year() > 2261:
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

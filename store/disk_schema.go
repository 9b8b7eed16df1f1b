package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/wire"
)

// SchemaVersion is that of the disk tier's file. One of another version is begun anew.
const SchemaVersion = 6

// The buckets. Entries are numbered in the order they are stored (id), so that records, chunks,
// expiry of like lifetimes, and recency are appended at the right edge of their trees. Tags and
// URLs stand as they are written, so that those of a kind, which often come together, share pages;
// only keys, which are hashes, are at random places: where the file is large, a page of their tree
// is written for each entry.
//
//	meta     name                        → number: schema, generation, id, entries, parts, slots,
//	                                       slotsEnd; position
//	records  id                          → record, with the body where that is small
//	chunks   id, number(4)               → checksums and bytes of body, see chunk.go
//	         id, number(4), 's'          → slot in the file of large bodies, see disk_slots.go
//	keys     half of the key(16), id     → keyRow: checksum, what a look-up chooses a variant by
//	tags     tag, NUL, id                → indexRow: generation, keepUntil, key(8), flags
//	urls     URL and listener, NUL, id   → indexRow
//	expiry   keepUntil(8), id            → nothing
//	recency  rank(8), id                 → nothing; the lowest rank is evicted first
//	kept     KeptFrom(8), id             → nothing; before all of recency goes what is due here
//	purges   generation(8)               → checksum, mode, selectors
//	pending  id                          → nothing; chunks that belong to no record (yet)
var (
	metaBucket    = []byte("meta")
	recordsBucket = []byte("records")
	chunksBucket  = []byte("chunks")
	keysBucket    = []byte("keys")
	tagsBucket    = []byte("tags")
	urlsBucket    = []byte("urls")
	expiryBucket  = []byte("expiry")
	recencyBucket = []byte("recency")
	purgesBucket  = []byte("purges")
	pendingBucket = []byte("pending")
	keptBucket    = []byte("kept")

	allBuckets = [][]byte{
		metaBucket, recordsBucket, chunksBucket, keysBucket, tagsBucket, urlsBucket,
		expiryBucket, recencyBucket, purgesBucket, pendingBucket, keptBucket,
	}
)

// Names in the meta bucket.
var (
	metaSchema     = []byte("schema")
	metaGeneration = []byte("generation") // no entry and no purge of this file has a later one
	metaID         = []byte("id")         // the highest id given
	metaEntries    = []byte("entries")
	metaParts      = []byte("parts")    // of these, those with FlagPart
	metaExcused    = []byte("excused")  // see disk.excuse
	metaSlots      = []byte("slots")    // how many are taken,
	metaSlotsEnd   = []byte("slotsEnd") // of how many
)

const (
	// chunkSize makes a chunk with its key and headers fill 64 pages, and one in a slot fill that.
	chunkSize = 256<<10 - 128
	// inlineSize is up to where a body is stored in its record: one row less to write and to read.
	// Four rows share a leaf at least, so that larger ones would be copied too often for each
	// other's sake.
	inlineSize = 32 << 10
	// maxURLOnDisk keeps URL rows under bbolt's limit for keys.
	maxURLOnDisk = bbolt.MaxKeySize - 64
)

// The flags of rows whose entry a purge has hit that left it there. Of an invalid one both are set:
// a version that does not know the second takes it for stale. An entry whose row has a flag of a
// later release is validated before its next use.
const (
	rowSoft = 1 << iota
	rowInvalid
	rowPart // of an entry with FlagPart; a version that does not know it counts the entry
)

func rowFlags(s Severity) byte {
	switch s {
	case Soft:
		return rowSoft
	case Invalid:
		return rowSoft | rowInvalid
	case NotPurged, Hard: // there are no rows of what is gone
	}
	return 0
}

func rowSeverity(flags byte) Severity {
	switch {
	case flags&rowInvalid != 0, flags&^(rowSoft|rowInvalid|rowPart) != 0:
		return Invalid
	case flags&rowSoft != 0:
		return Soft
	}
	return NotPurged
}

// partFlag is what the flags of a row say of FlagPart.
func partFlag(part bool) byte {
	if part {
		return rowPart
	}
	return 0
}

// keyRow is one variant of a key.
type keyRow struct {
	id          uint64
	generation  uint64
	keepUntil   int64
	requestTime int64
	rank        uint64
	severity    Severity
	part        bool
	variant     Variant
}

const keyRowFixed = 4 + 1 + 3*8

// encode lays the row out: wire.Checksum(4), flags(1), generation(8), keepUntil(8),
// requestTime(8), then in uvarints and strings the rank, which is the id until the entry is used,
// and the variant.
func (r *keyRow) encode(key []byte) []byte {
	v := make([]byte, keyRowFixed, keyRowFixed+16)
	v[4] = rowFlags(r.severity) | partFlag(r.part)
	binary.BigEndian.PutUint64(v[5:], r.generation)
	binary.BigEndian.PutUint64(v[13:], uint64(r.keepUntil))
	binary.BigEndian.PutUint64(v[21:], uint64(r.requestTime))
	v = binary.AppendUvarint(v, r.rank^r.id)
	v = wire.AppendString(v, r.variant.Coding)
	for i, name := range r.variant.Names {
		v = wire.AppendString(wire.AppendString(v, name), r.variant.Values[i])
	}
	binary.BigEndian.PutUint32(v, wire.Checksum(key, v[4:]))
	return v
}

// decodeKeyRow reads a row of the keys bucket; nothing in it shares the transaction's memory.
func decodeKeyRow(key, v []byte) (keyRow, error) {
	if len(key) != keyHalf+8 || len(v) < keyRowFixed || binary.BigEndian.Uint32(v) != wire.Checksum(key, v[4:]) {
		return keyRow{}, fmt.Errorf("key row: checksum: %w", errDamaged)
	}
	r := keyRow{
		id:          rowID(key),
		generation:  binary.BigEndian.Uint64(v[5:]),
		keepUntil:   int64(binary.BigEndian.Uint64(v[13:])),
		requestTime: int64(binary.BigEndian.Uint64(v[21:])),
		severity:    rowSeverity(v[4]),
		part:        v[4]&rowPart != 0,
	}
	d := wire.NewDecoder(string(v[keyRowFixed:]))
	r.rank = d.Uvarint() ^ r.id
	r.variant.Coding = d.Text()
	for !d.AtEnd() {
		r.variant.Names = append(r.variant.Names, d.Text())
		r.variant.Values = append(r.variant.Values, d.Text())
	}
	if d.Bad() {
		return keyRow{}, fmt.Errorf("key row: variant: %w", errDamaged)
	}
	return r, nil
}

// indexRow is the value of a tag or URL row: all that counting needs.
type indexRow struct {
	generation uint64
	keepUntil  int64
	key        uint64 // keyPrefix, to tell rows whose key has something queued
	severity   Severity
	part       bool
}

const indexRowSize = 3*8 + 1

// keyPrefix is the beginning of a key as a number.
func keyPrefix(key Key) uint64 { return binary.BigEndian.Uint64(key[:]) }

func (r indexRow) encode() []byte {
	v := make([]byte, indexRowSize)
	binary.BigEndian.PutUint64(v, r.generation)
	binary.BigEndian.PutUint64(v[8:], uint64(r.keepUntil))
	binary.BigEndian.PutUint64(v[16:], r.key)
	v[24] = rowFlags(r.severity) | partFlag(r.part)
	return v
}

// decodeIndexRow takes a short row for one that is expired: it is never counted.
func decodeIndexRow(v []byte) indexRow {
	if len(v) != indexRowSize {
		return indexRow{}
	}
	return indexRow{
		generation: binary.BigEndian.Uint64(v),
		keepUntil:  int64(binary.BigEndian.Uint64(v[8:])),
		key:        binary.BigEndian.Uint64(v[16:]),
		severity:   rowSeverity(v[24]),
		part:       v[24]&rowPart != 0,
	}
}

// maxTagInRow is up to where a tag stands in its rows as it is, and longTag how much of a longer
// one does.
const (
	maxTagInRow = 64
	longTag     = 48
)

// tagStart is where the rows of a tag begin: with the tag, or the beginning of a long one and half
// of its hash, which together are longer than any tag that stands there as it is. A collision costs
// a comparison in the sweeper, which looks at the tags themselves, and could miscount; hence a hash
// that cannot be aimed.
func tagStart(tag string) []byte {
	if len(tag) <= maxTagInRow {
		return append(append(make([]byte, 0, len(tag)+9), tag...), 0)
	}
	sum := sha256.Sum256([]byte(tag))
	return append(append([]byte(tag[:longTag]), sum[:maxTagInRow+1-longTag]...), 0)
}

func tagRowKey(tag string, id uint64) []byte {
	return binary.BigEndian.AppendUint64(tagStart(tag), id)
}

// keyHalf is how much of a key its rows begin with. Keys are hashes too long to find
// two that agree so far; the record has the whole one.
const keyHalf = 16

func keyRowKey(key Key, id uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, keyHalf+8), key[:keyHalf]...), id)
}

func urlRowKey(url string, id uint64) []byte {
	k := append(make([]byte, 0, len(url)+9), url...)
	return binary.BigEndian.AppendUint64(append(k, 0), id)
}

// cutURLRowKey is the inverse of urlRowKey.
func cutURLRowKey(k []byte) (url string, id uint64, ok bool) {
	if len(k) < 9 || k[len(k)-9] != 0 {
		return "", 0, false
	}
	return string(k[:len(k)-9]), binary.BigEndian.Uint64(k[len(k)-8:]), true
}

func numberedKey(n, id uint64) []byte {
	return binary.BigEndian.AppendUint64(idBytes(n), id)
}

// chunkKeyLen is how long the key of a chunk's row is.
const chunkKeyLen = 8 + 4

func chunkKey(id uint64, number int) []byte {
	return binary.BigEndian.AppendUint32(idBytes(id), uint32(number))
}

// chunkNumber is the number in the key of a chunk's row.
func chunkNumber(k []byte) int { return int(binary.BigEndian.Uint32(k[8:])) }

// rowID is the id at the end of an index key.
func rowID(k []byte) uint64 {
	if len(k) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(k[len(k)-8:])
}

// rowNumber is the number at the beginning of a key that numberedKey made.
func rowNumber(k []byte) uint64 {
	if len(k) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(k)
}

func (t *buckets) number(name []byte) uint64 {
	v := t.meta.Get(name)
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

func (t *buckets) setNumber(name []byte, n uint64) error { return t.meta.Put(name, idBytes(n)) }

// variants calls fn for every row of a key; damaged rows come as errors with their id.
func (t *buckets) variants(key Key, fn func(row keyRow, err error)) {
	half := key[:keyHalf]
	t.keys.pageIn(half, 0, headSize)
	c := t.keys.Cursor()
	for k, v := c.Seek(half); k != nil && bytes.HasPrefix(k, half); k, v = c.Next() {
		row, err := decodeKeyRow(k, v)
		row.id = rowID(k)
		fn(row, err)
	}
}

// record reads the record id, and its body where that is inline, unchecked, in the transaction's
// memory.
func (t *buckets) record(id uint64) (r record, inline []byte, err error) {
	v := t.records.Get(idBytes(id))
	if v == nil {
		return nil, nil, fmt.Errorf("record %d is missing: %w", id, errDamaged)
	}
	if n := recordLen(v); n > headSize {
		t.pageRecord(id, int64(n))
	}
	return openRecord(id, v)
}

// entry copies the record id. The body, whose length is told, is left out.
func (t *buckets) entry(id uint64) (*Entry, int64, error) {
	r, _, err := t.record(id)
	if err != nil {
		return nil, 0, err
	}
	e, err := decodeRecord(id, r)
	return e, r.bodyLen(), err
}

// insert writes the record and the index rows of an entry. value is the record, sealed, with the
// body where that is inline; chunks are there already.
func (t *buckets) insert(id uint64, r record, value []byte, severity Severity, rank uint64) error {
	keep := r.keepUntil()
	row := keyRow{
		id: id, generation: r.generation(), keepUntil: keep, requestTime: r.requestTime(),
		rank: rank, severity: severity, part: r.isPart(), variant: r.variant(),
	}
	key := keyRowKey(r.key(), id)
	index := indexRow{row.generation, keep, keyPrefix(r.key()), severity, row.part}.encode()
	tags := r.tags()
	errs := append(make([]error, 0, 6+len(tags)),
		t.records.Put(idBytes(id), value),
		t.keys.Put(key, row.encode(key)),
		t.urls.Put(urlRowKey(string(r.url()), id), index),
		t.expiry.Put(numberedKey(uint64(keep), id), nil),
		t.recency.Put(numberedKey(rank, id), nil),
	)
	if from := r.keptFrom(); from < keep {
		errs = append(errs, t.kept.Put(numberedKey(uint64(from), id), nil))
	}
	for _, tag := range tags {
		errs = append(errs, t.tags.Put(tagRowKey(tag, id), index))
	}
	return errors.Join(errs...)
}

// delete removes an entry, read by record, with all its rows, and its chunks unless they are still
// read. The record goes last: the rest is found by it.
func (t *buckets) delete(id uint64, r record, inline []byte, p *pins) error {
	errs := []error{t.deleteRows(id, r)}
	if inline == nil {
		errs = append(errs, t.dropChunks(id, r, p))
	}
	return errors.Join(append(errs, t.records.Delete(idBytes(id)))...)
}

// deleteRows removes what leads to an entry.
func (t *buckets) deleteRows(id uint64, r record) error {
	rk := keyRowKey(r.key(), id)
	errs := make([]error, 0, 8)
	if row, err := decodeKeyRow(rk, t.keys.Get(rk)); err == nil {
		errs = append(errs, t.recency.Delete(numberedKey(row.rank, id)))
	}
	errs = append(errs, t.keys.Delete(rk), t.urls.Delete(urlRowKey(string(r.url()), id)),
		t.expiry.Delete(numberedKey(uint64(r.keepUntil()), id)),
		t.kept.Delete(numberedKey(uint64(r.keptFrom()), id)))
	for _, tag := range r.tags() {
		errs = append(errs, t.tags.Delete(tagRowKey(tag, id)))
	}
	return errors.Join(errs...)
}

// deleteDamaged removes what can be found of an entry without its record: what the key, where the
// caller knows it, leads to. The rest is dropped where it is met. It reports whether there was a
// record, and whether that of a part.
func (t *buckets) deleteDamaged(id uint64, key Key, p *pins) (found, part bool, err error) {
	var errs []error
	rk := keyRowKey(key, id)
	if v := t.keys.Get(rk); v != nil {
		if row, err := decodeKeyRow(rk, v); err == nil {
			part = row.part
			errs = append(errs, t.recency.Delete(numberedKey(row.rank, id)), t.expiry.Delete(numberedKey(uint64(row.keepUntil), id)))
		}
		errs = append(errs, t.keys.Delete(rk))
	}
	found = t.records.Get(idBytes(id)) != nil
	errs = append(errs, t.records.Delete(idBytes(id)), t.dropChunks(id, nil, p))
	return found, part, errors.Join(errs...)
}

// deleteChunksAtOnce is how many chunks go with their entry; the rest is left to the sweep of the
// pending bucket, so that no transaction grows with the size of a body.
const (
	deleteChunksAtOnce = 16
	// rowsForChunk is how many rows that lead to slots may go for one that is a chunk.
	rowsForChunk = 32
)

// dropChunks deletes the chunks of an entry; its record is nil where that is not known.
func (t *buckets) dropChunks(id uint64, r record, p *pins) error {
	stored := int64(0)
	if r != nil {
		stored = r.stored()
	}
	if !p.delete(id, stored) {
		return t.pending.Put(idBytes(id), nil)
	}
	if all, err := t.deleteChunks(id); all || err != nil {
		return err
	}
	return t.pending.Put(idBytes(id), nil)
}

// mark has all rows of an entry say that a purge has hit it, unless they say as much already.
func (t *buckets) mark(id uint64, r record, severity Severity) error {
	rk := keyRowKey(r.key(), id)
	if row, err := decodeKeyRow(rk, t.keys.Get(rk)); err == nil && row.severity < severity {
		row.severity = severity
		return t.putMarked(rk, row, r)
	}
	return nil // damaged rows are met and counted by look-ups
}

func (t *buckets) putMarked(rk []byte, row keyRow, r record) error {
	index := indexRow{row.generation, row.keepUntil, keyPrefix(r.key()), row.severity, row.part}.encode()
	errs := make([]error, 0, 8)
	errs = append(errs, t.keys.Put(rk, row.encode(rk)), t.urls.Put(urlRowKey(string(r.url()), row.id), index))
	for _, tag := range r.tags() {
		errs = append(errs, t.tags.Put(tagRowKey(tag, row.id), index))
	}
	return errors.Join(errs...)
}

// rerank moves an entry in the order of eviction.
func (t *buckets) rerank(rk []byte, row keyRow, rank uint64) error {
	old := numberedKey(row.rank, row.id)
	row.rank = rank
	return errors.Join(
		t.recency.Delete(old),
		t.recency.Put(numberedKey(rank, row.id), nil),
		t.keys.Put(rk, row.encode(rk)),
	)
}

// live tells whether something kept until then is of use now.
func live(keepUntil int64, now time.Time) bool { return keepUntil > nanos(now) }

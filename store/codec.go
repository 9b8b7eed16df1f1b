package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/larder-cache/larder/store/internal/boltcheck"
	"github.com/larder-cache/larder/store/internal/wire"
)

// errDamaged is wrapped by every error that says that bytes read back are not those written.
var errDamaged = boltcheck.ErrDamaged

// The flags of a purge on disk. What a later release has added may name more than the lists do, so
// a purge with a flag that is not known purges everything.
const (
	purgeSoft = 1 << iota
	purgeAll
	purgeInvalid // a version that does not know it purges hard

	purgeFlags = purgeSoft | purgeAll | purgeInvalid
)

// encodePurge is the value of a purge record, under its generation: checksum, flags, the lists of
// selectors.
func encodePurge(rec *purgeRecord) []byte {
	v := make([]byte, 5, 64)
	switch rec.severity {
	case Soft:
		v[4] |= purgeSoft
	case Invalid:
		v[4] |= purgeInvalid
	case NotPurged, Hard:
	}
	if rec.sel.All {
		v[4] |= purgeAll
	}
	for _, list := range [][]string{rec.sel.Tags, rec.sel.URLs, rec.sel.Prefixes, rec.sel.Hosts} {
		v = wire.AppendList(v, list)
	}
	sealPurge(rec.gen, v)
	return v
}

// sealPurge fills in the checksum.
func sealPurge(gen uint64, v []byte) {
	binary.BigEndian.PutUint32(v, wire.Checksum(idBytes(gen), v[4:]))
}

func decodePurge(key, value []byte) (*purgeRecord, error) {
	if len(key) != 8 || len(value) < 5 || binary.BigEndian.Uint32(value) != wire.Checksum(key, value[4:]) {
		return nil, fmt.Errorf("purge record: checksum: %w", errDamaged)
	}
	rec := &purgeRecord{gen: binary.BigEndian.Uint64(key), severity: Hard, written: true, counted: true}
	if value[4]&^purgeFlags != 0 {
		rec.sel.All = true
		return rec, nil
	}
	d := wire.NewDecoder(string(value[5:]))
	sel := Selectors{Tags: d.List(), URLs: d.List(), Prefixes: d.List(), Hosts: d.List(), All: value[4]&purgeAll != 0}
	if !d.Done() {
		return nil, fmt.Errorf("purge record: selectors: %w", errDamaged)
	}
	switch {
	case value[4]&purgeInvalid != 0:
		rec.severity = Invalid
	case value[4]&purgeSoft != 0:
		rec.severity = Soft
	}
	rec.sel = sel
	return rec, nil
}

// latest is the last time that can be stored, in April 2262.
var latest = time.Unix(0, math.MaxInt64)

// nanos is a time as it is stored. Times that do not fit (before 1970, after latest) go to the
// nearest end.
func nanos(t time.Time) int64 {
	switch {
	case t.Unix() < 0:
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

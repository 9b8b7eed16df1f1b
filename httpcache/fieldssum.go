package httpcache

import (
	"crypto/subtle"
	"encoding/binary"
	"hash/maphash"
	"net/http"

	"github.com/larder-cache/larder/store"
)

// What goes wrong with a fetch is often due to a field of the client that led it: a cookie, or one
// that the origin refuses. So it is remembered for requests with the same fields, by a sum of all.

// ofFields is where it is noted that something is remembered for some requests for a key, by their
// fields.
func ofFields(key store.Key) store.Key {
	key[len(key)-1] ^= 1
	return key
}

// withFields is where that is remembered for those with fields of this sum.
func withFields(key store.Key, fields uint64) store.Key {
	var sum [8]byte
	binary.LittleEndian.PutUint64(sum[:], fields)
	subtle.XORBytes(key[:], key[:], sum[:])
	return key
}

// fieldsSum is by what requests with the same fields are told from others. It takes long enough to
// be done only where something is remembered by it.
func fieldsSum(h http.Header) uint64 {
	all := maphash.String(digestSeed, "") // so that no fields have a key of their own, too
	for name, lines := range h {
		all += fieldSum(name, lines) // in any order
	}
	return all
}

// sumOf is fieldsSum of a snapshot.
func sumOf(fields []field) uint64 {
	all := maphash.String(digestSeed, "")
	for _, f := range fields {
		all += fieldSum(f.name, f.values)
	}
	return all
}

// fieldSum is 0 for fields that no fetch has from its client, and those that the cache itself adds
// to.
func fieldSum(name string, lines []string) uint64 {
	if len(lines) == 0 || kindOf(name).has(hasConditional|hasRange|hasLoop) {
		return 0
	}
	var hash maphash.Hash
	hash.SetSeed(digestSeed)
	_, _ = hash.WriteString(name)
	for _, line := range lines {
		_ = hash.WriteByte(0) // in no field
		_, _ = hash.WriteString(line)
	}
	return hash.Sum64()
}

// fieldsSum is that of the request, before handlers behind the cache rewrite it in place.
func (q *Request) fieldsSum() uint64 { return fieldsSum(q.r.Header) }

// fieldsSum is that of its leader's request as it came.
func (x *Fetch) fieldsSum() uint64 { return sumOf(x.came) }

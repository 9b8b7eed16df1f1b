package httpcache

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// A large file is stored in slices, so that a request for a part of it fetches that part only. The
// files:
//
//	object.go        what is stored: a head, and slices that only it leads to
//	firstpart.go     the fetch that brings the head, and one slice with it
//	slicefetch.go    the fetch of any other slice
//	sliceremote.go   a slice that another machine has stored
//	slicebody.go     the body of an answer: slice by slice, from the store or from a flight
//	slicealike.go    how a slice is asked for, so that it is of the same representation
//	sliceterms.go    whether a slice's own answer allows it to be served under its head
//	respondsliced.go the answers
//	rangeahead.go    slices beside a fetch of the whole, for who reads far ahead of it
//
// The head is an entry like that of a 200, under the same key, without a body. It says by whom,
// until when and after which validation the object may be used, and everything that is done with
// stored responses is done with it: look-up, freshness, Vary, validation, purges, listing. A slice
// is an entry of its own, under a key that is made of the object's id and the slice's number. The
// id is random and stands in the head. So
//
//   - slices of two versions are never found together: another validator or another length is
//     another object, with another id,
//   - what purges, outdates or evicts the head takes the slices with it, at once and for good: a
//     slice that is stored later under the old id is found by no request that comes later,
//   - an answer that has begun finds the old slices when another version has come, and goes on to
//     its end if it needs no other. They go as all that is not used: by eviction, or when the time
//     for which the head was to be kept is over. Nothing is to be counted or removed for that,
//   - each slice comes to memory, goes to disk and is evicted by its own use.
//
// Other machines have head and slices as they have other responses, see sliceremote.go.
//
// The slices carry the object's URL and tags, so that a purge frees their room, too. They are no
// rows of listings and not counted (store.FlagPart).
//
//	request with Range, nothing stored ─► the key's flight, whose fetch asks for one slice
//	        │    206 ─► the head is stored, the flight gets the slice's key ─► slices
//	        │    206 that cannot be cut ─► the whole is fetched, as without slices
//	        └─── any other ─► as without slices
//	request, head stored ─► slices: each from the store, from a flight that others began, or fetched
//
// All who wait for that fetch look up again at its header, and each goes on with the slices that
// it needs. An origin that ignores Range, or fails, is met once for all of them, as without slices.
//
// A slice is fetched without conditions. Its header is compared with the head: where the validator
// or the length is another, the head is removed, the slice is not used, and answers that needed it
// break off, because what they have sent is of a version that is gone. If the length is the same,
// it may be the validator of another machine of the origin. Then they try again, and for a while
// the whole is asked for.

// object is a representation that is stored in slices.
type object struct {
	id    [objectIDSize]byte
	total int64 // its length
	size  int64 // of a slice; the last may be shorter
}

const objectIDSize = 16

// newObject returns an object without slices.
func newObject(total, size int64) *object {
	o := &object{total: total, size: size}
	_, _ = rand.Read(o.id[:]) // never fails
	return o
}

// objectNote begins the note in which a head has the rest of its object. Notes are names of fields
// otherwise, which have no NUL.
const objectNote = "\x00object "

// note is the object as it is stored with its head.
func (o *object) note() string {
	return fmt.Sprintf("%s%d %d %s", objectNote, o.size, o.total, hex.EncodeToString(o.id[:]))
}

// replacedIn returns the notes of a head with another object of this length in the place of o.
func (o *object) replacedIn(notes []string) []string {
	other := slices.Clone(notes)
	for i, note := range other {
		if strings.HasPrefix(note, objectNote) {
			other[i] = newObject(o.total, o.size).note()
		}
	}
	return other
}

// objectOf returns the object of a head, nil if e is none or is not understood.
func objectOf(e *store.Entry) *object { return objectIn(e.Flags, e.Notes) }

func objectIn(flags store.Flags, notes []string) *object {
	if flags&flagSliced == 0 {
		return nil
	}
	for _, note := range notes {
		rest, found := strings.CutPrefix(note, objectNote)
		if !found {
			continue
		}
		var o object
		var id []byte
		if n, err := fmt.Sscanf(rest, "%d %d %x", &o.size, &o.total, &id); n != 3 || err != nil ||
			len(id) != objectIDSize || o.size <= 0 || o.total <= 0 {
			return nil
		}
		copy(o.id[:], id)
		return &o
	}
	return nil
}

// key is the key of a slice, in the store and in the group of flights.
func (o *object) key(number int64) store.Key {
	var b [len("slice") + objectIDSize + 8]byte
	n := copy(b[:], "slice")
	n += copy(b[n:], o.id[:])
	binary.BigEndian.PutUint64(b[n:], uint64(number))
	return sha256.Sum256(b[:])
}

// span is where a slice is in the body.
func (o *object) span(number int64) rfc9111.ByteRange {
	return rfc9111.Slice{Size: o.size, Number: number}.Of(o.total)
}

// count is how many slices the object has.
func (o *object) count() int64 { return (o.total-1)/o.size + 1 }

// slicesOf are the numbers of the first and of the last slice that a part touches.
func (o *object) slicesOf(part rfc9111.ByteRange) (first, last int64) {
	return part.Start / o.size, (part.Start + part.Length - 1) / o.size
}

// anySlice selects a slice, which has no variants.
func anySlice(*store.Variant) int { return 1 }

// slice looks a slice up. The result is to be released.
func (c *Cache) slice(o *object, number int64) store.Result {
	found := c.store.Lookup(o.key(number), anySlice)
	if e := found.Entry; e != nil && (e.Body.Len() != o.span(number).Length || found.Ready(0) != nil) {
		found.Release()
		return store.Result{}
	}
	return found
}

// slice looks a slice up that may be used with its head. The result is to be released.
func (rt *Route) slice(o *object, head *store.Entry, number int64, personal bool) store.Result {
	found := rt.cache.slice(o, number)
	if found.Entry != nil && !rt.allowsSlice(head, found.Entry, personal) {
		found.Release()
		return store.Result{}
	}
	return found
}

// hasSlice reports whether a slice is stored, which counts as no use of it.
func (c *Cache) hasSlice(o *object, number int64) bool {
	found := c.store.Peek(o.key(number), anySlice)
	defer found.Release()
	return o.isSlice(found.Entry, number)
}

// hasSlice reports whether a slice is stored and may be used with its head.
func (rt *Route) hasSlice(o *object, head *store.Entry, number int64, personal bool) bool {
	found := rt.cache.store.Peek(o.key(number), anySlice)
	defer found.Release()
	return o.isSlice(found.Entry, number) && rt.allowsSlice(head, found.Entry, personal)
}

// isSlice reports whether an entry, which may be nil, is a slice that is whole.
func (o *object) isSlice(e *store.Entry, number int64) bool {
	return e != nil && e.Body.Len() == o.span(number).Length && !store.IsDamaged(e.Body)
}

// SlicesOf describes the slices of a file that is stored in slices. Its zero value is of no file.
type SlicesOf struct {
	Total  int64 // the length of the file in bytes
	Size   int64 // of a slice in bytes; the last may be shorter
	Count  int64 // how many slices the file has
	Looked int64 // how many of these, from the first on, were looked up
	Stored int64 // how many of those are stored
	Bytes  int64 // how many bytes of the file these have
}

// Length is the length of the body of a stored response in bytes, of the whole where it is stored
// in slices.
func Length(i *store.Item) int64 {
	if o := objectIn(i.Flags, i.Notes); o != nil {
		return o.total
	}
	return i.Size
}

// SlicesOf looks up to limit slices of a stored response up, and counts that as no use of them.
func (c *Cache) SlicesOf(i *store.Item, limit int64) SlicesOf {
	o := objectIn(i.Flags, i.Notes)
	if o == nil {
		return SlicesOf{}
	}
	return c.slicesOf(o, limit)
}

func (c *Cache) slicesOf(o *object, limit int64) SlicesOf {
	s := SlicesOf{Total: o.total, Size: o.size, Count: o.count()}
	for s.Looked = 0; s.Looked < min(limit, s.Count); s.Looked++ {
		if c.hasSlice(o, s.Looked) {
			s.Stored++
			s.Bytes += o.span(s.Looked).Length
		}
	}
	return s
}

// maxLooked and maxLookedAll bound how many slices are looked up before an answer begins. A look-up
// may be one of the disk, and a client may leave after the first byte.
const (
	maxLooked    = 16
	maxLookedAll = 256 // where a missing slice would break the answer off
)

// hasAll reports whether the slices that some parts touch are stored and may be used, by a number
// of look-ups.
func (q *Request) hasAll(o *object, head *store.Entry, parts []rfc9111.ByteRange, limit int64) bool {
	for number := range o.sample(parts, limit) {
		if !q.route.hasSlice(o, head, number, q.personal()) {
			return false
		}
	}
	return true
}

// sample yields the slices that some parts touch in their order, and no more than limit: the first
// ones, for half of it, and of the others some at equal distances, with the last one.
func (o *object) sample(parts []rfc9111.ByteRange, limit int64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		n, next := o.countOf(parts), limit/2
		for i := range min(n, limit) {
			at := i
			if n > limit && i >= next {
				at = next + (i-next)*(n-1-next)/(limit-1-next)
			}
			if !yield(o.numberAt(parts, at)) {
				return
			}
		}
	}
}

// countOf is how many slices some parts touch.
func (o *object) countOf(parts []rfc9111.ByteRange) (n int64) {
	for _, part := range parts {
		first, last := o.slicesOf(part)
		n += last - first + 1
	}
	return n
}

// numberAt is the number of one of these slices.
func (o *object) numberAt(parts []rfc9111.ByteRange, at int64) int64 {
	for _, part := range parts {
		first, last := o.slicesOf(part)
		if number := first + at; number <= last {
			return number
		}
		at -= last - first + 1
	}
	return -1
}

// isStored reports whether the head of an object is stored.
func (c *Cache) isStored(head *store.Entry, o *object) bool {
	return c.storedHead(head, o) != nil
}

// storedHead is the head of an object as it is stored now, nil if it is not. A 304 to a client that
// spells the fields of Vary otherwise leaves it under that client's.
func (c *Cache) storedHead(head *store.Entry, o *object) *store.Entry {
	found := c.lookUpVariant(head.Key, head.Variant)
	found.Release() // it has no body
	if o.isOf(found.Entry) {
		return found.Entry
	}
	for found := range c.storedVariants(head.Key, func(v *store.Variant) bool { return !v.Equal(&head.Variant) }) {
		if o.isOf(found.Entry) {
			return found.Entry
		}
	}
	return nil
}

// isOf reports whether an entry, which may be nil, is the head of the object.
func (o *object) isOf(e *store.Entry) bool {
	if e == nil {
		return false
	}
	stored := objectOf(e)
	return stored != nil && stored.id == o.id
}

// dropObject removes an object that is not what the origin has any more: its head, if that is still
// stored, here and for other machines. No request finds its slices from then on, but for those of
// machines that have the head already.
func (x *Fetch) dropObject(head *store.Entry, o *object) {
	if e := x.cache.storedHead(head, o); e != nil {
		head = e
		x.cache.store.Remove(e)
	}
	if x.remote != nil {
		x.remote.Remove(head.Key, &head.Variant, x.begun)
	}
}

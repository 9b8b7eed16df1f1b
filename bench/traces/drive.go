package traces

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/larder-cache/larder/store"
)

// Drive sends t to a store without a disk, through the calls that the handler makes, and counts the
// hits: each miss is stored.
func Drive(t *Trace, memory int64, policy store.Eviction) (Ratio, error) {
	s := store.New(store.Config{}, store.Settings{Memory: memory, Eviction: policy})
	if err := s.Open(); err != nil {
		return Ratio{}, err
	}
	defer s.Close()
	var n tally
	for _, q := range t.Requests {
		key := keyOf(q.Object)
		found := s.Lookup(key, matchAny)
		n.count(q, t.Sizes[q.Object], found.Entry != nil)
		found.Release()
		if found.Entry != nil {
			continue
		}
		if refusal := put(s, key, q.Object, t.Sizes[q.Object]); refusal != store.Stored {
			return Ratio{}, fmt.Errorf("%s: object %d of %d bytes: %v", t.Name, q.Object, t.Sizes[q.Object], refusal)
		}
	}
	return n.ratio(), nil
}

// Overhead is what a store charges for an object beside its body, on average over the first of t:
// what the reference caches must count as well.
func Overhead(t *Trace) (int64, error) {
	s := store.New(store.Config{}, store.Settings{Memory: 1 << 40})
	if err := s.Open(); err != nil {
		return 0, err
	}
	defer s.Close()
	count := int32(min(2000, len(t.Sizes)))
	for object := range count {
		if refusal := put(s, keyOf(object), object, t.Sizes[object]); refusal != store.Stored {
			return 0, fmt.Errorf("object %d: %v", object, refusal)
		}
	}
	charged := s.Stats().Memory.Bytes // before the look-ups, which may leave something of their own
	var bodies, resident int64
	// Not all need be there: a store may give up an entry for the room between others.
	for object := range count {
		found := s.Lookup(keyOf(object), matchAny)
		if found.Entry != nil {
			bodies += t.Sizes[object]
			resident++
		}
		found.Release()
	}
	if resident == 0 {
		return 0, errors.New("the store holds nothing of what was put")
	}
	return (charged - bodies) / resident, nil
}

func matchAny(*store.Variant) int { return 1 }

// zeros are the bodies: what they say is of no matter here.
var zeros [sizeMost]byte

func keyOf(object int32) store.Key {
	var number [4]byte
	binary.LittleEndian.PutUint32(number[:], uint32(object))
	return sha256.Sum256(number[:])
}

func put(s *store.Store, key store.Key, object int32, size int64) store.PutResult {
	ticket := s.Begin()
	defer ticket.End()
	now := time.Now()
	return s.Put(&store.Entry{
		Key: key, URL: fmt.Sprintf("https://example.com/objects/%d", object), Method: http.MethodGet, Status: http.StatusOK,
		Header: http.Header{
			"Cache-Control": {"max-age=3600"}, "Content-Type": {"text/html; charset=utf-8"}, "Date": {"Sat, 21 Nov 2026 10:00:00 GMT"}, "Etag": {`"1"`},
		},
		RequestTime: now, ResponseTime: now, FreshUntil: now.Add(time.Hour), KeepUntil: now.Add(24 * time.Hour),
		Generation: ticket.Generation(), Body: store.NewBody([][]byte{zeros[:size:size]}),
	}, 0)
}

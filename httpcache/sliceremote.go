package httpcache

import (
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// Other machines have the head of an object as they have any response, and each of its slices under
// the key that it has here. So what holds for one machine holds for all: who has found the head
// finds its slices, wherever they were fetched, and what takes the head takes them. A purge reaches
// a slice there by the URL and tags of its head, too, and by when its fetch began. One fetch for
// all machines brings a slice.

// beginRemoteSlice begins a slice fetch's use of other machines. They do not have the head of what
// is read ahead of the whole.
func (q *Request) beginRemoteSlice(s *sliceOf) RemoteFetch {
	if s.ahead != nil || s.alone {
		return nil
	}
	return q.beginRemote()
}

// sliceFromRemote shares a slice that another machine has stored, or is about to store. If it
// reports false, the origin is asked.
func (x *Fetch) sliceFromRemote() bool {
	key := x.slice.object.key(x.slice.number)
	for {
		found := x.remote.Get(x.flight.Context(), key, anySlice)
		if x.shareFound(found.Entry) {
			return true
		}
		if !x.waitsForOthers() {
			return false
		}
		again, failed, answered, retryAfter := x.awaitRemote(x.lease, func(*store.Variant) bool { return true })
		if failed != 0 {
			failure := failed
			if !answered {
				failure = rfc9111.NoAnswer
			}
			x.noteFailure(failure)
			x.failSlice(&originError{status: failed, retryAfter: retryAfter, elsewhere: true})
			return true
		}
		if !again {
			return false
		}
	}
}

// shareFound shares a slice of another machine's, nil for none. It is read whole before: if a part
// of it is lost, or there is no room, the origin is asked.
func (x *Fetch) shareFound(found *store.Entry) bool {
	s := x.slice
	span := s.object.span(s.number)
	if found == nil || found.Flags&store.FlagPart == 0 || found.Body.Len() != span.Length ||
		found.Header.Get("Content-Range") != span.ContentRange(s.object.total) ||
		!x.route.allowsSlice(s.head, found, x.personal()) || !x.cache.store.Reserve(span.Length, span.Length) {
		return false
	}
	defer x.cache.store.Unreserve(span.Length)
	body := readWhole(found.Body)
	if body == nil {
		return false
	}
	x.endRemote() // it is there already
	x.writer.headerAt = time.Now()
	ex := exchangeOf(found) // what let it in there has to do here
	ex.Header = found.Header
	if isBareSlice(found) {
		ex = x.exchange(s.head.Status, s.head.Header)
	}
	shared := x.newShared(&ex, &rfc9111.Freshness{Reason: rfc9111.Storable})
	x.shareSlice(shared, 0)
	if err := copyInto(x.flight, body); err != nil {
		x.flight.Fail(err)
		return true
	}
	x.flight.Finish(nil)
	x.store(shared, nil)
	return true
}

// offerSlice offers a slice that has just been stored here.
func (x *Fetch) offerSlice(entry *store.Entry) {
	if x.isSliceFetch() {
		x.offer(entry, false)
		return
	}
	x.cache.offer(x.remoteSlice, entry, false)
}

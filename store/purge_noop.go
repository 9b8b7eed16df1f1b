package store

import (
	"errors"
	"time"

	"go.etcd.io/bbolt"
)

// Most unsafe requests (RFC 9111 4.4) are for URLs of which nothing is stored and nothing is being
// fetched. A purge of such a URL would change nothing, but it is a record in force, a message to
// the disk writer and back, and a sweep: as much work as the rest of the request.
//
// PurgeIsNoop finds that out without any of it. Let T be the moment at which it asks fetching. It
// may answer true only if nothing that was fetched, or begun to be, before T can be served later.
// Interleaving by interleaving:
//
//   - Fetch begun before T. Then fetching is true, and the answer false; or it had ended, and had
//     stored what it brought before that.
//   - Fetch begun after T. It is the caller's order that makes it harmless: the origin's success
//     came before T, so what is fetched later is as new as that. A flight that could be joined is a
//     fetch under way.
//   - Stored before T. Entries go from memory to the queue to the disk, and the look at each comes
//     in that order, so one that moves is met in the one or the other. What is queued and resident
//     is met in memory: where it leaves that it is in the queue's index before, and it leaves the
//     queue after its commit. While the disk stands still the queue is never empty, so it is asked
//     for the selectors: a request for a URL of which nothing is stored must not wait for the disk.
//   - Disk to memory. This goes the other way: a look-up may have read a row before it was deleted,
//     and make it resident after the look at memory. So the answer is false if any look-up in the
//     file was under way at T, or has begun since.
//   - Replaced or evicted meanwhile. What is gone need not be purged.
//   - Another file put in the place of ours. A look for the name comes last, once a second.
//
// When it cannot tell it answers false, and the caller purges.

// errRow ends a scan at the first row.
var errRow = errors.New("there is a row")

// PurgeIsNoop reports whether a purge of sel would change nothing: nothing it selects is stored,
// and by what fetching says, which is asked first, no fetch under way can bring any. The store does
// not know what is fetched under its tickets.
func (s *Store) PurgeIsNoop(sel *Selectors, fetching func() bool) bool {
	reading, begun := s.tickets.readers()
	if !s.isOpen() || reading || fetching() {
		return false
	}
	if s.memory.has(sel) {
		return false
	}
	if s.disk == nil {
		return true
	}
	if s.queue.has(sel) || s.diskHas(sel) || !s.isInPlace() {
		return false
	}
	_, now := s.tickets.readers()
	return now == begun
}

// isInPlace tells whether the file is still where it was opened. Another one in its place may have
// what is selected; the purge that follows then finds that too. It is asked at most once in
// placeTime, which is a system call the less for all but one of many unsafe requests.
func (s *Store) isInPlace() bool {
	now, last := nanos(s.now()), s.placeAsked.Load()
	if now-last >= 0 && now-last < int64(placeTime) || !s.placeAsked.CompareAndSwap(last, now) {
		return true
	}
	err := s.disk.checkPlace()
	if err != nil {
		s.placeAsked.Store(last)
	}
	return err == nil
}

// placeTime is for how long unsafe requests take the file to be in its place.
const placeTime = time.Second

// has tells whether a resident item is selected.
func (m *memory) has(sel *Selectors) (has bool) {
	var spans []span
	for _, sh := range m.shards {
		if sh.entries.Load() == 0 {
			continue
		}
		if spans == nil {
			spans = spansOf(sel)
		}
		for w, more := (itemWalk{spans: spans}), true; more; {
			more = sh.step(&w, stepItems, func(sp *span, it *item, _ tagRow) bool {
				has = sp.means(m.record(it))
				return !has
			})
		}
		if has {
			return true
		}
	}
	return false
}

// diskHas tells whether a row on disk is selected, or may be: it cannot be told while the file is
// not available.
func (s *Store) diskHas(sel *Selectors) bool {
	// Here, so that what most unsafe requests need stays on the caller's stack.
	scans := scansOf(sel)
	return s.disk.viewSoon(func(tx *bbolt.Tx) error {
		t, err := s.disk.openBuckets(tx)
		if err != nil {
			return err
		}
		for _, sc := range scans {
			if err := sc.each(t, nil, func(_, _ []byte) (bool, error) { return false, errRow }); err != nil {
				return err
			}
		}
		return nil
	}, nil) != nil
}

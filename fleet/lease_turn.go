package fleet

import "github.com/larder-cache/larder/store"

// turn is the way of one fetch that has found nothing through the lease of its key. It decides by
// what it sees of the lease, and does nothing itself:
//
//	               ┌─ free ──────────────────────► take ─┬─ taken ──► lead
//	               │                                     └─ another was quicker: what it sees then
//	what it sees ──┼─ held ──────────────────────► wait
//	               ├─ held, for others ──────────► fetch
//	               ├─ stored ────────────────────► look, and if there is nothing for it: take
//	               ├─ let go ────────────────────► take
//	               ├─ the first attempt failed ──► take
//	               ├─ the second failed ─────────► fail, if it has waited for it, and else take
//	               └─ unstored, alone ───────────► fetch
type turn struct {
	seen    []byte // the message that it goes on from
	attempt int    // which one its own fetch would be, for all nodes together
	looks   int    // how often it has looked for what others have stored
	waited  bool   // for a fetch of another node, or its requests for one of this node
	letGo   bool   // that of another node was slow, and let its lease go
}

// move is what a fetch does next.
type move uint8

const (
	moveTake  move = iota // ask for the lease
	moveWait              // for news
	moveLook              // in the tier
	moveLead              // fetch for all
	moveFetch             // fetch for itself
	moveFail              // answer with the status of another's
)

// maxLooks is how often a fetch looks for what others have stored. If it is not for this request,
// or is purged again and again, there is no point in waiting for more.
const maxLooks = 2

// sight is what a fetch sees of a lease.
type sight struct {
	taken bool // by itself
	held  bool // by another
	news  news
	raw   []byte
}

// next returns the move, and how the fetch went on if it is the last one. selected tells whether a
// response of that variant would be for this request.
func (t *turn) next(s sight, selected func(*store.Variant) bool) (move, LeaseOutcome) {
	switch {
	case s.taken:
		return moveLead, LeaseTaken
	case s.held && s.news.kind == newsStorable && !selected(&s.news.variant):
		return moveFetch, LeaseDiffers
	case s.held && (s.news.kind == newsStorable || s.news.kind == newsNone):
		t.waited = true
		return moveWait, 0
	case s.news.kind == newsNone:
		t.seen, t.attempt = nil, 1
		return moveTake, 0
	}
	switch s.news.kind {
	case newsStored:
		t.attempt = 1
		if t.looks++; t.looks > maxLooks {
			return moveFetch, LeaseAlone
		}
		t.seen = s.raw
		return moveLook, LeaseStored
	case newsFailed:
		attempt := s.news.attempt + 1
		if attempt > failedAttemptMax {
			if t.waited {
				return moveFail, LeaseFailed
			}
			attempt = 1 // what failed for others' requests says little of one that comes later
		}
		t.seen, t.attempt = s.raw, attempt
		return moveTake, 0
	case newsLate, newsQueued:
		t.seen, t.attempt = nil, 1 // it has left nothing in its place
		t.letGo = t.letGo || s.news.kind == newsLate
		return moveTake, 0
	case newsNone, newsStorable, newsUnstored, newsAlone:
	}
	return moveFetch, LeaseAlone
}

package fleet

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/store"
)

// node is what a node knows of the log, and what follows from that. It has no clock and does
// nothing by itself: it is told what the server said, when it was asked, and when the reply came,
// and says what is to be done. All times are by the clock of its machine. See doc.go for why.
type node struct {
	fence     time.Duration
	maskBytes int64 // that the masks may take
	// position is what the caches had when the process was started.
	position Place

	// What log it reads: none before the first reply. Two marks make two logs of one.
	epoch   string
	mark    Generation
	name    string        // of both, see termName
	learned time.Duration // a reply to what was asked before may be of an older log
	past    []string      // epochs that it has read: none of them comes back by itself
	back    string        // one that has come back all the same

	applied Generation // all records up to it have been. 0: none yet
	id      string     // of the record there
	recent  []Record   // the newest of them, without their data
	beat    uint64     // the number of the last one of the term that was replied to
	// kept is up to where purges need not reach the caches: they have them, or all that they had is
	// suspect.
	kept  Generation
	tail  Generation // of the log, as far as known
	bytes int64      // that the log takes
	floor Generation // above all that the masks do not know
	// labels is when the labels were read by which the masks are complete above the floor.
	labels store.LabelsTime

	until    time.Duration // the pass is over then. 0: there was none yet
	promises []promise
	suspect  bool          // since the last pass
	caught   time.Duration // it had applied all of the log at that time, as far as known
	left     bool
}

// promise is a pass that holds as soon as the log is applied up to a record.
type promise struct {
	tail  Generation
	id    string
	until time.Duration
}

const (
	// maxMaskBytes is what the masks may take. Where they would take more the floor rises: what is
	// shared from before is fetched anew.
	maxMaskBytes = 64 << 20
	// maxPromises bounds the promises. A node that is so many beats behind gets its pass by later
	// ones.
	maxPromises = 64
	maxPast     = 16
	// maxRecent bounds the records that a node knows again. A beat whose reply is further behind
	// gives no pass.
	maxRecent = 1024
)

// todo is what a reply leaves to do, in this order.
type todo struct {
	fresh   bool // the masks are of another log: begin without
	suspect bool // what the caches have is suspect
	records []Record
	upTo    Generation // then the log is applied up to here
	id      string     // of the record there
}

// termName tells the terms of all epochs apart. What has a generation is compared within one alone.
func termName(epoch string, mark Generation) string {
	if epoch == "" {
		return ""
	}
	return epoch + "." + strconv.FormatUint(uint64(mark), 36)
}

// text and placeOf are the form of a place in which caches keep it, beside its generation.
func (p *Place) text() string { return termName(p.Epoch, p.Mark) + "." + p.ID }

func placeOf(text string, applied Generation) Place {
	id := strings.LastIndexByte(text, '.')
	dot := strings.LastIndexByte(text[:max(0, id)], '.')
	if dot < 0 || applied == 0 {
		return Place{}
	}
	mark, err := strconv.ParseUint(text[dot+1:id], 36, 53)
	if err != nil {
		return Place{}
	}
	return Place{Epoch: text[:dot], Mark: Generation(mark), Generation: applied, ID: text[id+1:]}
}

func (s *State) term() string { return termName(s.Epoch, s.Mark) }

func (n *node) term() string { return n.name }

// lastMark is above all marks.
const lastMark Generation = 1<<53 - 1

// place is what the node says to have applied, for the server to compare. What the caches had at
// the start counts until something has been applied. An epoch that has come back is to end.
func (n *node) place() Place {
	if n.back != "" {
		return Place{Epoch: n.back, Mark: lastMark}
	}
	p := Place{Epoch: n.epoch, Mark: n.mark, Generation: n.applied, ID: n.id}
	if here := n.position.Epoch == n.epoch && n.position.Mark == n.mark; n.applied == 0 && (n.epoch == "" || here) {
		p = n.position
	}
	p.Beaten = n.beat
	return p
}

// beaten takes the reply to a beat, by its number.
func (n *node) beaten(number uint64, asked, came time.Duration, s State) (do todo) {
	do.upTo = n.applied
	if !n.heard(asked, came, s, &do) {
		return do
	}
	do.upTo, n.beat = n.applied, max(n.beat, number)
	switch {
	case n.knows(s.Tail, s.ID):
		n.grant(asked)
	case s.Tail > n.applied && len(n.promises) < maxPromises:
		n.promises = append(n.promises, promise{s.Tail, s.ID, asked + n.fence})
	}
	return do
}

// knows tells whether a record has been applied. Another one at the same generation does not count:
// it is of a log that was put back.
func (n *node) knows(g Generation, id string) bool {
	i, found := slices.BinarySearchFunc(n.recent, g, func(r Record, g Generation) int { return cmp.Compare(r.Generation, g) })
	return found && n.recent[i].ID == id
}

// remember notes the newest records that have been applied.
func (n *node) remember(do *todo) {
	for _, r := range do.records[max(0, len(do.records)-maxRecent):] {
		n.recent = append(n.recent, Record{Generation: r.Generation, ID: r.ID})
	}
	if len(do.records) == 0 {
		n.recent = append(n.recent, Record{Generation: do.upTo, ID: do.id})
	}
	if len(n.recent) > 2*maxRecent {
		n.recent = append(n.recent[:0], n.recent[len(n.recent)-maxRecent:]...)
	}
}

// read takes the records after a generation.
func (n *node) read(asked, came time.Duration, after Generation, records []Record, s State) (do todo) {
	current := n.heard(asked, came, s, &do)
	do.upTo = n.applied
	if !current || after != n.applied {
		return do
	}
	// What is between has been trimmed, or may have been.
	if max(n.applied, n.kept)+1 < s.First {
		n.lose(s, &do)
	}
	for _, r := range records {
		if r.Generation <= do.upTo || r.Generation > s.Tail {
			return do // so it is no log
		}
		n.follows(r.Generation, s, &do)
		do.upTo, do.id = r.Generation, r.ID
		do.records = append(do.records, r)
	}
	if len(records) == 0 && s.Tail > do.upTo {
		n.follows(s.Tail+1, s, &do)
		do.upTo, do.id = s.Tail, s.ID
	}
	return do
}

// follows sees to it that nothing is missing between the last record and the next one. In a term
// each generation follows the one before, so what is missing was removed: a purge, maybe.
func (n *node) follows(next Generation, s State, do *todo) {
	if next <= max(do.upTo+1, s.First, s.Mark) {
		return
	}
	n.lose(s, do)
	n.floor = max(n.floor, next-1)
}

// heard takes what a reply says of the log. It reports whether the reply is of the log that the
// node reads.
func (n *node) heard(asked, came time.Duration, s State, do *todo) (current bool) {
	if s.Epoch == "" || s.Mark == 0 || s.Tail < s.Mark {
		return false
	}
	if s.Epoch != n.epoch || s.Mark != n.mark {
		if n.epoch != "" && asked <= n.learned {
			return false
		}
		if slices.Contains(n.past, s.Epoch) {
			n.back = s.Epoch
			return false
		}
		n.adopt(came, s, do)
	}
	n.back = ""
	n.tail, n.bytes = max(n.tail, s.Tail), s.Bytes
	n.floor = max(n.floor, s.Mark, s.First)
	n.drop(came)
	return true
}

// adopt turns to another log, or to another term of the same.
func (n *node) adopt(came time.Duration, s State, do *todo) {
	pass := came < n.until
	goesOn := s.Epoch == n.epoch && s.Mark > n.applied && s.Mark > n.mark
	known := n.epoch == "" && n.position.Epoch == s.Epoch && n.position.Mark == s.Mark && n.position.Generation <= s.Tail
	if n.epoch != "" && n.epoch != s.Epoch {
		n.past = append(n.past[max(0, len(n.past)-maxPast+1):], n.epoch)
	}
	n.beat = 0
	n.epoch, n.mark, n.name, n.learned = s.Epoch, s.Mark, s.term(), came
	n.promises = nil
	n.tail = s.Tail
	if goesOn {
		// Purges that were lost have not been answered while the pass ran, and are appended again.
		if !pass {
			n.lose(s, do)
		}
		return
	}
	do.fresh = true
	n.applied, n.id, n.recent, n.floor = 0, "", nil, 0
	switch {
	case known:
		n.kept = n.position.Generation
	case pass && s.First <= s.Mark: // the same, and none of the new term is missing
		n.kept = s.First - 1
	default:
		n.lose(s, do)
	}
}

// lose notes that purges may be lost: what the caches have is suspect, for all that is not in the
// log any more.
func (n *node) lose(s State, do *todo) {
	do.suspect, n.suspect = true, true
	n.kept = max(n.kept, s.First-1)
	if do.fresh {
		n.kept = s.First - 1
	}
}

// done notes that what was to be done has been, and gives the passes that follow.
func (n *node) done(do todo) (advanced bool) {
	if do.upTo <= n.applied {
		return false
	}
	n.applied, n.id = do.upTo, do.id
	n.remember(&do)
	rest := n.promises[:0]
	for _, p := range n.promises {
		switch {
		case n.knows(p.tail, p.id):
			n.grant(p.until - n.fence)
		case p.tail > n.applied:
			rest = append(rest, p)
		}
	}
	n.promises = rest
	return true
}

// grant gives the pass of a beat that was sent then, all that the reply told of being applied.
func (n *node) grant(asked time.Duration) {
	n.until = max(n.until, asked+n.fence)
	n.caught = max(n.caught, asked)
	n.suspect = false
}

// drop forgets the promises that are over.
func (n *node) drop(now time.Duration) {
	rest := n.promises[:0]
	for _, p := range n.promises {
		if p.until > now {
			rest = append(rest, p)
		}
	}
	n.promises = rest
}

// reaches tells whether a record has to reach the caches.
func (n *node) reaches(g Generation) bool { return g > n.kept }

// condition is how the node stands to its fleet, err being of its last call.
func (n *node) condition(now time.Duration, err error) Condition {
	switch {
	case n.left:
		return Left
	case now < n.until:
		return Held
	case err != nil:
		return conditionOf(err)
	case n.until == 0:
		return Joining
	case n.suspect:
		return Suspect
	default:
		return Lost
	}
}

package coalesce

import (
	"slices"
	"time"
)

// A windowed flight whose readers differ has a Spill hold what lies between them, so that the slow
// one does not decide how fast the others get theirs. What the window holds becomes a part when a
// reader waits for more and another is in the way. A part goes when all have passed it. So there is
// on disk what the slowest reader is behind by, and nothing where all are in the window.
//
//	body      0 ── passed ── part ── part ── part ── window ── size
//	readers                   slow, at its own pace   the others
//
// Where the Spiller has no room for another part, the window waits for its slowest reader, see
// pace.go.

// maxParts is how many parts a flight may have: 4 GiB of full windows.
const maxParts = 1024

// partDelay is how long a reader has waited when the first part is begun. Readers that are as quick
// as each other are apart for a moment only.
const partDelay = 10 * time.Millisecond

// part is a piece of a body that is not kept.
type part struct {
	Spill
	start, end int64 // offsets in the body
}

// partList are a flight's parts, in the order of the body and without a gap. The last ends where
// the flight's memory begins.
type partList struct {
	spiller Spiller // nil if there is none
	list    []part
	again   time.Time // not before that another is begun, since the last one has failed
}

// SpillPartsTo lets the flight spill what readers of a body that is not kept are behind with. It
// comes before Share; SpillTo has this effect as well.
func (f *Flight) SpillPartsTo(s Spiller) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parts.spiller = s
}

// at returns the part that has the byte at off; ok is false where none has.
func (l *partList) at(off int64) (p part, ok bool) {
	if n := len(l.list); n == 0 || off < l.list[0].start || off >= l.list[n-1].end {
		return part{}, false
	}
	i, _ := slices.BinarySearchFunc(l.list, off, func(p part, off int64) int {
		if p.end <= off {
			return -1
		}
		return 1
	})
	return l.list[i], true
}

// spillPart makes a part of what the window holds, if that is more than limit and a reader waits
// for more. It reports whether it did.
func (f *Flight) spillPart(limit int64) bool {
	pieces, p := f.partToSpill(limit)
	if p.end == p.start {
		return false
	}
	s, err := f.parts.spiller.SpillPart(p.end - p.start)
	if err != nil {
		letGo(pieces)
		return false // it may have room as soon as a part has gone
	}
	p.Spill = s
	if err = appendAll(s, pieces); err == nil {
		_, err = s.Await(f.ctx, 0) // Seal would wait for a slow disk although the fetch is over
	}
	if err != nil || s.Seal() != nil {
		s.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.parts.again = time.Now().Add(f.config.limits.ReaderIdle)
		return false
	}
	f.mu.Lock()
	defer f.unlock()
	f.parts.list = append(f.parts.list, p)
	f.body.drop(p.end)
	f.giveBack()
	f.freePassed() // all may have passed it meanwhile
	return true
}

// partDue returns from when on there may be another part, zero if not as things are.
func (f *Flight) partDue() time.Time {
	l, starved := &f.parts, f.starvedSince()
	if l.spiller == nil || starved.IsZero() {
		return time.Time{}
	}
	if len(l.list) == 0 {
		starved = starved.Add(partDelay)
	}
	return later(starved, l.again)
}

// partToSpill returns the chunks that are to become a part, held; none if there is no need for it,
// or if they are too small to be worth it.
func (f *Flight) partToSpill(limit int64) (pieces []chunk, p part) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := &f.parts
	if f.phase != windowed || len(l.list) == maxParts || f.body.held <= limit || f.ctx.Err() != nil {
		return nil, part{}
	}
	if due := f.partDue(); due.IsZero() || time.Now().Before(due) {
		return nil, part{}
	}
	full := 0
	for p.end = f.body.start(); full < len(f.body.chunks) && f.body.chunks[full].full(); full++ {
		p.end = f.body.chunks[full].end()
	}
	p.start = f.body.start()
	if p.end-p.start < min(maxChunk, f.config.limits.Window/4) {
		return nil, part{}
	}
	return held(f.body.chunks[:full]), p
}

// closeParts gives up the parts that end at or before off. There may be room for another then.
func (f *Flight) closeParts(off int64) {
	l := &f.parts
	for len(l.list) > 0 && l.list[0].end <= off {
		s := l.list[0].Spill
		f.due = append(f.due, func() {
			s.Close()
			f.signalRoom()
		})
		l.list[0] = part{} // the slice's array outlives the reslicing
		l.list = l.list[1:]
	}
}

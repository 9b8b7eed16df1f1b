package store

import (
	"strings"
	"time"
)

// PurgeWatcher is told what purges by tags drop, while it is swept: memory first, then disk. It is
// called by the disk writer, with tags in the words of Selectors, and must return at once; it must
// not call the store.
type PurgeWatcher interface {
	// SweepBegan: entries of these tags are purged, and begin to be removed or marked. It is called
	// before the purge is answered.
	SweepBegan(tags []string)
	// Dropped: one of these entries, of a URL, is. An entry that is in memory and on disk may be
	// told twice.
	Dropped(tag, url string)
	// SweepEnded: all that SweepBegan has announced is told.
	SweepEnded(tags []string)
	// IsAwaited tells whether somebody waits for the end of a sweep of one of these tags, which
	// hastens then.
	IsAwaited(tags []string) bool
}

// watched is what a watcher is told of a purge: its tags, without those of invalidations that have
// a form of their own. It does not change.
type watched struct {
	tags []string
	set  map[string]struct{}
}

// drop is an entry that a purge by a tag has dropped.
type drop struct{ tag, url string }

// watchSweep tells that a purge begins to be swept.
func (dw *diskWriter) watchSweep(rec *purgeRecord) {
	if dw.watcher == nil || rec.watched.Load() != nil || len(rec.sel.Tags) == 0 {
		return
	}
	w := &watched{set: make(map[string]struct{}, len(rec.sel.Tags))}
	for _, tag := range rec.sel.Tags {
		if !strings.HasPrefix(tag, "\x00") {
			w.tags = append(w.tags, tag)
			w.set[tag] = struct{}{}
		}
	}
	if len(w.tags) > 0 {
		rec.watched.Store(w)
		dw.watcher.SweepBegan(w.tags)
	}
}

// drops are what there is to tell of an entry that the sweep of a purge removes or marks, behind
// those there.
func (rec *purgeRecord) drops(drops []drop, r record, now time.Time) []drop {
	w := rec.watched.Load()
	if w == nil || !live(r.keepUntil(), now) {
		return drops
	}
	r.eachTag(func(tag []byte) {
		if _, purged := w.set[string(tag)]; purged {
			drops = append(drops, drop{string(tag), BareURL(string(r.url()))})
		}
	})
	return drops
}

// watchDrops tells of entries that are dropped.
func (dw *diskWriter) watchDrops(drops []drop) {
	for _, d := range drops {
		dw.watcher.Dropped(d.tag, d.url)
	}
}

// watchEnd tells that a purge is swept, or that its sweep is given up.
func (dw *diskWriter) watchEnd(rec *purgeRecord) {
	if w := rec.watched.Swap(nil); w != nil {
		dw.watcher.SweepEnded(w.tags)
	}
}

// isAwaited tells whether somebody waits for the sweep of a purge.
func (dw *diskWriter) isAwaited(rec *purgeRecord) bool {
	w := rec.watched.Load()
	return w != nil && dw.watcher.IsAwaited(w.tags)
}

package fleet

import (
	"context"
	"log/slog"

	"github.com/larder-cache/larder/store"
)

// waitFunc is what Caches.Apply returns.
type waitFunc = func(context.Context) (matched int, err error)

// ownPurge is a purge of this node that waits for its records to come back.
type ownPurge struct {
	counted []waitFunc
	came    []Generation // where they were
}

// perform does what a reply leaves to do, but for done. The masks have a purge before the caches
// have it, and the caches before anybody is told: doc.go says why.
func (f *Fleet) perform(do todo) (counted []waitFunc) {
	labels := f.labels()
	records := f.decode(do.records)
	for i := range records {
		records[i].Labels, records[i].Selectors = labels, f.caches.Complete(records[i].Selectors)
	}
	f.comeBack(records)
	f.publish(&change{fresh: do.fresh, records: records, labels: labels})
	if do.suspect {
		f.tellSuspect()
		f.caches.Suspect()
	}
	var others union
	for _, r := range records {
		if !f.node.reaches(r.generation) {
			continue
		}
		if own := f.ownOf(r); own != nil {
			own.counted = append(own.counted, f.caches.Apply(r.Purge))
		} else {
			others.add(r.Purge)
		}
	}
	for _, p := range others.purges() {
		p.Labels = labels
		counted = append(counted, f.caches.Apply(p))
	}
	return counted
}

// ownOf is the purge of this node that a record is of, nil if it is none or not waited for. The
// lock is held.
func (f *Fleet) ownOf(r placedRecord) *ownPurge {
	if r.who != f.id {
		return nil
	}
	return f.own[r.token]
}

// comeBack notes where records of this node's purges are. The lock is held.
func (f *Fleet) comeBack(records []placedRecord) {
	for _, r := range records {
		if own := f.ownOf(r); own != nil {
			own.came = append(own.came, r.generation)
		}
	}
}

// tellSuspect logs why what is stored has to be validated. At the first start of a node that is as
// it should be.
func (f *Fleet) tellSuspect() {
	epoch := slog.String("epoch", f.node.term())
	if f.node.until == 0 && f.node.position == (Place{}) {
		f.log.Info("this node is new to the fleet: what is stored is validated before its next use", epoch)
		return
	}
	f.log.Warn("purges may have been lost: what is stored is validated before its next use", epoch)
}

// placedRecord is a record in its place.
type placedRecord struct {
	logRecord
	generation Generation
}

func (f *Fleet) decode(records []Record) (out []placedRecord) {
	for _, r := range records {
		if r.Mark {
			continue
		}
		record, err := understand(r.Data, f.options.Secret)
		if err != nil {
			f.log.Error("a record of the fleet's log is not understood: everything is purged",
				slog.Uint64("generation", uint64(r.Generation)), slog.Any("error", err))
		}
		out = append(out, placedRecord{record, r.Generation})
	}
	return out
}

// change is what becomes of a view.
type change struct {
	fresh   bool // the masks are of another log
	records []placedRecord
	labels  store.LabelsTime // the records are complete by the labels of then
}

// publish shows what the node knows to those who judge.
func (f *Fleet) publish(c *change) {
	was := f.view.Load()
	next := f.node.view(was, c)
	f.invalidations.mu.Lock() // so that Invalidate has the view that counts
	if next.epoch != was.epoch {
		for _, p := range f.invalidations.unsent() { // they will be in the new log
			next.ahead(p)
		}
	}
	f.view.Store(next)
	f.invalidations.mu.Unlock()
	next.masks.DropUpTo(uint64(next.floor)) // not before all read the floor
}

// view is what the node knows, with purges that are being applied.
func (n *node) view(was *view, c *change) *view {
	masks := was.masks
	if c != nil {
		if c.fresh {
			masks = new(store.Masks)
		} else if c.labels != n.labels {
			n.floor = max(n.floor, n.applied) // the masks up to there lack what the new labels make
		}
		n.labels = c.labels
		for _, r := range c.records {
			masks.Add(uint64(r.generation), r.Selectors, r.Severity)
			if r.Selectors.All && r.Severity == store.Hard {
				n.floor = max(n.floor, r.generation)
			}
		}
		if last := len(c.records) - 1; last >= 0 {
			n.floor = max(n.floor, min(Generation(masks.Over(n.maskBytes)), c.records[last].generation))
		}
	}
	return &view{epoch: n.term(), applied: n.applied, tail: n.tail, floor: n.floor, labels: n.labels, masks: masks}
}

// union puts many purges into few.
type union [store.Hard]store.Selectors

func (u *union) add(p Purge) {
	into := &u[p.Severity-1]
	from := p.Selectors
	for i, list := range lists(into) {
		*list = append(*list, *lists(&from)[i]...)
	}
	into.All = into.All || p.Selectors.All
}

func (u *union) addOne(list int, text string, severity store.Severity) {
	into := lists(&u[severity-1])[list]
	*into = append(*into, text)
}

// purges are the severest first.
func (u *union) purges() (purges []Purge) {
	for severity := store.Hard; severity > store.NotPurged; severity-- {
		s := u[severity-1]
		if s.All { // it selects all that the others do
			s = store.Selectors{All: true}
		} else if len(s.Tags)+len(s.URLs)+len(s.Prefixes)+len(s.Hosts) == 0 {
			continue
		}
		purges = append(purges, Purge{Selectors: s, Severity: severity})
	}
	return purges
}

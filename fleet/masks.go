package fleet

import "github.com/larder-cache/larder/store"

// view is what a node knows of the log, for those who judge responses by it. It does not change,
// but for purges that the masks get: those are in force a little before Applied says so, which
// costs a fetch at worst.
type view struct {
	epoch   string // with the term, "" before the log has been read
	applied Generation
	tail    Generation // of the log, as far as known: it is not below applied
	// floor is above all that the masks do not know: what was stamped below may have been purged
	// by records that are not in the log any more, or the masks not. 0 refuses everything.
	floor Generation
	// labels is when the labels of the stores were read by which the masks are complete. Other
	// nodes may have shared by labels that are new here, before a purge that the masks have without
	// them: until the floor is above that nothing is judged ours.
	labels store.LabelsTime
	masks  *store.Masks
}

// Begin returns the stamp of what begins to be fetched now. It has to be asked before the first
// byte is sent for. ok is false while the node has no pass: then it knows too little.
func (f *Fleet) Begin() (stamp Stamp, ok bool) {
	v := f.view.Load()
	return Stamp{v.epoch, v.applied}, f.Pass() && v.floor != 0
}

// Judge returns what the purges that this node has applied make of a response whose fetch began at
// that stamp. ours is false where nothing can be said of it, so that it may not be used: it is of
// another epoch or term, or older than the purges that are still known, or everything was purged
// since.
//
// What comes home to the caches of this node has to go there under a ticket that was begun before
// Judge was called: a purge is among the masks first, and in force in the caches second, so either
// Judge knows it or the ticket is older than it.
func (f *Fleet) Judge(stamp Stamp, url string, tags []string) (severity store.Severity, ours bool) {
	v := f.view.Load()
	severity = v.masks.Judge(url, tags, uint64(stamp.Generation))
	// The floor is raised before masks below it go, so it is read after them.
	now := f.view.Load()
	ours = now.masks == v.masks && stamp.Epoch == now.epoch && now.floor != 0 && stamp.Generation >= now.floor &&
		now.labels == f.labels()
	return severity, ours
}

package store

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// A dry run only counts, and no one else is to wait for it: it gives way to every purge. Clients of
// a site wait for purges, with each unsafe request. So one dry run is under way at a time, in
// slices. A slice ends when a purge waits, which is answered before the next. Nothing else is done
// between slices, so that no entry comes to the disk, or leaves it, while it is counted. Between
// two dry runs the disk writer does what else there is to do.

// countDryRun answers the dry run that came first, if one waits.
func (dw *diskWriter) countDryRun() {
	req := dw.requests.takeDryRun()
	if req == nil {
		return
	}
	req.matched, req.err = dw.countInSlices(req.rec)
	dw.answerPurges([]*PurgeRequest{req})
	if errors.Is(req.err, errStalled) { // who waits behind it has waited long enough
		for other := dw.requests.takeDryRun(); other != nil; other = dw.requests.takeDryRun() {
			other.err = req.err
			dw.answerPurges([]*PurgeRequest{other})
		}
	}
}

// countInSlices counts what a dry run would match. Where the file fails that is its failure alone:
// what needs the file next meets that too.
func (dw *diskWriter) countInSlices(rec *purgeRecord) (matched int, err error) {
	onDisk := dw.disk != nil
	for {
		c := dw.newCounting(rec, &masks{onDisk: dw.sweeps.onDisk, walkCost: dw.sweeps.walkCost})
		c.purgeWaits = func() bool { return dw.waiting.Load() > 0 }
		through, times := false, dw.fileTimes()
		for !through && err == nil && times == dw.fileTimes() {
			if through, err = dw.countSlice(c, onDisk); !through && err == nil {
				dw.commitWaiting()
			}
		}
		switch {
		case onDisk && errors.Is(err, errDetached): // memory is all there is
			onDisk, err = false, nil
		case err != nil:
			return 0, fmt.Errorf("%w: %w", ErrNotCounted, err)
		case through:
			return c.n, nil
		} // else another file has come, of which other rows have been counted
	}
}

// fileTimes is how often a file was taken up.
func (dw *diskWriter) fileTimes() uint32 {
	if dw.disk == nil {
		return 0
	}
	return dw.disk.times.Load()
}

// countSlice counts until it is through or a purge waits.
func (dw *diskWriter) countSlice(c *counting, onDisk bool) (bool, error) {
	if !onDisk {
		return c.goOn(nil)
	}
	through := false
	err := dw.disk.viewLong(func(tx *bbolt.Tx) error {
		t, err := dw.disk.openBuckets(tx)
		if err == nil {
			through, err = c.goOn(t)
		}
		return err
	}, nil, longWork{progress: &dw.walked, optional: true, own: true})
	if err != nil {
		return false, err // it may still go on
	}
	return through, nil
}

// sliceRows is how many rows and items a slice has at least, so that a dry run ends however many
// purges there are. It is a few milliseconds.
const sliceRows = 1 << 12

// givesWay tells, after so many more rows, whether a slice is to end for a purge.
func (c *counting) givesWay(rows int) bool {
	c.inSlice += rows
	return c.purgeWaits != nil && c.inSlice >= sliceRows && c.purgeWaits()
}

package store

// entryRoom is what an entry takes on disk beside its body and its tags, about.
const entryRoom = 4096

// writeSize is what there is of an entry to write.
type writeSize struct {
	url, tags, tagBytes int
	body                int64
}

// rows is what its rows take beside the record, about.
func (w writeSize) rows() int { return w.url + rowBytes + w.tagBytes + tagRoom*w.tags }

// changed is how many bytes of pages an entry changes at most, about: one for each tag, two for
// each other row.
func (w writeSize) changed() int64 { return int64(w.tags+14) * pageSize }

// diskPlace tells whether an entry can be written beside what is there and what waits.
type diskPlace uint8

const (
	placeNever diskPlace = iota // it is too large, or there is no tier
	placeLater                  // what keeps it from there passes
	placeNow
)

// fits tells whether an entry may go to disk at all. What may change more than a quarter of the
// file at once, by its tags, is none for so small a budget: all the pages that one transaction
// changes are in the file twice.
func (dw *diskWriter) fits(w writeSize) bool {
	return w.url <= maxURLOnDisk && w.takes() <= dw.settings.Load().largestOnDisk() && w.changed() <= dw.diskBudget()/4
}

// takes is what an entry takes of the budget, about.
func (w writeSize) takes() int64 {
	return w.body + entryRoom + int64(w.rows()-w.url-rowBytes)*3/2
}

// isFull tells whether an entry has no place after so many bytes that wait already, because nothing
// is evicted.
func (dw *diskWriter) isFull(w writeSize, waiting int64) bool {
	return dw.settings.Load().Eviction == None && dw.disk.used()+waiting+w.takes() > dw.diskRoom()
}

// placeOf is the place that an entry has. renews is as in its job.
func (s *Store) placeOf(e *Entry, renews bool) diskPlace {
	if s.disk == nil {
		return placeNever
	}
	w := writeSize{url: len(e.URL), tags: len(e.Tags), body: e.Body.Len()}
	for _, tag := range e.Tags {
		w.tagBytes += len(tag)
	}
	waiting := s.queue.waiting()
	there := renews || bodyWriterOf(e) != nil
	if there {
		waiting -= w.body // it counts in what is used
	}
	place := s.placeFor(w, waiting)
	if place == placeNow && !there && w.body > inlineSize && s.holdsBack(w.body) {
		return placeLater
	}
	return place
}

// placeFor is the place for what has so much to write, whatever clients read, after so many bytes
// that wait already.
func (s *Store) placeFor(w writeSize, waiting int64) diskPlace {
	switch {
	case !s.diskWriter.fits(w):
		return placeNever
	case !s.disk.writable(), s.diskWriter.isFull(w, waiting):
		return placeLater
	}
	return placeNow
}

// placeLate is the place of an item that is late. When the store is ending what clients read counts
// as far as the file has no room beside it.
func (s *Store) placeLate(w writeSize, ending bool) diskPlace {
	waiting, budget := s.queue.waiting(), s.settings.Load().Disk
	if place := s.placeFor(w, waiting); place != placeNow {
		return place
	}
	if s.disk.outgrows(budget, waiting+w.takes()) || !ending && w.body > inlineSize && s.isHeldBack(w.body) {
		return placeLater
	}
	return placeNow
}

package store

import "slices"

// masks are what is known of the rows on disk that purges have hit and not swept yet, while purges
// are counted that came together. Each of them counts against those before it, so it is found out
// once for all of them: otherwise the last would walk through the rows of all others, and so would
// the one before it. Between these counts nothing is written but the purges, and nothing is swept.
type masks struct {
	onDisk   []*purgeRecord // to be swept from disk; not written to, a count may go on after a stall
	walkCost int            // of the rows of these and of the purges counted since
	judged   int            // rows judged by their records
	// noted are the purges whose rows have been looked for; nil until that is needed.
	noted map[*purgeRecord]struct{}
	// first are, by severity, the lowest generations of these that have hit a row, by its entry.
	first [Hard]map[uint64]uint64
}

// countRecords is how many rows are judged by their records in any case.
const countRecords = 64

// walkCost is about what it takes to walk through the rows of a purge, where to read one record
// takes 1: the first row is as far, and the others come with it.
func walkCost(rows int) int { return 1 + rows/16 }

// isMasked tells whether purges before this one have hit a row and have not swept it yet. Few rows
// are judged by their records. Where that would take longer than to walk through the rows that
// those purges have hit, these are looked for instead: to read the record of each of a hundred
// thousand rows would take hundreds of times as long as to count them.
func (c *counting) isMasked(id uint64) (bool, error) {
	m := c.masks
	if !c.others || len(m.onDisk)+len(c.uncounted) == 0 {
		return false, nil
	}
	if m.noted == nil && m.judged < m.walkCost+countRecords {
		m.judged++
		r, _, err := c.t.record(id)
		if err != nil {
			return false, nil //nolint:nilerr // it is met and counted by who looks it up
		}
		return c.writer.purges.recordPurgedBy(r, c.rec.gen) >= c.rec.severity, nil
	}
	if !c.masked {
		if err := c.findMasked(); err != nil {
			return false, err
		}
		c.masked = true
	}
	for _, first := range m.first[c.rec.severity-1:] {
		if gen, hit := first[id]; hit && gen < c.rec.gen {
			return true, nil
		}
	}
	return false, nil
}

// findMasked notes what is on disk that purges before this one have hit and that is not swept yet,
// from their index rows. Those of a purge are walked through once.
func (c *counting) findMasked() error {
	m := c.masks
	if m.noted == nil {
		m.noted = make(map[*purgeRecord]struct{})
		for i := range m.first {
			m.first[i] = make(map[uint64]uint64)
		}
	}
	for _, other := range slices.Concat(m.onDisk, c.uncounted) {
		if other.gen >= c.rec.gen || other.sel.All || other.severity < c.rec.severity {
			continue // what All has hit is told by the generation
		}
		if _, noted := m.noted[other]; noted {
			continue
		}
		if err := c.note(other); err != nil {
			return err
		}
		m.noted[other] = struct{}{}
	}
	return nil
}

// note notes the rows that another purge has hit.
func (c *counting) note(other *purgeRecord) error {
	first := c.masks.first[other.severity-1]
	for _, sc := range scansOf(&other.sel) {
		sc.step = c.yield
		err := sc.each(c.t, nil, func(key, value []byte) (bool, error) {
			if decodeIndexRow(value).generation >= other.gen {
				return true, nil
			}
			id := rowID(key)
			if gen, hit := first[id]; !hit || other.gen < gen {
				first[id] = other.gen
			}
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

package store

import "slices"

// tagList are the rows of one tag, by age, in blocks: a new row is nearly always the last one, and
// one that comes back from the disk, or goes, moves no more than its block. No block is empty.
type tagList [][]tagRow

// blockRows is how many rows a block has at most. Blocks grow by a quarter: append doubles short
// ones, of which there are many.
const blockRows = 128

// find is the block that row is in or belongs into, and where in it.
func (l tagList) find(row tagRow) (block, at int) {
	block, _ = slices.BinarySearchFunc(l, row, func(b []tagRow, row tagRow) int { return b[len(b)-1].compare(row) })
	if block == len(l) {
		return block, 0
	}
	at, _ = slices.BinarySearchFunc(l[block], row, tagRow.compare)
	return block, at
}

func (l *tagList) insert(row tagRow) {
	block, at := l.find(row)
	if block == len(*l) { // behind all: into the last block, while that has room
		if block == 0 || len((*l)[block-1]) == blockRows {
			*l = append(*l, []tagRow{row})
			return
		}
		block--
		at = len((*l)[block])
	}
	rows := (*l)[block]
	if len(rows) == blockRows {
		*l = slices.Insert(*l, block+1, slices.Clone(rows[blockRows/2:]))
		(*l)[block] = slices.Clone(rows[:blockRows/2])
		l.insert(row)
		return
	}
	if n := len(rows); n == cap(rows) {
		rows = append(make([]tagRow, 0, min(n+n/4+1, blockRows)), rows...)
	}
	(*l)[block] = slices.Insert(rows, at, row)
}

// remove takes a row out. What a block has left over is given back, and a small one joins its
// neighbour.
func (l *tagList) remove(row tagRow) {
	block, at := l.find(row)
	if block == len(*l) || at == len((*l)[block]) || (*l)[block][at].compare(row) != 0 {
		return
	}
	rows := slices.Delete((*l)[block], at, at+1)
	if next := block + 1; next < len(*l) && len(rows)+len((*l)[next]) <= blockRows/2 {
		rows = append(slices.Clip(rows), (*l)[next]...)
		*l = slices.Delete(*l, next, next+1)
	}
	if len(rows) < cap(rows)/2 {
		rows = append(make([]tagRow, 0, len(rows)+len(rows)/4), rows...)
	}
	if (*l)[block] = rows; len(rows) == 0 {
		*l = slices.Delete(*l, block, block+1)
	}
}

// single is the only row, if there is only one.
func (l tagList) single() (row tagRow, single bool) {
	if len(l) != 1 || len(l[0]) != 1 {
		return tagRow{}, false
	}
	return l[0][0], true
}

// ascend walks the rows from an id on while fn agrees.
func (l tagList) ascend(from uint64, fn func(row tagRow) bool) {
	block, at := l.find(tagRow{id: from})
	for ; block < len(l); block, at = block+1, 0 {
		for _, row := range l[block][at:] {
			if !fn(row) {
				return
			}
		}
	}
}

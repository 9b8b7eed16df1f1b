package store

import (
	"slices"
	"testing"
)

// TestTagListStaysInOrder: rows come at the end, and back from the disk in between; they go in any
// order.
func TestTagListStaysInOrder(t *testing.T) {
	rng := seeded(t)
	var l tagList
	var want []tagRow
	check := func() {
		t.Helper()
		if got := slices.Concat(l...); !slices.Equal(got, want) {
			t.Fatalf("%d rows, want %d", len(got), len(want))
		}
		for _, block := range l {
			if len(block) == 0 || len(block) > blockRows || cap(block) > 2*len(block)+1 {
				t.Fatalf("a block of %d in %d", len(block), cap(block))
			}
		}
	}
	for step := range 6 * blockRows {
		row := tagRow{id: uint64(2 * (step + 1)), item: 1}
		if rng.IntN(4) == 0 {
			row = tagRow{id: 1 + rng.Uint64N(uint64(2*step+1)), item: ref(2 + step)}
		}
		l.insert(row)
		at, _ := slices.BinarySearchFunc(want, row, tagRow.compare)
		want = slices.Insert(want, at, row)
		check()
	}
	for _, from := range []uint64{0, 1, want[len(want)/2].id, want[len(want)-1].id, want[len(want)-1].id + 1} {
		var got []tagRow
		l.ascend(from, func(row tagRow) bool { got = append(got, row); return len(got) < 10 })
		at := slices.IndexFunc(want, func(r tagRow) bool { return r.id >= from })
		if at < 0 {
			at = len(want)
		}
		if !slices.Equal(got, want[at:min(at+10, len(want))]) {
			t.Errorf("from %d: %v", from, got)
		}
	}
	for len(want) > 0 {
		i := rng.IntN(len(want))
		l.remove(want[i])
		want = slices.Delete(want, i, i+1)
		check()
		_, single := l.single()
		if single != (len(want) == 1) {
			t.Fatalf("single = %v of %d", single, len(want))
		}
	}
	l.remove(tagRow{id: 1}) // does no harm
}

package store

import (
	"fmt"
	"testing"
)

// variantWorld is a store that takes limit variants of one page.
type variantWorld struct {
	t     *testing.T
	s     *Store
	limit int
}

const variantURL = "http://example.com/"

// inAllTiers runs a test on a store in memory, and on one whose variants are all on disk.
func inAllTiers(t *testing.T, limit int, test func(w variantWorld)) {
	t.Helper()
	for name, settings := range map[string]Settings{
		"memory": {Memory: 16 << 20}, "disk": {Memory: 1, Disk: 64 << 20}, "both": {Memory: 16 << 20, Disk: 64 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{}
			if settings.Disk > 0 {
				cfg = Config{Path: t.TempDir(), Required: true}
			}
			test(variantWorld{t, openStore(t, cfg, settings), limit})
		})
	}
}

// put stores the variant of a value.
func (w variantWorld) put(value string) {
	w.t.Helper()
	e := testEntry(w.s, variantURL, []byte(value))
	e.Variant = Variant{Names: []string{"Accept-Language"}, Values: []string{value}}
	if r := w.s.Put(e, w.limit); r != Stored {
		w.t.Fatalf("put %s: %v", value, r)
	}
	if err := w.s.Sync(); err != nil {
		w.t.Fatal(err)
	}
}

// finds looks a variant up, as a use of it.
func (w variantWorld) finds(value string) bool {
	r := w.s.Lookup(keyOf(variantURL), func(v *Variant) int {
		if v.Values[0] == value {
			return 1
		}
		return 0
	})
	defer r.Release()
	return r.Entry != nil
}

// ask looks a variant up and stores it on a miss; false on a miss.
func (w variantWorld) ask(value string) bool {
	w.t.Helper()
	if w.finds(value) {
		return true
	}
	w.put(value)
	return false
}

// flood asks for n values that nobody has asked for before.
func (w variantWorld) flood(made *int, n int) {
	w.t.Helper()
	for range n {
		*made++
		w.ask(fmt.Sprint("made up ", *made))
	}
}

// leaveCredit has none have more than n.
func (w variantWorld) leaveCredit(n uint32) {
	sh := w.s.memory.shard(keyOf(variantURL))
	sh.mu.Lock()
	sh.variants(new(keyOf(variantURL)), func(it *item) bool { it.setCredit(min(it.credit(), n)); return true })
	sh.mu.Unlock()
	if w.s.disk != nil {
		c := &w.s.diskWriter.credits
		for id, credit := range c.of {
			c.give(id, min(credit, n))
		}
	}
}

// TestMadeUpVariantsLeaveWhatIsUsed: however many values are asked for once between two uses of a
// variant, they take the places of each other, and a new variant has time to be asked for again.
func TestMadeUpVariantsLeaveWhatIsUsed(t *testing.T) {
	const limit = 10
	inAllTiers(t, limit, func(w variantWorld) {
		made := 0
		w.ask("en")
		w.ask("en")
		for round := range 4 {
			w.flood(&made, 5*limit)
			if !w.ask("en") {
				w.t.Fatalf("round %d: what is in use has made room for what was asked for once", round)
			}
		}
		w.ask("fr")
		w.flood(&made, limit/probationPart-1)
		if !w.ask("fr") {
			w.t.Fatal("a new variant has gone before it could be asked for again")
		}
		w.flood(&made, 5*limit)
		if !w.ask("fr") || !w.ask("en") {
			w.t.Fatal("a new variant that was asked for again has gone")
		}
		e := testEntry(w.s, variantURL, nil)
		e.Variant = Variant{Names: []string{"Accept-Language"}, Values: []string{"fr"}}
		w.s.Put(e, limit) // anew, as when it has become stale
		w.flood(&made, 5*limit)
		if !w.ask("fr") {
			w.t.Fatal("a variant fetched anew has lost its credit")
		}
	})
}

// TestVariantsThatAreUsedNoMoreGo: another set of variants takes the place of one that was in use,
// also where they are asked for in turn, so that each would have gone before its turn comes again.
func TestVariantsThatAreUsedNoMoreGo(t *testing.T) {
	const limit, left = 10, 50
	inAllTiers(t, limit, func(w variantWorld) {
		for i := range 2 * limit {
			w.ask(fmt.Sprint("former ", i%limit))
		}
		w.leaveCredit(left)
		misses := 0
		for round := 0; ; round++ {
			missed := 0
			for i := range limit {
				if !w.ask(fmt.Sprint("present ", i)) {
					missed++
				}
			}
			if misses += missed; missed == 0 {
				break
			}
			if misses > left+2*limit {
				w.t.Fatalf("after %d rounds with %d misses those used before have their places still", round, misses)
			}
		}
	})
}

// TestVariantToGo has the order among variants with credit and without.
func TestVariantToGo(t *testing.T) {
	for _, tt := range []struct {
		name  string
		uses  []variantUse
		limit int
		want  int
	}{
		{"the oldest without credit", []variantUse{{0, 1}, {0, 5}, {0, 3}, {4, 9}, {9, 9}}, 5, 1},
		{"with credit, the least", []variantUse{{7, 1}, {3, 2}, {5, 9}}, 3, 1},
		{"of equal credit, the oldest", []variantUse{{3, 1}, {3, 7}, {3, 2}}, 3, 1},
		{"their fifth is for those without", []variantUse{{0, 1}, {3, 2}, {4, 2}, {5, 2}, {6, 2}}, 5, 0},
		{"too many with credit", []variantUse{{0, 1}, {3, 2}, {4, 2}, {5, 2}, {6, 2}}, 4, 1},
		{"too many, but used later", []variantUse{{0, 8}, {3, 2}, {4, 2}, {5, 2}, {6, 2}}, 4, 0},
		{"one place, with credit", []variantUse{{3, 1}}, 1, 0},
		{"one place", []variantUse{{0, 1}}, 1, 0},
	} {
		if got := variantToGo(tt.uses, tt.limit); got != tt.want {
			t.Errorf("%s: %d goes, want %d", tt.name, got, tt.want)
		}
	}
}

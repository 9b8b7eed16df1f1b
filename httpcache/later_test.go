package httpcache

import (
	"slices"
	"testing"

	"github.com/larder-cache/larder/store"
)

// What a later release has stored, and says something of that this one does not know, is not used:
// neither a page, nor the head of a file in slices, nor a slice, whether its header tells something
// or not.
func TestStoredByALaterRelease(t *testing.T) {
	for _, what := range []string{"the head", "a slice", "a slice that tells nothing"} {
		for note, used := range map[string]bool{"\x00later fact": false, "X-Name": true} {
			h, f := newSlicing(t), newFilm(106, 1000)
			f.want(t, f.get(t, h, "Range", "bytes=10-19"), 206, 10, 20, cold)
			head := h.newKeyed(t)
			key, selects := head, func(*store.Variant) int { return 1 }
			if what != "the head" {
				found := h.cache.store.Lookup(head, selects)
				key = objectOf(found.Entry).key(0)
				found.Release()
			}
			found := h.cache.store.Lookup(key, selects)
			e := found.Entry.Clone()
			e.Notes = append(slices.Clip(e.Notes), note)
			if what == "a slice that tells nothing" {
				e.Header = map[string][]string{"Content-Range": e.Header["Content-Range"]}
			}
			if refusal := h.cache.store.Put(e, 0); refusal != store.Stored {
				t.Fatal(refusal)
			}
			found.Release()
			if got := f.status(f.get(t, h, "Range", "bytes=10-19")); got == hit != used {
				t.Errorf("%s with the note %q: %q", what, note, got)
			}
		}
	}
	h := newTestHandler(t)
	ask(t, h, storable)
	found := h.cache.store.Lookup(h.newKeyed(t), func(*store.Variant) int { return 1 })
	e := found.Entry.Clone()
	found.Release()
	e.Notes = []string{"\x00later fact"}
	h.cache.store.Put(e, 0)
	if got := ask(t, h, storable).Header().Get("Cache-Status"); got != "Larder; fwd=uri-miss; stored" {
		t.Errorf("a page: %q", got)
	}
}

package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/larder-cache/larder/store/internal/boltcheck"
)

// TestTreeInACircle: a page that leads back to one above it, or out of the file, is noticed before
// bbolt goes there.
func TestTreeInACircle(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 500, 100)
	file := filepath.Join(dir, FileName)
	sound, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := boltcheck.Tree(bytes.NewReader(sound)); err != nil {
		t.Fatalf("a sound file: %v", err)
	}
	meta, _ := boltcheck.ReadMeta(bytes.NewReader(sound))
	order, last := binary.NativeEndian, []byte(nil)
	for _, id := range branches(sound, meta) {
		const firstChild, overflow = boltcheck.PageHeader + 8, 12
		child := order.Uint64(sound[id*pageBytes+firstChild:])
		for name, harm := range map[string]func(image []byte){
			"its own child":     func(image []byte) { order.PutUint64(image[id*pageBytes+firstChild:], id) },
			"the root's parent": func(image []byte) { order.PutUint64(image[id*pageBytes+firstChild:], meta.Root) },
			"child of two":      func(image []byte) { order.PutUint64(image[id*pageBytes+firstChild+boltcheck.Element:], child) },
			"child outside":     func(image []byte) { order.PutUint64(image[id*pageBytes+firstChild:], meta.Pages) },
			"too long":          func(image []byte) { order.PutUint32(image[id*pageBytes+overflow:], uint32(meta.Pages)) },
		} {
			last = bytes.Clone(sound)
			harm(last)
			if err := boltcheck.Tree(bytes.NewReader(last)); !errors.Is(err, errDamaged) {
				t.Errorf("page %d %s: %v", id, name, err)
			}
		}
	}
	if last == nil {
		t.Fatal("the file has no branches")
	}
	if err := os.WriteFile(file, last, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, Config{Path: dir, Required: true}, diskTier)
	if n := hits(t, s, urls); n != 0 || len(asideFiles(t, dir)) != 1 {
		t.Errorf("%d hits, %d files set aside", n, len(asideFiles(t, dir)))
	}
}

// branches are the branch pages of a tree.
func branches(image []byte, meta boltcheck.MetaPage) (found []uint64) {
	for level := []uint64{meta.Root}; len(level) > 0; {
		var below []uint64
		for _, id := range level {
			page := image[id*pageBytes : (id+1)*pageBytes]
			if binary.NativeEndian.Uint16(page[8:]) == boltcheck.Branch {
				found = append(found, id)
			}
			below = boltcheck.Children(below, page)
		}
		level = below
	}
	return found
}

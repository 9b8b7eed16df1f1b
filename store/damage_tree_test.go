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
	for _, id := range branches(t, sound, meta) {
		const firstChild, overflow = boltcheck.PageHeader + 8, 12
		child := order.Uint64(sound[id*pageBytes+firstChild:])
		for name, harm := range map[string]func(image []byte){
			"its own child":     func(image []byte) { order.PutUint64(image[id*pageBytes+firstChild:], id) },
			"the root's parent": func(image []byte) { order.PutUint64(image[id*pageBytes+firstChild:], meta.Root) },
			"child of two":      func(image []byte) { order.PutUint64(image[id*pageBytes+firstChild+boltcheck.Element:], child) },
			"child outside":     func(image []byte) { order.PutUint64(image[id*pageBytes+firstChild:], meta.Pages) },
			"no children":       func(image []byte) { order.PutUint16(image[id*pageBytes+10:], 0) },
			"a list of pages":   func(image []byte) { order.PutUint16(image[id*pageBytes+8:], 0x10) },
			"too many":          func(image []byte) { order.PutUint16(image[id*pageBytes+10:], 0xFFFF) },
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

// TestBucketOfZeros: a small bucket stands in a leaf of the tree's top. Where the sector with its
// page has not been written, bbolt takes the page for a branch whose first child is page 0, which
// is that page again, and goes round in it until there is no memory left.
func TestBucketOfZeros(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 5, 100)
	file := filepath.Join(dir, FileName)
	image, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const header = 16 // of the bucket: root and sequence
	for at := 0; ; {  // in old pages too, which changes nothing
		next := bytes.Index(image[at:], purgesBucket)
		if next < 0 {
			break
		}
		at += next + len(purgesBucket)
		clear(image[at+header : at+header+boltcheck.PageHeader])
	}
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, Config{Path: dir, Required: true}, diskTier)
	if n := hits(t, s, urls); n != 0 || len(asideFiles(t, dir)) != 1 {
		t.Errorf("%d hits, %d files set aside", n, len(asideFiles(t, dir)))
	}
}

// branches are the branch pages of a tree.
func branches(t *testing.T, image []byte, meta boltcheck.MetaPage) (found []uint64) {
	t.Helper()
	for level := []boltcheck.Place{{ID: meta.Root, Top: true}}; len(level) > 0; {
		var below []boltcheck.Place
		for _, at := range level {
			if binary.NativeEndian.Uint16(image[at.ID*pageBytes+8:]) == boltcheck.Branch {
				found = append(found, at.ID)
			}
			children, err := boltcheck.Children(bytes.NewReader(image), meta, at)
			if err != nil {
				t.Fatal(err)
			}
			below = append(below, children...)
		}
		level = below
	}
	return found
}

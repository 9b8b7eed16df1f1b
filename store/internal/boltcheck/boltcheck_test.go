package boltcheck

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// database is the image of a sound file with branches in its tree and free pages, and its meta
// page.
func database(t *testing.T) ([]byte, MetaPage) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(name, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []int{1000, 10} { // the second leaves pages of the first free
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("bucket"))
			for i := 0; err == nil && i < 3000; i++ {
				err = b.Put(fmt.Appendf(nil, "%06d", i), make([]byte, value))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	meta, ok := ReadMeta(bytes.NewReader(image))
	if !ok {
		t.Fatal("no meta page")
	}
	return image, meta
}

func TestSoundFile(t *testing.T) {
	image, _ := database(t)
	r := bytes.NewReader(image)
	if err := errors.Join(Meta(r), FreelistHead(r), Freelist(r), Tree(r)); err != nil {
		t.Error(err)
	}
}

func TestLostMetaPages(t *testing.T) {
	image, meta := database(t)
	clear(image[:PageHeader+8])
	if err := Meta(bytes.NewReader(image)); err != nil {
		t.Errorf("with the second one left: %v", err)
	}
	clear(image[:2*meta.PageSize])
	for name, err := range map[string]error{
		"Meta": Meta(bytes.NewReader(image)), "FreelistHead": FreelistHead(bytes.NewReader(image)), "Meta of nothing": Meta(bytes.NewReader(nil)),
	} {
		if !errors.Is(err, ErrLost) || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDamagedFreelist: what bbolt would allocate without bound for, or give out although it is in
// use.
func TestDamagedFreelist(t *testing.T) {
	image, meta := database(t)
	at := int64(meta.Freelist) * meta.PageSize
	list, err := ReadList(bytes.NewReader(image), meta)
	if err != nil || list.Count < 2 {
		t.Fatalf("%d free pages, %v", list.Count, err)
	}
	for name, tt := range map[string]struct {
		at   int64
		data []byte
		head bool // the head of the list tells
	}{
		"another page's number":      {0, []byte{0xff}, true},
		"another kind of page":       {8, []byte{1}, true},
		"going on for gigabytes":     {15, []byte{0xff}, true},
		"a page outside of the file": {PageHeader + 5, []byte{0xff}, false},
		"a page twice":               {PageHeader + 8, image[at+PageHeader : at+PageHeader+8], false},
	} {
		damaged := bytes.Clone(image)
		copy(damaged[at+tt.at:], tt.data)
		if err := Freelist(bytes.NewReader(damaged)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: Freelist: %v", name, err)
		}
		if err := FreelistHead(bytes.NewReader(damaged)); errors.Is(err, ErrDamaged) != tt.head {
			t.Errorf("%s: FreelistHead: %v", name, err)
		}
	}
}

// TestTreeThatLeadsBack: a page that leads to one above it, to one of another, or out of the file.
func TestTreeThatLeadsBack(t *testing.T) {
	image, meta := database(t)
	order, page := binary.NativeEndian, uint64(meta.PageSize)
	branch := uint64(0)
	for id := uint64(2); id < meta.Pages; id++ {
		if order.Uint16(image[id*page+8:]) == Branch && order.Uint64(image[id*page:]) == id {
			damaged := bytes.Clone(image) // it may be a free page: then its damage changes nothing
			order.PutUint64(damaged[id*page+PageHeader+8:], meta.Pages)
			if Tree(bytes.NewReader(damaged)) != nil {
				branch = id
			}
		}
	}
	if branch == 0 {
		t.Fatal("the file has no branches")
	}
	child := branch*page + PageHeader + 8
	first := order.Uint64(image[child:])
	for name, harm := range map[string]func(b []byte){
		"its own child":  func(b []byte) { order.PutUint64(b[child:], branch) },
		"the root above": func(b []byte) { order.PutUint64(b[child:], meta.Root) },
		"child of two":   func(b []byte) { order.PutUint64(b[child+Element:], first) },
		"too long":       func(b []byte) { order.PutUint32(b[branch*page+12:], uint32(meta.Pages)) },
	} {
		damaged := bytes.Clone(image)
		harm(damaged)
		if err := Tree(bytes.NewReader(damaged)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

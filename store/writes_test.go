package store

import (
	"reflect"
	"testing"
	"unsafe"
)

type writeAt = func(data []byte, off int64) (int, error)

// interceptWrites puts a function of the test between the open database and its file: it is given
// bbolt's own write. bbolt keeps a field for this, "for test hooks", but to itself; a *os.File that
// Config.OpenFile returns cannot be wrapped. It holds until the file is closed.
func interceptWrites(t *testing.T, s *Store, wrap func(write writeAt) writeAt) {
	t.Helper()
	s.disk.mu.Lock() // no transaction is under way
	defer s.disk.mu.Unlock()
	field := reflect.ValueOf(s.disk.use.db).Elem().FieldByName("ops").FieldByName("writeAt")
	if !field.IsValid() || field.Type() != reflect.TypeFor[writeAt]() {
		t.Fatal("this bbolt has no DB.ops.writeAt")
	}
	hook := (*writeAt)(unsafe.Pointer(field.UnsafeAddr()))
	*hook = wrap(*hook)
}

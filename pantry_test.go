package larder

import (
	"log/slog"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store"
)

// TestReopenedPathWaitsForItsFile: the store that has the file is still being closed, which may
// take longer than the lock is waited for, when a configuration names its path again. That one was
// refused, as if by another process.
func TestReopenedPathWaitsForItsFile(t *testing.T) {
	folder, settings := t.TempDir(), store.Settings{Memory: 1 << 20, Disk: 8 << 20}
	take := func() *pantry {
		t.Helper()
		p, err := takePantry(folder, true, settings, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := take()
	if err := first.open(); err != nil {
		t.Fatal(err)
	}
	if err := first.giveBack(); err != nil {
		t.Fatal(err)
	}
	closing := &first.past().closing
	closing.Lock() // as giveBack does
	old, err := bbolt.Open(filepath.Join(folder, store.FileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	second := take()
	opened := make(chan error)
	go func() { opened <- second.open() }()
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	closing.Unlock()
	if err := <-opened; err != nil {
		t.Errorf("the path is refused while its own store is being closed: %v", err)
	}
	if err := second.giveBack(); err != nil {
		t.Error(err)
	}
}

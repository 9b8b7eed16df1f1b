package storetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/larder-cache/larder/store"
	"github.com/larder-cache/larder/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestArrangements(t *testing.T) {
	for _, tt := range []struct {
		name     string
		disk     bool
		settings store.Settings
	}{
		{"memory only", false, store.Settings{Memory: 16 << 20}},
		{"memory only, lfu", false, store.Settings{Memory: 16 << 20, Eviction: store.LFU}},
		{"memory only, fifo", false, store.Settings{Memory: 16 << 20, Eviction: store.FIFO}},
		{"memory only, none", false, store.Settings{Memory: 16 << 20, Eviction: store.None}},
		{"disk under a tiny memory", true, store.Settings{Memory: 8 << 10, Disk: 64 << 20}},
		{"disk without memory", true, store.Settings{Memory: 0, Disk: 64 << 20}},
		{"both", true, store.Settings{Memory: 16 << 20, Disk: 64 << 20}},
		{"both, lfu", true, store.Settings{Memory: 16 << 20, Disk: 64 << 20, Eviction: store.LFU}},
		{"both, none", true, store.Settings{Memory: 16 << 20, Disk: 64 << 20, Eviction: store.None}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) *store.Store {
				cfg := store.Config{Required: true}
				if tt.disk {
					cfg.Path = t.TempDir()
				}
				s := store.New(cfg, tt.settings)
				if err := s.Open(); err != nil {
					t.Fatalf("Open: %v", err)
				}
				t.Cleanup(func() {
					if err := s.Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
				})
				return s
			})
		})
	}
}

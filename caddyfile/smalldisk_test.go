package caddyfile

import "testing"

// TestSmallDiskIsTold: of a budget whose file may take more than one and a half times as much.
func TestSmallDiskIsTold(t *testing.T) {
	for _, c := range []struct {
		config AppConfig
		want   bool
	}{
		{AppConfig{}, false},
		{AppConfig{Disk: &DiskConfig{Budget: 1 << 20}}, true},
		{AppConfig{Disk: &DiskConfig{Budget: 16<<20 - 1}}, true},
		{AppConfig{Disk: &DiskConfig{Budget: 16 << 20}}, false},
		{AppConfig{Disk: &DiskConfig{Off: true}}, false},
	} {
		if got := c.config.Stores()[0].SmallDisk(); got != c.want {
			t.Errorf("%+v: %v", c.config.Disk, got)
		}
	}
}

package larder

import (
	"os"
	"path/filepath"
	"testing"

	cfg "github.com/larder-cache/larder/caddyfile"
)

// TestRelativeFolderIsNamedWhole: the log and the statistics of two Caddys that were started in two
// folders tell their files apart.
func TestRelativeFolderIsNamedWhole(t *testing.T) {
	config := cfg.AppConfig{Disk: &cfg.DiskConfig{Path: "./rel-cache"}}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	z, err := newZone(&config.Stores()[0])
	if err != nil || z.Disk.Path != filepath.Join(here, "rel-cache") {
		t.Errorf("%+v, %v", z, err)
	}
	if config.Disk.Path != "./rel-cache" {
		t.Errorf("the configuration has changed: %s", config.Disk.Path)
	}
}

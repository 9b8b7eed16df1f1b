//go:build darwin || freebsd || linux

package machine

import (
	"os"
	"strconv"
	"syscall"
	"testing"
)

// TestVolumeIsADevice: a volume was known by the id that statfs returns, which is no file system's
// own where the server of a network file system does not say it.
func TestVolumeIsADevice(t *testing.T) {
	for _, folder := range []string{t.TempDir(), "/", "/dev"} {
		info, err := os.Stat(folder)
		if err != nil {
			t.Fatal(err)
		}
		at, err := spaceOf(folder)
		if err != nil {
			t.Fatal(err)
		}
		device := uint64(info.Sys().(*syscall.Stat_t).Dev) //nolint:unconvert // the type differs from system to system
		if want := strconv.FormatUint(device, 10); at.volume != want {
			t.Errorf("%s is on the volume %s, and its device is %s", folder, at.volume, want)
		}
	}
}

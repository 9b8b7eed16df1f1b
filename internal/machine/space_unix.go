//go:build darwin || freebsd || linux

package machine

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// spaceOf tells volumes apart by their devices. The id that statfs returns is no help: NFS leaves
// it zero on some systems, so all of its mounts would be one volume.
func spaceOf(folder string) (space, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(folder, &fs); err != nil {
		return space{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(folder, &st); err != nil {
		return space{}, err
	}
	// The types of the fields differ from system to system.
	return space{
		strconv.FormatUint(uint64(st.Dev), 10),       //nolint:unconvert // see above
		uint64(max(0, fs.Bavail)) * uint64(fs.Bsize), //nolint:unconvert // see above
	}, nil
}

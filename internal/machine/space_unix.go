//go:build darwin || freebsd || linux

package machine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func spaceOf(folder string) (space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(folder, &st); err != nil {
		return space{}, err
	}
	// The types of the fields differ from system to system.
	return space{fmt.Sprint(st.Fsid), uint64(max(0, st.Bavail)) * uint64(st.Bsize)}, nil //nolint:unconvert // see above
}

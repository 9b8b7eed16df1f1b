package machine

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

func spaceOf(folder string) (space, error) {
	path, err := filepath.Abs(folder)
	if err != nil {
		return space{}, err
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return space{}, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return space{}, err
	}
	return space{filepath.VolumeName(path), free}, nil
}

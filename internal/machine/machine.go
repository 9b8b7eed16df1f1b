// Package machine tells what memory and disk a process may have, and which budgets are beyond that.
package machine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// Memory returns how much memory the process may have, in bytes: that of the machine, or the limit
// of its cgroup where that is less. It is 0 where neither is known.
func Memory() uint64 {
	var least uint64
	for _, limit := range []memlimit.Provider{memlimit.FromSystem, memlimit.FromCgroup} {
		if bytes, err := limit(); err == nil && (least == 0 || bytes < least) {
			least = bytes
		}
	}
	return least
}

// File is a file that may grow up to a budget.
type File struct {
	Path   string
	Budget uint64 // bytes
}

// Full is a volume on which files cannot grow to their budgets.
type Full struct {
	Files  []string
	Budget uint64 // of all of them, in bytes
	Room   uint64 // what they have already, and what is free for them beside that
}

// space is what a volume has.
type space struct {
	volume string
	free   uint64 // for this user, in bytes
}

// TooLarge returns the volumes that have not the room for the budgets of the files on them, in the
// order of their first files. Volumes that do not tell are left out.
func TooLarge(files []File) []Full { return tooLarge(files, spaceOf) }

func tooLarge(files []File, spaceOf func(folder string) (space, error)) (full []Full) {
	var volumes []string
	on := map[string]*Full{}
	for _, file := range files {
		at, err := spaceOf(existing(filepath.Dir(file.Path)))
		if err != nil {
			continue
		}
		v := on[at.volume]
		if v == nil {
			v = &Full{Room: at.free}
			on[at.volume] = v
			volumes = append(volumes, at.volume)
		}
		v.Files = append(v.Files, file.Path)
		v.Budget += file.Budget
		if info, err := os.Stat(file.Path); err == nil {
			v.Room += uint64(max(0, info.Size()))
		}
	}
	for _, name := range volumes {
		if v := on[name]; v.Budget > v.Room {
			full = append(full, *v)
		}
	}
	return slices.Clip(full)
}

// existing returns the folder, or the nearest one above it that there is.
func existing(folder string) string {
	for {
		_, err := os.Stat(folder)
		parent := filepath.Dir(folder)
		if !errors.Is(err, fs.ErrNotExist) || parent == folder {
			return folder
		}
		folder = parent
	}
}

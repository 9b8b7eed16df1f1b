package check

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/internal/machine"
	"github.com/larder-cache/larder/store"
)

// Machine is what budgets are compared with.
type Machine struct {
	Memory uint64 // that the process may have, in bytes; 0 where that is not known
	// TooLarge returns the volumes without room for some files, as that of package machine.
	TooLarge func([]machine.File) []machine.Full
}

// Excess is what the budgets of stores ask for and a machine has not.
type Excess struct {
	Memory uint64         // the budgets of all zones, in bytes; 0 where the machine has as much
	Disks  []machine.Full // the volumes without room for the files on them
}

// Excess sums the budgets of stores, in whose folders placeholders are replaced.
func (m Machine) Excess(stores []cfg.Store) (x Excess) {
	var files []machine.File
	for i := range stores {
		s := &stores[i]
		x.Memory += uint64(s.Memory)
		if !s.Disk.Off {
			files = append(files, machine.File{Path: fileOf(s), Budget: uint64(s.Disk.Budget)})
		}
	}
	if m.Memory == 0 || x.Memory <= m.Memory {
		x.Memory = 0
	}
	x.Disks = m.TooLarge(files)
	return x
}

// fileOf is the file of a store's disk tier.
func fileOf(s *cfg.Store) string { return filepath.Join(s.Disk.Path, store.FileName) }

// checkBudgets compares budgets with what the machine has.
func (c *checker) checkBudgets(stores []cfg.Store) {
	excess := c.machine.Excess(stores)
	if excess.Memory > 0 {
		c.reportZone(cfg.DefaultZone, "memory", "", "memory is %s in all zones together, and a process here may have %s; lower it: what Caddy takes itself comes on top",
			humanize.IBytes(excess.Memory), humanize.IBytes(c.machine.Memory))
	}
	for _, full := range excess.Disks {
		first := slices.IndexFunc(stores, func(s cfg.Store) bool { return !s.Disk.Off && fileOf(&s) == full.Files[0] })
		c.reportZone(stores[first].Zone, "disk", "", "disk is %s for %s, and the disk has room for %s; lower it, or make room: the file may grow to one and a half times as much",
			humanize.IBytes(full.Budget), strings.Join(full.Files, ", "), humanize.IBytes(full.Room))
	}
}

// checkFolders finds two zones whose folders are one, by a placeholder or a link.
func (c *checker) checkFolders(stores []cfg.Store) {
	var seen []string
	for i := range stores {
		s := &stores[i]
		if s.Disk.Off {
			continue
		}
		folder := s.Disk.Path
		if resolved, err := filepath.EvalSymlinks(folder); err == nil {
			folder = resolved
		}
		if abs, err := filepath.Abs(folder); err == nil {
			folder = abs
		}
		if slices.Contains(seen, folder) {
			c.reportZone(s.Zone, "disk", "", "%s is the folder of another zone, too, so Caddy does not start; give each zone its own", folder)
		}
		seen = append(seen, folder)
	}
}

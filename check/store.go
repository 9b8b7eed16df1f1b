package check

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/internal/machine"
	"github.com/larder-cache/larder/store"
)

// checkStore looks at the global option, once all handlers have been looked at. found says that
// there are any.
func (c *checker) checkStore(found bool) {
	if !found {
		c.reportApp("", "", "no site has larder, so nothing is cached; write larder in the block of a site")
		return
	}
	c.checkAdmin()
	c.checkZones()
	c.checkBudgets()
	c.checkFolders()
}

// checkZones finds zones that no handler names, and bodies that no tier has room for.
func (c *checker) checkZones() {
	for _, s := range c.app.Stores() {
		words := ""
		if s.Zone != cfg.DefaultZone {
			words = "zone"
			if !c.zones[s.Zone] {
				c.reportApp("zone", s.Zone, "no larder names the zone %s, so it stays empty; write zone %s in a directive, or leave it out here", s.Zone, s.Zone)
			}
		}
		largest := s.Memory
		if !s.Disk.Off {
			largest = max(largest, s.Disk.Budget/2)
		}
		if s.MaxBody > largest {
			c.reportApp(strings.TrimSpace(words+" max_body"), "", "a body of max_body, %s, has room in neither tier: memory is %s, and a body may take half of disk; "+
				"lower it, or raise a budget", bytesText(s.MaxBody), bytesText(s.Memory))
		}
	}
	for zone := range c.zones {
		if zone == "" {
			continue
		}
		if err := cfg.CheckZone(zone, c.zoneNames()); err != nil {
			c.reportApp("", "", "%v", err)
		}
	}
}

func bytesText(size cfg.Size) string { return humanize.IBytes(uint64(max(0, size))) }

// checkBudgets compares budgets with what the machine has.
func (c *checker) checkBudgets() {
	var memory uint64
	var files []machine.File
	for _, s := range c.app.Stores() {
		memory += uint64(s.Memory)
		if folder, err := folderOf(&s); err == nil && folder != "" {
			files = append(files, machine.File{Path: filepath.Join(folder, store.FileName), Budget: uint64(s.Disk.Budget)})
		}
	}
	if has := c.machine.Memory; has > 0 && memory > has {
		c.reportApp("memory", "", "memory is %s in all zones together, and a process here may have %s; lower it: what Caddy takes itself comes on top",
			humanize.IBytes(memory), humanize.IBytes(has))
	}
	for _, full := range c.machine.TooLarge(files) {
		c.reportApp("disk", "", "disk is %s for %s, and the disk has room for %s; lower it, or make room: the file may grow to one and a half times as much",
			humanize.IBytes(full.Budget), strings.Join(full.Files, ", "), humanize.IBytes(full.Room))
	}
}

// folderOf returns the folder of a store with its placeholders replaced, as it is when Caddy starts
// with the environment of this command; empty without a disk tier.
func folderOf(s *cfg.Store) (string, error) {
	if s.Disk.Off {
		return "", nil
	}
	if !s.Required {
		return s.Disk.Path, nil
	}
	return caddy.NewReplacer().ReplaceOrErr(s.Disk.Path, true, true)
}

// checkFolders finds two zones whose folders are one, by a placeholder or a link.
func (c *checker) checkFolders() {
	var seen []string
	for _, s := range c.app.Stores() {
		folder, err := folderOf(&s)
		if err != nil {
			c.reportApp("disk", s.Disk.Path, "%s", fmt.Sprintf("disk: %v here, and Caddy does not start without it; see that it is set where Caddy runs", err))
			continue
		}
		if folder == "" {
			continue
		}
		if real, err := filepath.EvalSymlinks(folder); err == nil {
			folder = real
		}
		if abs, err := filepath.Abs(folder); err == nil {
			folder = abs
		}
		if slices.Contains(seen, folder) {
			c.reportApp("disk", s.Disk.Path, "%s is the folder of another zone, too, so Caddy does not start; give each zone its own", folder)
		}
		seen = append(seen, folder)
	}
}

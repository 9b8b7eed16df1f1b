package check

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"

	cfg "github.com/larder-cache/larder/caddyfile"
)

// checkStore looks at the global option, once all handlers have been looked at. found says that
// there are any.
func (c *checker) checkStore(found bool) {
	if !found {
		c.reportZone(cfg.DefaultZone, "", "", "no site has larder, so nothing is cached; write larder in the block of a site")
		return
	}
	c.checkAdmin()
	if c.unread { // the zones are not those that are meant
		return
	}
	c.checkZones()
	stores := c.checkPaths()
	c.checkBudgets(stores)
	c.checkFolders(stores)
}

// checkZones finds zones that no handler names, and bodies that no tier has room for.
func (c *checker) checkZones() {
	for _, s := range c.app.Stores() {
		if s.Zone != cfg.DefaultZone && c.zones != nil && !c.zones[s.Zone] {
			c.reportZone(s.Zone, "", "", "no larder names the zone %s, so it stays empty; write zone %s in a directive, or leave it out here", s.Zone, s.Zone)
		}
		largest := s.Memory
		if !s.Disk.Off {
			largest = max(largest, s.Disk.Budget/2)
		}
		if s.MaxBody > largest {
			c.reportZone(s.Zone, "max_body", "", "a body of max_body, %s, has room in neither tier: memory is %s, and a body may take half of disk; "+
				"lower it, or raise a budget", bytesText(s.MaxBody), bytesText(s.Memory))
		}
	}
}

func bytesText(size cfg.Size) string { return humanize.IBytes(uint64(max(0, size))) }

// checkPaths returns the stores with the placeholders in their folders replaced, as they are when
// Caddy starts with the environment of this command. One whose folder is not known has no disk.
func (c *checker) checkPaths() []cfg.Store {
	stores := c.app.Stores()
	for i := range stores {
		s := &stores[i]
		if s.Disk.Off || !s.Required {
			continue
		}
		path, err := caddy.NewReplacer().ReplaceOrErr(s.Disk.Path, true, true)
		if err != nil {
			if c.namesFolder(s.Zone) { // or it lies below that of the default zone
				c.reportZone(s.Zone, "disk", s.Disk.Path, "disk: %v here, and Caddy does not start without it; see that it is set where Caddy runs", err)
			}
			s.Disk = &cfg.DiskConfig{Off: true}
			continue
		}
		disk := *s.Disk
		disk.Path, s.Disk = path, &disk
	}
	return stores
}

// namesFolder reports whether the configuration itself has the folder of a zone.
func (c *checker) namesFolder(zone string) bool {
	disk := c.app.Disk
	if z := c.app.Zones[zone]; z != nil {
		disk = z.Disk
	} else if zone != cfg.DefaultZone {
		disk = nil
	}
	return disk != nil && disk.Path != ""
}

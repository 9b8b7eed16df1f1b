package caddyfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// DefaultZone is the zone that the global option itself describes, and that handlers use which name
// none.
const DefaultZone = "default"

// ZoneConfig describes a further store: budgets, file, statistics and purges of its own, so that
// what one site stores cannot evict what another has. Sizes are bytes.
type ZoneConfig struct {
	// The budget of the memory tier, as that of the app. At least 64 KiB. Default: 64 MiB.
	Memory Size `json:"memory,omitempty"`

	// The disk tier. Default: on, in a folder named after the zone below that of the default zone,
	// with a budget of 512 MiB; off where that of the default zone is off.
	Disk *DiskConfig `json:"disk,omitempty"`

	// Which entry makes room in a full tier: `lru`, `lfu`, `fifo` or `none`. Default: as in the
	// default zone.
	Eviction string `json:"eviction,omitempty"`

	// The largest body that is stored, in bytes. Default: as in the default zone.
	MaxBody Size `json:"max_body,omitempty"`

	// By what bodies are compressed on disk and in the shared tier. Default: as in the default
	// zone.
	Compress string `json:"compress,omitempty"`
}

// Store is the store of a zone, with all defaults.
type Store struct {
	// Zone is its name, DefaultZone for that of the global option itself.
	Zone string
	ZoneConfig
	// Required says that the configuration names the folder of the disk tier, or the one above it.
	// Then one that cannot be used is an error at start-up; of a default one it is a warning.
	Required bool
}

// SmallDisk reports whether the disk tier has so small a budget that its file may take up to twice
// as much.
func (s *Store) SmallDisk() bool { return !s.Disk.Off && s.Disk.Budget < smallDisk }

// Stores returns the stores that the configuration asks for, the default zone's first, the others
// by their names.
func (c AppConfig) Stores() []Store {
	chosen := c.diskChosen()
	full := c.WithDefaults()
	stores := make([]Store, 0, 1+len(full.Zones))
	stores = append(stores, Store{DefaultZone, ZoneConfig{full.Memory, full.Disk, full.Eviction, full.MaxBody, full.Compress}, chosen})
	for _, name := range slices.Sorted(maps.Keys(full.Zones)) {
		z := full.Zones[name]
		named := c.Zones[name] != nil && c.Zones[name].Disk != nil && c.Zones[name].Disk.Path != ""
		stores = append(stores, Store{name, *z, !z.Disk.Off && (chosen || named)})
	}
	return stores
}

// zonesWithDefaults completes the zones of a configuration that is complete otherwise.
func zonesWithDefaults(c *AppConfig) map[string]*ZoneConfig {
	if len(c.Zones) == 0 {
		return nil
	}
	zones := make(map[string]*ZoneConfig, len(c.Zones))
	for name, z := range c.Zones {
		z = copyOrNew(z)
		z.Memory = orDefault(z.Memory, 64<<20)
		z.Disk = copyOrNew(z.Disk)
		if z.Disk.Path == "" && c.Disk.Off {
			z.Disk.Off = true
		}
		if !z.Disk.Off {
			z.Disk.Path = orDefault(z.Disk.Path, filepath.Join(c.Disk.Path, name))
			z.Disk.Budget = orDefault(z.Disk.Budget, 512<<20)
		}
		z.Eviction = orDefault(z.Eviction, c.Eviction)
		z.MaxBody = orDefault(z.MaxBody, c.MaxBody)
		z.Compress = orDefault(z.Compress, c.Compress)
		zones[name] = z
	}
	return zones
}

// checkZones finds what no further line can put right.
func (c *AppConfig) checkZones() error {
	folders := map[string]string{}
	if c.diskChosen() {
		folders[filepath.Clean(c.Disk.Path)] = DefaultZone
	}
	for _, name := range slices.Sorted(maps.Keys(c.Zones)) {
		if err := checkZoneName(name); err != nil {
			return fmt.Errorf("zone: %w", err)
		}
		if name == DefaultZone {
			return errors.New("zone: default is the zone that the global option itself describes; write its lines there, or take another name")
		}
		z := copyOrNew(c.Zones[name])
		if err := z.check(); err != nil {
			return fmt.Errorf("zone %s: %w", name, err)
		}
		if z.Disk == nil || z.Disk.Path == "" {
			continue
		}
		if err := takeFolder(folders, z.Disk.Path, name); err != nil {
			return err
		}
	}
	return nil
}

// checkWhole finds what is wrong only if nothing more follows.
func (c *AppConfig) checkWhole() error {
	folders := map[string]string{}
	for _, s := range c.Stores() {
		if z := c.Zones[s.Zone]; s.Disk.Off && z != nil && z.Disk != nil && z.Disk.Budget != 0 {
			return fmt.Errorf("zone %s: disk: it has a budget and no folder, and the default zone has no disk; name a folder", s.Zone)
		}
		if s.Disk.Off {
			continue
		}
		if err := takeFolder(folders, s.Disk.Path, s.Zone); err != nil {
			return err
		}
	}
	return nil
}

// takeFolder notes the folder of a zone, which may be no other's.
func takeFolder(folders map[string]string, folder, zone string) error {
	folder = filepath.Clean(folder)
	if other, taken := folders[folder]; taken {
		return fmt.Errorf("zone %s: disk: %s is the folder of the zone %s as well; give each zone its own", zone, folder, other)
	}
	folders[folder] = zone
	return nil
}

func (z *ZoneConfig) check() error {
	return firstError(
		checkBudget("memory", z.Memory, minMemory),
		z.Disk.check(),
		checkChoice("eviction", z.Eviction, evictionLRU, evictionLFU, evictionFIFO, evictionNone),
		checkBudget("max_body", z.MaxBody, 1),
		checkCompress(z.Compress),
	)
}

// maxZoneName is the length of the longest name of a zone, in bytes.
const maxZoneName = 32

func checkZoneName(name string) error {
	odd := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
	if name == "" || len(name) > maxZoneName || strings.ContainsFunc(name, odd) {
		return fmt.Errorf("%q is not a name; write 1 to %d of a-z, 0-9 and -", name, maxZoneName)
	}
	return nil
}

// zone parses `zone <name> [{ … }]` of the global option.
func (p *appParser) zone() error {
	args := p.d.RemainingArgs()
	if len(args) != 1 {
		return p.d.Errf("zone: %w; write zone <name> { … }", errUsage)
	}
	name := args[0]
	if _, again := p.config.Zones[name]; again {
		return p.d.Errf("zone: %s stands twice; write it once", name)
	}
	if p.config.Zones == nil {
		p.config.Zones = make(map[string]*ZoneConfig)
	}
	z := &ZoneConfig{}
	p.config.Zones[name] = z
	if err := p.config.checkZones(); err != nil {
		return p.d.WrapErr(err)
	}
	return parseBlock(p.d, "zone "+name, zoneWords(z), p.config.checkZones)
}

func zoneWords(z *ZoneConfig) []word {
	return []word{
		{name: "memory", usage: "memory <size>", args: sizeInto(&z.Memory)},
		{name: "disk", usage: "disk <folder> [<size>], or disk off", args: diskInto(&z.Disk)},
		{name: "eviction", usage: "eviction lru|lfu|fifo|none", args: textInto(&z.Eviction)},
		{name: "max_body", usage: "max_body <size>", args: sizeInto(&z.MaxBody)},
		{name: "compress", usage: "compress off|zstd", args: textInto(&z.Compress)},
	}
}

// zone takes the name of a zone in the directive. The global options have been parsed by then.
func (p *handlerParser) zone(args []string) error {
	if err := textInto(&p.config.Zone)(args); err != nil {
		return err
	}
	known := []string{DefaultZone}
	if app, ok := p.h.Option(name).(httpcaddyfile.App); ok {
		var config AppConfig
		if err := json.Unmarshal(app.Value, &config); err != nil {
			return err
		}
		known = append(known, slices.Sorted(maps.Keys(config.Zones))...)
	}
	return CheckZone(p.config.Zone, known)
}

// CheckZone returns an error unless a zone is among those that there are.
func CheckZone(zone string, known []string) error {
	if slices.Contains(known, zone) {
		return nil
	}
	write := fmt.Sprintf("one of %s, which the global option larder has, or zone %s { … } there", strings.Join(known, " "), zone)
	return errNoChoice(zone, fmt.Sprintf("there is no zone %q", zone), write, known...)
}

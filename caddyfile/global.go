package caddyfile

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// parseApp parses the global option. existing is what an earlier block of the same name gave: the
// store is one, so a second block is an error. Syntax:
//
//	larder {
//	    memory   <size>
//	    disk     <folder> [<size>]
//	    disk     off
//	    eviction lru|lfu|fifo|none
//	    max_body <size>
//	}
func parseApp(d *caddyfile.Dispenser, existing any) (AppConfig, error) {
	d.Next() // the option's own name
	if existing != nil {
		return AppConfig{}, d.Err("a second global larder block; the store is one, so write all of it in one block")
	}
	if args := d.RemainingArgs(); len(args) > 0 {
		return AppConfig{}, d.Errf("the global option larder takes a block, not %q", args[0])
	}
	var c AppConfig
	if err := parseBlock(d, "the global option larder", appWords(&c), c.Check); err != nil {
		return AppConfig{}, err
	}
	return c, nil
}

func appWords(c *AppConfig) []word {
	return []word{
		{name: "memory", usage: "memory <size>", args: sizeInto(&c.Memory)},
		{name: "disk", usage: "disk <folder> [<size>], or disk off", args: diskInto(&c.Disk)},
		{name: "eviction", usage: "eviction lru|lfu|fifo|none", args: textInto(&c.Eviction)},
		{name: "max_body", usage: "max_body <size>", args: sizeInto(&c.MaxBody)},
	}
}

func diskInto(field **DiskConfig) func([]string) error {
	return func(args []string) error {
		disk := &DiskConfig{}
		*field = disk
		switch {
		case len(args) == 1 && args[0] == "off":
			disk.Off = true
			return nil
		case len(args) == 1:
			if _, err := parseSize(args[0]); err == nil || args[0] == "on" {
				return fmt.Errorf("%q is no folder; write disk <folder> [<size>], or disk off (a folder of that name is ./%s)", args[0], args[0])
			}
			return textInto(&disk.Path)(args)
		case len(args) == 2 && args[0] != "off":
			disk.Path = args[0]
			return sizeInto(&disk.Budget)(args[1:])
		default:
			return errUsage
		}
	}
}

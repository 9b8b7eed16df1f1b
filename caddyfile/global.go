package caddyfile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// parseApp parses the global option. existing is what an earlier block of the same name gave: a
// second block is an error. Syntax:
//
//	larder {
//	    memory   <size>
//	    disk     <folder> [<size>]
//	    disk     off
//	    eviction lru|lfu|fifo|none
//	    max_body <size>
//	    compress off|zstd
//	    zone     <name> {
//	        memory   <size>
//	        disk     <folder> [<size>]
//	        disk     off
//	        eviction lru|lfu|fifo|none
//	        max_body <size>
//	        compress off|zstd
//	    }
//	    debug    <secret>
//	    shared   <url>... {
//	        sentinel <master>
//	        name     <name>
//	        fence    <duration>
//	        lost     validate
//	        lost     serve <duration>
//	        replicas <n>
//	        timeout  <duration>
//	        max_body <size>
//	        ttl      <duration>
//	        history  <n>
//	        store    on|off
//	        secret   <text>
//	        tls {
//	            ca   <file>
//	            cert <file>
//	            key  <file>
//	        }
//	    }
//	}
func parseApp(d *caddyfile.Dispenser, existing any) (AppConfig, error) {
	d.Next() // the option's own name
	if existing != nil {
		return AppConfig{}, d.Err("a second global larder block; the store is one, so write all of it in one block")
	}
	if args := d.RemainingArgs(); len(args) > 0 {
		return AppConfig{}, d.Errf("the global option larder takes a block, not %q", args[0])
	}
	p := appParser{d: d}
	if err := parseBlock(d, optionWords, p.words(), p.config.checkLines); err != nil {
		return AppConfig{}, err
	}
	if err := p.config.checkWhole(); err != nil {
		return AppConfig{}, d.WrapErr(err)
	}
	return p.config, nil
}

// appParser fills config while the lines of the global option pass.
type appParser struct {
	d      *caddyfile.Dispenser
	config AppConfig
}

func (p *appParser) words() []word {
	c := &p.config
	return []word{
		{name: "memory", usage: "memory <size>", args: sizeInto(&c.Memory)},
		{name: "disk", usage: "disk <folder> [<size>], or disk off", args: diskInto(&c.Disk)},
		{name: "eviction", usage: "eviction lru|lfu|fifo|none", args: textInto(&c.Eviction)},
		{name: "max_body", usage: "max_body <size>", args: sizeInto(&c.MaxBody)},
		{name: "compress", usage: "compress off|zstd", args: textInto(&c.Compress)},
		{name: "zone", block: p.zone, repeats: true},
		{name: "debug", usage: "debug <secret>", args: textInto(&c.Debug)},
		{name: "shared", block: p.shared},
	}
}

// shared parses what the fleet shares by. The addresses say that it is Redis or Valkey; another
// engine is configured in JSON.
func (p *appParser) shared() error {
	c := &RedisConfig{URLs: p.d.RemainingArgs()}
	if err := c.checkURLs(); err != nil {
		return p.d.WrapErr(err)
	}
	if len(c.URLs) == 0 {
		return p.d.Errf("shared: %w; write shared redis://localhost:6379", errUsage)
	}
	if err := parseBlock(p.d, "shared", sharedWords(p.d, c), c.checkLines); err != nil {
		return err
	}
	if err := c.checkWhole(); err != nil {
		return p.d.WrapErr(err)
	}
	p.config.Shared = caddyconfig.JSONModuleObject(c, "engine", RedisEngine, nil)
	return nil
}

func sharedWords(d *caddyfile.Dispenser, c *RedisConfig) []word {
	return []word{
		{name: "sentinel", usage: "sentinel <master>", args: textInto(&c.Sentinel)},
		{name: "name", usage: "name <name>", args: textInto(&c.Name)},
		{name: "fence", usage: "fence <duration>", args: durationInto(&c.Fence)},
		{name: "lost", usage: "lost validate, or lost serve <duration>", next: []string{"validate", "serve"}, args: lostInto(&c.Lost)},
		{name: "replicas", usage: "replicas <n>", args: numberInto(&c.Replicas)},
		{name: "timeout", usage: "timeout <duration>", args: durationInto(&c.Timeout)},
		{name: "max_body", usage: "max_body <size>", args: sizeInto(&c.MaxBody)},
		{name: "ttl", usage: "ttl <duration>", args: durationInto(&c.TTL)},
		{name: "history", usage: "history <n>", args: countInto(&c.History)},
		{name: "store", usage: "store on|off", args: choiceInto(&c.Store)},
		{name: "secret", usage: "secret <text>", args: textInto(&c.Secret)},
		{name: "tls", block: func() error {
			c.TLS = &TLSConfig{}
			words := tlsWords(c.TLS)
			return parseFullBlock(d, "tls", words, c.checkLines, names(words))
		}},
	}
}

func tlsWords(t *TLSConfig) []word {
	return []word{
		{name: "ca", usage: "ca <file>", args: textInto(&t.CA)},
		{name: "cert", usage: "cert <file>", args: textInto(&t.Cert)},
		{name: "key", usage: "key <file>", args: textInto(&t.Key)},
	}
}

func lostInto(field **LostConfig) func([]string) error {
	return func(args []string) error {
		lost := &LostConfig{}
		*field = lost
		switch {
		case len(args) == 1 && args[0] == "validate":
			lost.Validate = true
			return nil
		case len(args) == 2 && args[0] == "serve":
			return durationInto(&lost.Serve)(args[1:])
		default:
			return errUsage
		}
	}
}

// numberInto is countInto for a number that may be 0.
func numberInto(field *int) func([]string) error {
	return func(args []string) error {
		if len(args) != 1 {
			return errUsage
		}
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 0 {
			return errors.New(args[0] + " is not a whole number from 0 up")
		}
		*field = n
		return nil
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
			if _, err := readSize(withoutCommas(args[0])); err == nil || isNoFolder(args[0]) {
				return fmt.Errorf("%q is no folder; write disk <folder> [<size>], or disk off (a folder of that name is ./%s)", args[0], args[0])
			}
			return textInto(&disk.Path)(args)
		case len(args) == 2 && args[0] != "off":
			disk.Path = args[0]
			if err := checkFolderFirst(args[0], args[1]); err != nil {
				return err
			}
			return sizeInto(&disk.Budget)(args[1:])
		default:
			return errUsage
		}
	}
}

// isNoFolder reports whether a text is meant to turn the disk tier on or off, in words that are
// those of others.
func isNoFolder(text string) bool {
	return slices.Contains([]string{"on", "of", "off", "no", "none", "false", "true", "0"}, strings.ToLower(text))
}

// checkFolderFirst refuses a folder and a budget the wrong way round. A folder may be called 1GiB,
// but not where what follows is no budget.
func checkFolderFirst(folder, budget string) error {
	size := withoutCommas(folder)
	_, noSize := readSize(size)
	if _, noBudget := readSize(withoutCommas(budget)); noSize == nil && noBudget != nil {
		return &orderError{"the folder comes first", []string{budget, size}}
	}
	return nil
}

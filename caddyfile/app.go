package caddyfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/dustin/go-humanize"
)

// The words of eviction: which entry makes room when a tier is full.
const (
	evictionLRU  = "lru"  // the least recently used
	evictionLFU  = "lfu"  // the least frequently used
	evictionFIFO = "fifo" // the one stored first
	evictionNone = "none" // none does, new entries are refused
)

// The words of compress: by what bodies are compressed on disk and in the shared tier.
const (
	compressOff  = "off"
	compressZstd = "zstd"
)

// Smallest budgets with which a tier can do its work: below them an entry of ordinary size would
// not fit beside the tier's own structures.
const (
	minMemory = 64 << 10
	minDisk   = 1 << 20
)

// smallDisk is the budget from which on the file stays within one and a half times as much. Pieces
// of bodies are 256 KiB that lie side by side. For one of them a smaller file has to grow although
// it has free pages.
const smallDisk = 16 << 20

// AppConfig describes the stores: that of the default zone, which all handlers use that name no
// other, and those of further zones. They outlive the configuration. Sizes are bytes.
type AppConfig struct {
	// The budget of the memory tier, in bytes: bodies, headers, keys, index and bodies in flight.
	// What does not fit is passed on and not stored. At least 64 KiB. Default: 256 MiB.
	Memory Size `json:"memory,omitempty"`

	// The disk tier, one bbolt file named larder.db. Default: on, in the folder larder of Caddy's
	// data directory, with a budget of 1 GiB.
	Disk *DiskConfig `json:"disk,omitempty"`

	// Which entry makes room in a full tier: `lru`, `lfu`, `fifo`, or `none`, which refuses new
	// entries instead. Default: `lru`.
	Eviction string `json:"eviction,omitempty"`

	// The largest body that is stored, in bytes; a larger one is passed on. A route can lower it.
	// Default: 64 MiB.
	MaxBody Size `json:"max_body,omitempty"`

	// By what bodies are compressed on disk and in the shared tier, those of compressible types,
	// without Content-Encoding, from 1 KiB on: `off` or `zstd`. Clients get them as they were. What
	// is stored already stays as it is, and is read whatever this says. Default: `off`.
	Compress string `json:"compress,omitempty"`

	// Further zones by their names, each a store of its own. A name is 1 to 32 of a-z, 0-9 and -.
	// Default: none.
	Zones map[string]*ZoneConfig `json:"zones,omitempty"`

	// A secret. A request that carries it in the field Larder-Debug gets the full Cache-Status and
	// a field Larder-Explain, which says how its answer came about. Placeholders such as
	// {env.SECRET} are allowed. Default: there is none. The field is taken out of every request in
	// any case.
	Debug string `json:"debug,omitempty"`

	// What the caches of several machines share, and by which engine. Default: nothing.
	Shared json.RawMessage `json:"shared,omitempty" caddy:"namespace=larder.shared inline_key=engine"`
}

// DiskConfig describes the disk tier.
type DiskConfig struct {
	// The folder of the file. One that the configuration names must be usable, otherwise Caddy does
	// not start; the default one may fail, and the cache then runs from memory alone. Placeholders
	// such as {env.STATE_DIRECTORY} are allowed. Default: the folder larder of Caddy's data
	// directory.
	Path string `json:"path,omitempty"`

	// The budget of the tier in bytes, counted in allocated pages; the file stays within one and a
	// half times as much, of a budget below 16 MiB within twice as much where bodies are large. At
	// least 1 MiB. Default: 1 GiB.
	Budget Size `json:"budget,omitempty"`

	// Whether the cache runs from memory alone. Default: false.
	Off bool `json:"off,omitempty"`
}

// UnmarshalJSON reads an object. To a text, as a Caddyfile has it, it answers with what to write,
// in an error to which encoding/json adds the name of the field.
func (d *DiskConfig) UnmarshalJSON(data []byte) error {
	if text, ok := textInJSON(data); ok {
		write := fmt.Sprintf(`{"path":%q}`, text)
		if isNoFolder(text) {
			write = `{"off":true}`
		}
		return &json.UnmarshalTypeError{Value: fmt.Sprintf("the text %q (write %s)", text, write), Type: reflect.TypeFor[DiskConfig]()}
	}
	type plain DiskConfig
	return unmarshalStrictly(data, (*plain)(d))
}

// diskChosen reports whether the configuration itself names the folder of the default zone.
// WithDefaults hides that.
func (c *AppConfig) diskChosen() bool {
	return c.Disk != nil && !c.Disk.Off && c.Disk.Path != ""
}

// Check returns an error that names the field if the configuration says something that cannot be
// meant.
func (c *AppConfig) Check() error { return firstError(c.checkLines(), c.checkWhole()) }

// checkLines finds what no further line can put right.
func (c *AppConfig) checkLines() error {
	return firstError(
		checkBudget("memory", c.Memory, minMemory),
		c.Disk.check(),
		checkChoice("eviction", c.Eviction, evictionLRU, evictionLFU, evictionFIFO, evictionNone),
		checkBudget("max_body", c.MaxBody, 1),
		checkCompress(c.Compress),
		CheckDebug(c.Debug),
		c.checkZones(),
	)
}

func checkCompress(word string) error {
	return checkChoice("compress", word, compressOff, compressZstd)
}

// CheckDebug returns an error if no header field can carry the secret of debug as it is.
func CheckDebug(secret string) error {
	outside := func(r rune) bool { return r < ' ' || r > '~' }
	if strings.IndexFunc(secret, outside) >= 0 || strings.TrimSpace(secret) != secret {
		return errors.New("debug: no header field carries the secret as it is; write visible ASCII, without white space at its ends")
	}
	return nil
}

func (d *DiskConfig) check() error {
	if d == nil {
		return nil
	}
	if d.Off && (d.Path != "" || d.Budget != 0) {
		return errors.New("disk: it is off and has a folder or a budget; keep one or the other")
	}
	return checkBudget("disk budget", d.Budget, minDisk)
}

// checkBudget accepts zero, which stands for the default.
func checkBudget(field string, size, smallest Size) error {
	switch {
	case size == 0 || size >= smallest:
		return nil
	case size < 0:
		return fmt.Errorf("%s: %d bytes is negative; write a size such as 64MiB", field, size)
	default:
		return fmt.Errorf("%s: %s is too small; write at least %s",
			field, humanize.IBytes(uint64(size)), humanize.IBytes(uint64(smallest)))
	}
}

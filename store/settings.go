package store

import (
	"fmt"
	"log/slog"
	"os"
	"time"
)

// FileName is the name of the database in the folder of the disk tier.
const FileName = "larder.db"

// BodiesName is the name of the file of large bodies beside it. It is there once there is one.
const BodiesName = "larder.bodies"

// Config is what a store is made with and keeps for life.
type Config struct {
	// Path is the folder of the disk tier; it is made (0700) when missing. Empty means no disk
	// tier.
	Path string
	// Required says that the user wrote the path: Open then fails when the disk tier cannot be
	// opened. Otherwise Open logs a warning, the store runs from memory, and the disk is tried
	// again every 30 s.
	Required bool
	// Logger receives what an operator should know; nil discards it.
	Logger *slog.Logger
	// Now is the clock of everything stored; nil means time.Now.
	Now func() time.Time
	// Watcher is told what purges by tags drop; may be nil.
	Watcher PurgeWatcher
	// OpenFile opens the database file; nil means os.OpenFile. Tests inject faults through it.
	OpenFile func(name string, flag int, perm os.FileMode) (*os.File, error)
}

// Settings are what may change while the store lives.
type Settings struct {
	// Memory is the budget of the memory tier in bytes: bodies, headers, keys, indexes and bodies
	// in flight. Disk is that of the disk tier: allocated pages of its file.
	Memory, Disk int64
	// Eviction is the policy of both tiers.
	Eviction Eviction
	// MaxBody is the largest body stored, in bytes; 0 means no limit.
	MaxBody int64
	// Compress is what bodies are compressed by on disk that are stored from now on. Those that are
	// there stay as they are, and are read whatever it is.
	Compress Compression
}

// largestOnDisk is how much of the disk budget one entry may take.
func (s *Settings) largestOnDisk() int64 { return s.Disk / 2 }

// Eviction is a policy: which entry goes when a tier is full.
type Eviction uint8

// The policies.
const (
	// LRU evicts the least recently used entry; in memory those that were used once before those
	// that were used again.
	LRU Eviction = iota
	// LFU evicts the least frequently used entry, old uses weighing less.
	LFU
	// FIFO evicts the entry stored first.
	FIFO
	// None evicts nothing and refuses new entries when full.
	None
)

// String returns the word of the configuration.
func (e Eviction) String() string {
	switch e {
	case LRU:
		return "lru"
	case LFU:
		return "lfu"
	case FIFO:
		return "fifo"
	case None:
		return "none"
	default:
		return fmt.Sprintf("eviction(%d)", uint8(e))
	}
}

// ParseEviction reads the word of the configuration: lru, lfu, fifo or none. Any other is an error.
func ParseEviction(word string) (Eviction, error) {
	for _, e := range []Eviction{LRU, LFU, FIFO, None} {
		if word == e.String() {
			return e, nil
		}
	}
	return LRU, fmt.Errorf("unknown eviction policy %q: want lru, lfu, fifo or none", word)
}

// Tier is one of the two places an entry can be in.
type Tier uint8

// The tiers.
const (
	// MemoryTier is the process's memory, the write-behind queue included.
	MemoryTier Tier = iota
	// DiskTier is the database file.
	DiskTier
	tierCount
)

// String returns the word used in statistics and metrics.
func (t Tier) String() string {
	switch t {
	case MemoryTier:
		return "memory"
	case DiskTier:
		return "disk"
	case tierCount:
	}
	return fmt.Sprintf("tier(%d)", uint8(t))
}

// PutResult tells what became of a Put.
type PutResult uint8

// The ways a Put ends.
const (
	// Stored means that the entry is found from now on.
	Stored PutResult = iota
	// RefusedFull means that no tier has room for it, or that the policy is None and all are full.
	RefusedFull
	// RefusedTooLarge means that the body is larger than Settings.MaxBody.
	RefusedTooLarge
	// RefusedPurged means that a hard purge has hit it since its fetch began.
	RefusedPurged
	// RefusedOlder means that the answer to a later request is stored, or that what a renewal
	// renews is not stored any more, or that the disk has not told in time.
	RefusedOlder
	// RefusedExpired means that its KeepUntil has passed already.
	RefusedExpired
	// RefusedClosed means that the store is not open.
	RefusedClosed
	// RefusedDamaged means that the body is on disk already and was found damaged there.
	RefusedDamaged
)

// String returns the result as one word.
func (r PutResult) String() string {
	switch r {
	case Stored:
		return "stored"
	case RefusedFull:
		return "full"
	case RefusedTooLarge:
		return "too-large"
	case RefusedPurged:
		return "purged"
	case RefusedOlder:
		return "older"
	case RefusedExpired:
		return "expired"
	case RefusedClosed:
		return "closed"
	case RefusedDamaged:
		return "damaged"
	default:
		return fmt.Sprintf("put result(%d)", uint8(r))
	}
}

// EvictionReason tells why an entry left a tier.
type EvictionReason uint8

// The reasons.
const (
	// Capacity means that the tier's budget was needed for others.
	Capacity EvictionReason = iota
	// Expired means that KeepUntil had passed.
	Expired
	// Variants means that its Key had more variants than allowed.
	Variants
	// Replaced means that a newer response of the same variant took its place.
	Replaced
	// PurgedHard means that a purge removed it.
	PurgedHard
	// Removed means that the caller asked for it.
	Removed
	// Damaged means that what was read back did not agree with its checksum.
	Damaged
	reasonCount
)

// String returns the word used in statistics and metrics.
func (r EvictionReason) String() string {
	switch r {
	case Capacity:
		return "capacity"
	case Expired:
		return "expired"
	case Variants:
		return "variants"
	case Replaced:
		return "replaced"
	case PurgedHard:
		return "purged"
	case Removed:
		return "removed"
	case Damaged:
		return "damaged"
	case reasonCount:
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

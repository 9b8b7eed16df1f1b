package fleet

import "time"

// Stats are what the statistics tell of a fleet.
type Stats struct {
	State   string     `json:"state"` // a Condition's word
	Epoch   string     `json:"epoch"` // with the term
	Applied Generation `json:"applied"`
	Tail    Generation `json:"tail"` // of the log, as far as known
	PassMS  int64      `json:"pass_ms"`
	Nodes   int        `json:"nodes"` // listed when this node asked last
	Floor   Generation `json:"floor"` // what is older in the shared tier is not used
	Masks   int        `json:"masks"` // selectors by which the shared tier is judged
	// MaskBytes is about what those take of memory.
	MaskBytes int64 `json:"mask_bytes"`
	// InvalidationsSkipped counts selectors of Invalidate that no other node has heard of.
	InvalidationsSkipped uint64 `json:"invalidations_skipped"`
	// Lag is for how long this node has not been known to have applied all of the log.
	Lag       time.Duration `json:"-"`
	Condition Condition     `json:"-"`
}

package fleet

import "time"

// Stats are what the statistics tell of a fleet.
type Stats struct {
	State   string     `json:"state"` // a Condition's word
	Epoch   string     `json:"epoch"` // with the term
	Applied Generation `json:"applied"`
	Tail    Generation `json:"tail"`    // of the log, as far as known
	PassMS  int64      `json:"pass_ms"` // milliseconds that are left of its pass, rounded up: 0 when it is over
	// LagMS is for how many milliseconds this node has not been known to have applied all of the
	// log.
	LagMS int64      `json:"lag_ms"`
	Nodes int        `json:"nodes"` // how many were listed when this node asked last
	Floor Generation `json:"floor"` // what is older in the shared tier is not used
	Masks int        `json:"masks"` // how many selectors the shared tier is judged by
	// LogBytes is about what the records of the log take, as the server said last.
	LogBytes int64 `json:"log_bytes"`
	// MaskBytes is about what those take of memory.
	MaskBytes int64 `json:"mask_bytes"`
	// InvalidationsWaiting is how many selectors of Invalidate are not in the log yet.
	InvalidationsWaiting int `json:"invalidations_waiting"`
	// InvalidationsWidened counts those of which too many waited, so that all of their host, or
	// everything, was invalidated in their place.
	InvalidationsWidened uint64        `json:"invalidations_widened"`
	Lag                  time.Duration `json:"-"` // as LagMS
	Condition            Condition     `json:"-"`
}

// Stats returns the statistics of now.
func (f *Fleet) Stats() Stats {
	masks, bytes := f.view.Load().masks.Size()
	waiting, widened := f.invalidations.size()
	f.watch.mu.Lock()
	nodes, err := f.watch.nodes, f.watch.err
	f.watch.mu.Unlock()

	f.acting.Lock()
	defer f.acting.Unlock()
	now := f.clock()
	condition := f.node.condition(now, err)
	s := Stats{
		State: condition.String(), Condition: condition, Epoch: f.node.term(),
		Applied: f.node.applied, Tail: f.node.tail, Floor: f.node.floor,
		PassMS:   (max(0, f.node.until-now) + time.Millisecond - 1).Milliseconds(),
		LogBytes: f.node.bytes,
		Nodes:    nodes, Masks: masks, MaskBytes: bytes,
		InvalidationsWaiting: waiting, InvalidationsWidened: widened,
	}
	if f.node.caught > 0 && (f.node.applied < f.node.tail || condition != Held) {
		s.Lag = now - f.node.caught
		s.LagMS = s.Lag.Milliseconds()
	}
	return s
}

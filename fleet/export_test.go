package fleet

import "time"

// SetClock has a node go by another clock, before Start.
func (f *Fleet) SetClock(clock func() time.Duration) { f.clock = clock }

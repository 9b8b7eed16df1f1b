package fleet

import (
	"sync"
	"time"
)

// SetClock has a node go by another clock, before Start.
func (f *Fleet) SetClock(clock func() time.Duration) { f.clock = clock }

// SetMaskBytes has the masks of a node take no more, before Start.
func (f *Fleet) SetMaskBytes(n int64) { f.node.maskBytes = n }

// Encode returns the record of a purge.
func (f *Fleet) Encode(p Purge) []byte {
	r := logRecord{Purge: p, who: f.id}
	return r.encode(f.options.Secret)
}

// WhenHeld calls held when the node gets its first pass. It is called before Start.
func (f *Fleet) WhenHeld(held func()) {
	clock, once := f.clock, sync.Once{}
	f.clock = func() time.Duration {
		if f.pass.Load() > 0 {
			once.Do(held)
		}
		return clock()
	}
}

const ReadLimit = readLimit

package origin

import "time"

// Load is what an origin has taken on at a moment, and how it stands.
type Load struct {
	Standing Why // as [Budget.Standing] has it
	Taken    int // how many places are taken
	Limit    int // how many places there are; 0: any number
	Waiting  int // how many requests are in the queue
}

// Load returns what the origin has taken on at now.
func (b *Budget) Load(now time.Time) Load {
	standing := b.Standing(now, 0)
	b.mu.Lock()
	defer b.mu.Unlock()
	return Load{Standing: standing, Taken: b.taken, Limit: b.limits.MaxConcurrent, Waiting: b.queue.Len()}
}

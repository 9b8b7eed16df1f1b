package origin

import "time"

// Outlook returns what [Budget.Standing] does, and for how long that lasts at least, as far as that
// is known: what is left of a pause, or the time until a failing origin may be asked again for that
// page by a request of that Kind.
func (b *Budget) Outlook(now time.Time, page, kind uint64) (why Why, left time.Duration) {
	switch why = b.Standing(now, page); why {
	case Paused:
		left = time.Duration(b.pausedUntil.Load() - b.at(now))
	case Failing:
		left = time.Duration(b.due(page, kind) - b.at(now))
	case Admitted, Busy, QueueFull, QueueWait, Refresh, GaveUp, WhyCount:
	}
	return why, max(left, 0)
}

package fleet

import "time"

var started = time.Now()

// monotonic is the time since the process was started. On most systems it stands still while the
// machine sleeps.
func monotonic() time.Duration { return time.Since(started) }

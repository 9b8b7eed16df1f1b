//go:build !linux

package fleet

import "time"

// now is the time since the process was started.
func now() time.Duration { return monotonic() }

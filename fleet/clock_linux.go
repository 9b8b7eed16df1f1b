package fleet

import (
	"time"

	"golang.org/x/sys/unix"
)

// now is the time since the machine was started. It goes on while the machine sleeps: a pass must
// not outlive its fence because a laptop was closed, or a virtual machine was held.
func now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return monotonic()
	}
	return time.Duration(t.Nano())
}

package fleet

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// recheck is for how long the monotonic clock is trusted. No machine falls asleep and wakes up
	// in less: that clock runs while processes are stopped and devices are put to sleep, and while
	// both come back.
	recheck = time.Millisecond
	// doubt is how far apart two clocks may have been read that are compared.
	doubt = 100 * time.Microsecond
)

// sleep is how the clock that goes on while the machine sleeps stands to the monotonic one. A read
// of it is a call of the kernel, which takes as long as a tenth of what else there is to say of a
// hit, so it is read once a millisecond.
var sleep struct {
	ahead   atomic.Int64
	checked atomic.Int64 // by the monotonic clock; 0: never
	writing sync.Mutex   // so that what was read before a sleep does not go with what was read after
}

// now is the time since the machine was started. It goes on while the machine sleeps: a pass must
// not outlive its fence because a laptop was closed, or a virtual machine was held.
func now() time.Duration {
	m := monotonic()
	if checked := sleep.checked.Load(); checked != 0 && m-time.Duration(checked) < recheck {
		return m + time.Duration(sleep.ahead.Load())
	}
	if sleep.writing.TryLock() {
		defer sleep.writing.Unlock()
		m = monotonic()
		boot := bootTime()
		if monotonic()-m < doubt {
			sleep.ahead.Store(int64(boot - m)) // before checked: who reads that has at least this
			sleep.checked.Store(int64(m))
		}
		return boot
	}
	return bootTime()
}

// bootTime fails on no Linux that Go runs on.
func bootTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return monotonic()
	}
	return time.Duration(t.Nano())
}

//go:build unix

package worktest

import (
	"syscall"
	"time"
)

// cpuTime is the processor time that the process has had: what other processes take from it does
// not count.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

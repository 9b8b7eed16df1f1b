//go:build !unix

package worktest

import "time"

var begun = time.Now()

// cpuTime is the time since the process began, where nothing better is to be had.
func cpuTime() time.Duration { return time.Since(begun) }

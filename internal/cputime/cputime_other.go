//go:build !unix

package cputime

import "time"

var begun = time.Now()

// Used returns the time since the process began, where nothing better is to be had.
func Used() time.Duration { return time.Since(begun) }

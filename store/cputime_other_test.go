//go:build !unix

package store

import "time"

// processTime is not known here; benchmarks report 0.
func processTime() time.Duration { return 0 }

//go:build !unix

package larder

import "time"

// processTime is not known here; benchmarks report 0.
func processTime() time.Duration { return 0 }

//go:build !race

package larder

const raceDetector = false

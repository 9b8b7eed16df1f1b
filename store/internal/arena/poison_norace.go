//go:build !race

package arena

const poisoning = false

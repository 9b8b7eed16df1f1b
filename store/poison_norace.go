//go:build !race

package store

const poisoning = false

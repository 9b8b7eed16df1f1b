// Package fleet makes the caches of many machines one.
package fleet

//go:build race

package arena

// poisoning is on wherever the race detector is, so that every test run with it looks for uses
// after free too.
const poisoning = true

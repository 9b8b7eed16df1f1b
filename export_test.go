package larder

// PantriesInUse is how many there are. One outlives its configuration until its last request and fetch have ended, so that another test
// could find what the last one stored.
func PantriesInUse() (n int) {
	pantries.Range(func(_, _ any) bool { n++; return true })
	return n
}

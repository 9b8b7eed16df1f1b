package larder

import "testing"

// A client that reads a large file in slices keeps the first of its fetches, and no list of them.
func TestUnexposedFetchesAreNotKept(t *testing.T) {
	c := new(clientRequest)
	first := &subrequest{}
	first.clientVars = &first.firstVars
	c.fetched.Store(first)
	first.Unexposed(c)
	for range 3 {
		next := &subrequest{before: c.fetched.Load(), clientVars: first.clientVars}
		c.fetched.Store(next)
		next.Unexposed(c)
		if c.fetched.Load() != first || next.before != nil {
			t.Fatal("the client keeps more than the first of its fetches")
		}
	}
}

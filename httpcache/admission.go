package httpcache

import "context"

// Admission decides which requests reach the origin, and when. It serves an origin with a budget,
// or one that needs a rest. Every way to the origin passes it, once for each request of a client
// and once for each fetch.
type Admission interface {
	// Admit waits until a request of this class may go to the origin, or ctx ends. done is called
	// when the origin has answered it. The client gets an error in place of a response; an [Error]
	// has the status. For a fetch the error counts as a failure of the origin, so a stale response
	// may stand in.
	Admit(ctx context.Context, class Class) (done func(), err error)
}

// Class is why a request goes to the origin.
type Class uint8

// The classes.
const (
	// ClassMiss: a fetch, which clients wait for.
	ClassMiss Class = iota
	// ClassRefresh: a fetch in the background, while a stale response is served.
	ClassRefresh
	// ClassPass: a client's own request, whose response is not stored.
	ClassPass
)

// admit asks the Admission, if there is one.
func (c *Cache) admit(ctx context.Context, class Class) (done func(), err error) {
	if c.admission == nil {
		return func() {}, nil
	}
	return c.admission.Admit(ctx, class)
}

package httpcache

import "context"

// Admission decides which requests reach the origin, and when: for an origin with a budget, or one
// that is to have a rest. Every way to the origin comes by it, once for each request of a client and
// once for each fetch.
type Admission interface {
	// Admit waits until a request of this class may go to the origin, or ctx ends. done is called
	// when the origin has answered it. An error is what the client gets in place of a response, and
	// for a fetch it counts as a failure of the origin, so that a stale response may stand in; an
	// [Error] has the status.
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

// admit asks the Admission, where there is one.
func (c *Cache) admit(ctx context.Context, class Class) (done func(), err error) {
	if c.admission == nil {
		return func() {}, nil
	}
	return c.admission.Admit(ctx, class)
}

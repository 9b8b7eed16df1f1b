package larder

import (
	"fmt"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// Spill begins to write the body to disk while it arrives. The flight asks for it when the body outgrows what it may hold in memory.
func (x *fetch) Spill() (coalesce.Spill, error) {
	bodyWriter, err := x.cache.store.NewBodyWriter(x.writer.declared)
	if err != nil {
		return nil, fmt.Errorf("writing a body ahead: %w", err)
	}
	x.bodyWriter = bodyWriter
	return bodyWriter, nil
}

// wholeBody is the body for the store, if the flight has it whole: from the disk where it was spilled.
func (x *fetch) wholeBody() (body store.Body, whole bool) {
	chunks, whole := x.flight.HandOver()
	if whole && x.flight.Spilled() {
		body = x.bodyWriter.Body()
		return body, body != nil
	}
	return store.NewBody(chunks), whole
}

// Interface guards.
var (
	_ coalesce.Spiller = (*fetch)(nil)
	_ coalesce.Storer  = (*fetch)(nil)
	_ coalesce.Spill   = (*store.BodyWriter)(nil)
)

package fleettest

import (
	"bytes"
	"context"
	"time"
)

// place is where a record is kept, chunk where a part of a body is.
type (
	place struct{ key, variant string }
	chunk struct {
		id     string
		number int
	}
	expiring struct {
		data []byte
		end  time.Time
	}
)

// Find implements fleet.Tier.
func (e *Engine) Find(ctx context.Context, key, variant string) (record []byte, index map[string][]byte, err error) {
	err = e.read(ctx, "Find", func(s *Server) {
		record = live(s, s.data.records, place{key, variant})
		index = map[string][]byte{}
		for variant, row := range s.data.rows[key] {
			if live(s, s.data.records, place{key, variant}) != nil {
				index[variant] = bytes.Clone(row)
			}
		}
	})
	return record, index, err
}

// Record implements fleet.Tier.
func (e *Engine) Record(ctx context.Context, key, variant string) (record []byte, err error) {
	err = e.read(ctx, "Record", func(s *Server) { record = live(s, s.data.records, place{key, variant}) })
	return record, err
}

// PutRecord implements fleet.Tier.
func (e *Engine) PutRecord(ctx context.Context, key, variant string, record, row []byte, ttl time.Duration) error {
	return e.write(ctx, "PutRecord", func(s *Server) { s.putRecord(place{key, variant}, record, row, ttl) })
}

// ReplaceRecord implements fleet.Tier.
func (e *Engine) ReplaceRecord(
	ctx context.Context, key, variant string, seen, record, row []byte, ttl time.Duration,
) (ok bool, err error) {
	err = e.write(ctx, "ReplaceRecord", func(s *Server) {
		now := live(s, s.data.records, place{key, variant})
		if ok = now == nil || bytes.Equal(now, seen) || bytes.Equal(now, record); ok {
			s.putRecord(place{key, variant}, record, row, ttl)
		}
	})
	return ok, err
}

func (s *Server) putRecord(at place, record, row []byte, ttl time.Duration) {
	s.data.records[at] = s.expiring(record, ttl)
	if s.data.rows[at.key] == nil {
		s.data.rows[at.key] = map[string][]byte{}
	}
	s.data.rows[at.key][at.variant] = bytes.Clone(row)
}

// RemoveRecord implements fleet.Tier.
func (e *Engine) RemoveRecord(ctx context.Context, key, variant string, seen []byte) error {
	return e.write(ctx, "RemoveRecord", func(s *Server) {
		if now := live(s, s.data.records, place{key, variant}); now == nil || bytes.Equal(now, seen) {
			delete(s.data.records, place{key, variant})
			delete(s.data.rows[key], variant)
		}
	})
}

// Chunks implements fleet.Tier.
func (e *Engine) Chunks(ctx context.Context, id string, numbers []int) ([][]byte, error) {
	chunks := make([][]byte, len(numbers))
	err := e.read(ctx, "Chunks", func(s *Server) {
		for i, number := range numbers {
			chunks[i] = live(s, s.data.chunks, chunk{id, number})
		}
	})
	return chunks, err
}

// PutChunk implements fleet.Tier.
func (e *Engine) PutChunk(ctx context.Context, id string, number int, data []byte, ttl time.Duration) error {
	return e.write(ctx, "PutChunk", func(s *Server) { s.data.chunks[chunk{id, number}] = s.expiring(data, ttl) })
}

// HasChunks implements fleet.Tier.
func (e *Engine) HasChunks(ctx context.Context, id string, n int) (all bool, err error) {
	err = e.read(ctx, "HasChunks", func(s *Server) {
		all = true
		for number := range n {
			all = all && live(s, s.data.chunks, chunk{id, number}) != nil
		}
	})
	return all, err
}

// KeepChunks implements fleet.Tier.
func (e *Engine) KeepChunks(ctx context.Context, id string, n int, ttl time.Duration) (all bool, err error) {
	err = e.write(ctx, "KeepChunks", func(s *Server) {
		all = true
		for number := range n {
			data := live(s, s.data.chunks, chunk{id, number})
			all = all && data != nil
			if data != nil {
				s.data.chunks[chunk{id, number}] = s.expiring(data, ttl)
			}
		}
	})
	return all, err
}

// live returns a copy of what is kept, and forgets what has expired.
func live[K comparable](s *Server, in map[K]expiring, key K) []byte {
	kept, found := in[key]
	if found && !s.now().Before(kept.end) {
		delete(in, key)
		return nil
	}
	return bytes.Clone(kept.data)
}

func (s *Server) expiring(data []byte, ttl time.Duration) expiring {
	return expiring{data: append([]byte{}, data...), end: s.now().Add(ttl)}
}

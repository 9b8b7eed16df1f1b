package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

const (
	largeSize       = 560 * mib
	largeColdTarget = 0.8 // of nginx
	largeHitTarget  = 0.6 // of nginx
)

// large reads a large file that is on no disk yet, and then from the disk, beside nginx. Both keep
// it whole. They take turns, with a file of its own in each round.
func large(ctx context.Context, b *bench, c *benchCase, r *report) error {
	size, of := int64(largeSize), slicing
	of.block = "{\n\t\tslice off\n\t}"
	larder, err := b.serve(ctx, of)
	if err != nil {
		return err
	}
	if b.short {
		_, err := b.readLarge(ctx, larder, fmt.Sprintf("/film/%d/large", 16*mib), 16*mib)
		return err
	}
	subjects, times := []*subject{larder}, make(map[*subject][]largeTimes)
	if installed(nginxKind) {
		nginx, err := b.serve(ctx, theNginx)
		if err != nil {
			return err
		}
		subjects = append(subjects, nginx)
	}
	for round := range b.rounds {
		for _, s := range subjects {
			took, err := b.readLarge(ctx, s, fmt.Sprintf("/film/%d/large%d", size, round), size)
			if err != nil {
				return err
			}
			times[s] = append(times[s], took)
		}
	}
	for _, s := range subjects {
		r.note(c, s.name+": 560 MiB, cold", median(each(times[s], largeTimes.coldSeconds)), "s")
		r.note(c, s.name+": 560 MiB from the disk", median(each(times[s], largeTimes.hitSeconds)), "s")
	}
	if len(subjects) == 1 {
		return nil
	}
	var cold, hit []float64
	for i, mine := range times[larder] {
		theirs := times[subjects[1]][i]
		cold = append(cold, theirs.coldSeconds()/mine.coldSeconds())
		hit = append(hit, theirs.hitSeconds()/mine.hitSeconds())
	}
	r.atLeast(c, "560 MiB, cold, by nginx's rate", median(cold), "", largeColdTarget)
	r.atLeast(c, "560 MiB from the disk, by nginx's rate", median(hit), "", largeHitTarget)
	return nil
}

// largeTimes are how long it takes to read a file that is not stored, and one that is.
type largeTimes struct{ cold, hit time.Duration }

func (t largeTimes) coldSeconds() float64 { return t.cold.Seconds() }
func (t largeTimes) hitSeconds() float64  { return t.hit.Seconds() }

func each(times []largeTimes, what func(largeTimes) float64) (values []float64) {
	for _, t := range times {
		values = append(values, what(t))
	}
	return values
}

// readLarge reads a file twice. The origin is not asked for it again.
func (b *bench) readLarge(ctx context.Context, s *subject, path string, size int64) (took largeTimes, err error) {
	read := func() (time.Duration, error) {
		begun := time.Now()
		a, err := b.request(ctx, http.MethodGet, s.h1+path)
		if err == nil && a.size != size {
			err = fmt.Errorf("%s: %d bytes of %s, want %d", s.name, a.size, path, size)
		}
		return time.Since(begun), err
	}
	if took.cold, err = read(); err != nil {
		return took, err
	}
	sent, err := b.settledSent(ctx)
	if err != nil {
		return took, err
	}
	if took.hit, err = read(); err != nil {
		return took, err
	}
	again, err := b.settledSent(ctx)
	if err == nil && again != sent {
		err = fmt.Errorf("%s: %s is no hit: the origin has sent %d bytes more", s.name, path, again-sent)
	}
	return took, err
}

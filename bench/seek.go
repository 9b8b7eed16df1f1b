package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	sliceSize    = 4 * mib
	seekRate     = 10_000_000 // bytes a second
	seekSpare    = 2.0        // slices that may be fetched beyond what is read
	slicedTarget = 0.95       // of a whole response's throughput, at ranges of 1 MiB
	smallTarget  = 0.80       // of hits of 16 KiB, at ranges of 16 KiB
)

// slicing is a Larder that takes the largest film.
var slicing = subjectOf{
	name: "larder", kind: larderKind, memory: "256MiB", disk: true,
	global: "\t\tmax_body 2GiB\n", block: "{\n\t\tslice 4MiB\n\t}",
}

// slicingOnDisk reads both from the disk, slices and whole bodies. With more memory slices would be
// there, and a body that has spilled not.
func slicingOnDisk() subjectOf {
	of := slicing
	of.name, of.memory = "larder+disk", "8MiB"
	return of
}

// seek measures what parts of large files cost: cold, from many readers at once, and warm.
func seek(ctx context.Context, b *bench, c *benchCase, r *report) error {
	size := int64(1 << 30)
	if b.short {
		size = 64 * mib
	}
	for _, of := range []subjectOf{slicing, theNginx} {
		if !installed(of.kind) || b.short && of.kind != larderKind {
			continue
		}
		s, err := b.serve(ctx, of)
		if err != nil {
			return err
		}
		if err := b.seekCold(ctx, c, r, s, size); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := b.readTogether(ctx, c, r, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if of.kind == larderKind {
			if err := b.readSmall(ctx, c, r, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	s, err := b.serve(ctx, slicingOnDisk())
	if err != nil {
		return err
	}
	return b.readWarm(ctx, c, r, s)
}

// seekCold seeks near the end of a cold film behind a narrow link, and reads a mebibyte.
func (b *bench) seekCold(ctx context.Context, c *benchCase, r *report, s *subject, size int64) error {
	before, err := b.askOrigin(ctx, "/sent")
	if err != nil {
		return err
	}
	from := size - 20*mib
	got, err := b.part(ctx, fmt.Sprintf("%s/film/%d/cold?rate=%d", s.h1, size, seekRate), from, mib)
	if err != nil {
		return err
	}
	sent, err := b.settledSent(ctx)
	if err != nil {
		return err
	}
	limit := 2 * float64(sliceSize) / seekRate * 1000
	spare := float64(sent-before-mib) / sliceSize
	if b.short {
		return nil
	}
	if s.kind != larderKind {
		r.note(c, s.name+": first byte of a seek in a cold GiB, origin at 10 MB/s", milliseconds(got), "ms")
		r.note(c, s.name+": slices fetched beyond what was read", spare, "")
		return nil
	}
	r.atMost(c, "first byte of a seek in a cold GiB, origin at 10 MB/s", milliseconds(got), "ms", limit)
	r.atMost(c, "slices fetched beyond what was read", spare, "", seekSpare)
	return nil
}

// readTogether has eight readers read one cold film, each another part of it.
func (b *bench) readTogether(ctx context.Context, c *benchCase, r *report, s *subject) error {
	const size, readers = 64 * mib, 8
	before, err := b.askOrigin(ctx, "/sent")
	if err != nil {
		return err
	}
	errs := make([]error, readers)
	var wait sync.WaitGroup
	for n := range readers {
		wait.Go(func() {
			_, errs[n] = b.part(ctx, fmt.Sprintf("%s/film/%d/together", s.h1, size), int64(n)*size/readers, size/readers)
		})
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	sent, err := b.settledSent(ctx)
	if err != nil {
		return err
	}
	times := float64(sent-before) / size
	switch {
	case b.short && times != 1:
		return fmt.Errorf("eight readers had a cold film fetched %g times", times)
	case b.short:
	case s.kind == larderKind:
		r.atMost(c, "fetched for eight parallel readers of a cold film, by its size", times, "", 1)
	default:
		r.note(c, s.name+": fetched for eight parallel readers of a cold film, by its size", times, "")
	}
	return nil
}

// readWarm reads ranges of a film that is there in slices, beside one that is there whole.
func (b *bench) readWarm(ctx context.Context, c *benchCase, r *report, s *subject) error {
	const size = 32 * mib
	sliced, whole := fmt.Sprintf("%s/film/%d/sliced", s.h1, size), fmt.Sprintf("%s/film/%d/whole", s.h1, size)
	if _, err := b.part(ctx, sliced, 0, size); err != nil {
		return err
	}
	if _, err := b.request(ctx, http.MethodGet, whole); err != nil {
		return err
	}
	ratios, err := b.compare(
		func() (float64, error) { return b.answers(ctx, sliced, size, mib) },
		func() (float64, error) { return b.answers(ctx, whole, size, mib) },
	)
	if err == nil && !b.short {
		r.atLeast(c, "1 MiB ranges of a film in slices, by those of one that is whole, both on disk", median(ratios), "", slicedTarget)
	}
	return err
}

// readSmall reads small ranges of a film in slices, beside hits of their size.
func (b *bench) readSmall(ctx context.Context, c *benchCase, r *report, s *subject) error {
	const size = 32 * mib
	sliced := fmt.Sprintf("%s/film/%d/sliced", s.h1, size)
	if _, err := b.part(ctx, sliced, 0, size); err != nil {
		return err
	}
	ratios, err := b.compare(
		func() (float64, error) { return b.answers(ctx, sliced, size, 16*kib) },
		func() (float64, error) { return b.answers(ctx, s.h1+"/16384/hit", 0, 16*kib) },
	)
	if err == nil && !b.short {
		r.atLeast(c, "16 KiB ranges of a film in slices, by hits of 16 KiB, both in memory", median(ratios), "", smallTarget)
	}
	return err
}

// compare takes turns, and returns the ratio of the two rates in each round.
func (b *bench) compare(one, other func() (float64, error)) (ratios []float64, err error) {
	rounds := b.rounds
	if b.short {
		rounds = 0
	}
	for range rounds {
		mine, err := one()
		if err != nil {
			return nil, err
		}
		theirs, err := other()
		if err != nil {
			return nil, err
		}
		ratios = append(ratios, mine/theirs)
	}
	return ratios, nil
}

// answers is how many requests a second are answered, one after the other, for parts of a film, or
// of a whole response where size is 0.
func (b *bench) answers(ctx context.Context, url string, size, length int64) (float64, error) {
	begun, n := time.Now(), 0
	for at := int64(0); time.Since(begun) < b.duration; n++ {
		if size == 0 {
			if err := b.discard(ctx, url); err != nil {
				return 0, err
			}
			continue
		}
		if _, err := b.part(ctx, url, at, length); err != nil {
			return 0, err
		}
		if at += length; at+length > size {
			at = 0
		}
	}
	return float64(n) / time.Since(begun).Seconds(), nil
}

// discard asks for a whole response as part asks for a part: nothing of it is kept.
func (b *bench) discard(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// part asks for a part of a film, checks it, and returns how long its first byte took.
func (b *bench) part(ctx context.Context, url string, from, length int64) (first time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+length-1))
	begun := time.Now()
	resp, err := b.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var one [1]byte
	if _, err := io.ReadFull(resp.Body, one[:]); err != nil {
		return 0, err
	}
	first = time.Since(begun)
	rest, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusPartialContent || one[0] != filmByte(from) || rest+1 != length {
		return 0, fmt.Errorf("%d with %d bytes for %d from %d of %s", resp.StatusCode, rest+1, length, from, url)
	}
	return first, nil
}

// settledSent is how many bytes of films the origin has sent, once no more come.
func (b *bench) settledSent(ctx context.Context) (int64, error) {
	return b.settled(ctx, "/sent", 200*time.Millisecond)
}

package coalesce

import "time"

// Shared returns what Share was given, or nil before that.
func (f *Flight) Shared() any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shared
}

// Trailer returns what Finish was given, or nil before that.
func (f *Flight) Trailer() any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trailer
}

// Err returns the error of a flight that failed. It is nil before the end, after a clean one, and
// after Reject until Fail.
func (f *Flight) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Attempt is 1, and one more for each flight that follows a failure, up to 3.
func (f *Flight) Attempt() int { return f.attempt }

// Former is the Tag of the failed attempt that this one follows, nil for a first one.
func (f *Flight) Former() any { return f.former }

// Tag returns what the request that started the fetch attached to it.
func (f *Flight) Tag() any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tag
}

// Waiting returns how many followers are parked for the header.
func (f *Flight) Waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting
}

// Readers returns how many members a shared flight has, those that have not begun to read included.
func (f *Flight) Readers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.phase != streaming && f.phase != windowed {
		return 0
	}
	return len(f.members)
}

// Overflow returns why the body is not kept; NoOverflow if it is.
func (f *Flight) Overflow() Overflow {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.overflow
}

// Received returns how many bytes of the body have come.
func (f *Flight) Received() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.body.size
}

// Ended reports whether the flight has ended by Finish or Fail.
func (f *Flight) Ended() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

// Queued reports whether the fetch waits for its turn.
func (f *Flight) Queued() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.queued
}

// Silent returns for how long nothing of the response has come: since its last bytes, its header,
// its turn, or the beginning of the fetch. It is zero for a flight that is queued or has ended.
func (f *Flight) Silent() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || f.queued || f.leader == nil {
		return 0
	}
	return f.silence()
}

func (f *Flight) silence() time.Duration { return f.age() - f.pace.last }

func (f *Flight) age() time.Duration { return time.Since(f.registration.at) }

// TimeLeft returns for how long more the body is worth waiting for, for one who waits for others as
// long as wait says. Zero or less tells that the flight has been silent for that long, or that its
// body is that far behind the slowest pace, 8 KiB/s: one that comes byte by byte is as good as
// none. It may be behind by twice that where the rest of a known length comes within wait at the
// pace that it has had. What the fetch waits for readers or a Spill does not count. The result is
// wait for a flight that is queued or has ended.
func (f *Flight) TimeLeft(wait time.Duration) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || f.queued || f.leader == nil {
		return wait
	}
	now, limit := f.age(), wait
	if f.pace.secondsLeft(now, f.body.size, f.expected) <= wait.Seconds() {
		limit = 2 * wait
	}
	return min(wait-f.silence(), limit-f.pace.behind(now))
}

// Replaced reports whether Join has begun a newer flight in the place of this one.
func (f *Flight) Replaced() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replaced
}

// Done is closed when the flight has ended by Finish or Fail.
func (f *Flight) Done() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil {
		f.done = make(chan struct{})
		if f.ended {
			close(f.done)
		}
	}
	return f.done
}

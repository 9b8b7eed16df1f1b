package store

import (
	"errors"
	"fmt"

	"github.com/larder-cache/larder/store/internal/boltcheck"
)

// Ready checks the block of the Body that holds off, where the body is read from the disk: so the
// caller knows of damage before an answer has begun. It copies nothing. After an error the entry is
// of no use: it is neither to be sent nor to be validated.
func (r *Result) Ready(off int64) error {
	switch {
	case r.pinned == nil || off >= r.pinned.length:
		return nil
	case IsDamaged(r.pinned):
		return fmt.Errorf("read body %d: %w", r.pinned.id, errDamaged)
	}
	_, err := r.pinned.read(nil, off)
	return err
}

// ReadsDisk tells whether the Body is read from the disk piece by piece.
func (r *Result) ReadsDisk() bool { return r.pinned != nil }

// IsDamaged tells whether a part of a stored body is known to be damaged. It reads nothing. The
// body is that of a Result which is not released.
func IsDamaged(b Body) bool {
	body, onDisk := b.(*diskBody)
	return onDisk && body.pins().isSpoiled(body.id)
}

// failed is what a reader of the body does with an error. Damage costs the entry: it is counted
// once and deleted. Its other readers read on what is sound.
func (b *diskBody) failed(err error) {
	s := b.s
	if !errors.Is(err, errDamaged) || isWholeFile(err) || s.disk.isPast(err) {
		s.readFailed(err)
		return
	}
	first := b.pins().spoil(b.id)
	if first || errors.Is(err, errPanicked) { // panics are counted: after some the file is given up
		s.readFailed(err)
	}
	if !first {
		return
	}
	key, stored := b.key, true
	if b.writer != nil {
		key, stored = b.writer.damaged(err)
	}
	if stored {
		s.forget(key, b.id, Damaged)
	}
}

// isWholeFile tells whether an error says that the file is unusable, and not one entry.
func isWholeFile(err error) bool {
	_, wedged := errors.AsType[*wedgedError](err)
	return wedged || errors.Is(err, boltcheck.ErrLost)
}

// damaged fails a writer whose chunks are damaged, so that nothing is made of it. Where Put has
// made an entry of it already, that is stored under key.
func (d *BodyWriter) damaged(err error) (key Key, stored bool) {
	set := d.set
	set.mu.Lock()
	defer set.mu.Unlock()
	if !d.taken {
		set.fail(d, err)
	}
	return d.key, d.taken
}

// forget drops an entry from memory, from the queue and from disk.
func (s *Store) forget(key Key, id uint64, why EvictionReason) (queued bool) {
	if !s.isOpen() {
		return false
	}
	sh := s.memory.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	*sh.stamp(key)++
	here := false
	if it := sh.find(&key, id); it != nil {
		here = s.isHere(it)
		it.set(isDead)
		s.memory.discard(sh, it, why)
	}
	if here || s.disk == nil {
		return true
	}
	var buf [4]*job
	jobs := s.queue.of(key, buf[:0])
	for _, j := range jobs {
		if j.kind == jobPut && j.id == id {
			j.item.set(isDead)
		}
	}
	s.memory.unholdJobs(jobs)
	return s.queue.push(deletion(id, key, why))
}

package fleet

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/larder-cache/larder/store"
)

// What has been fetched is uploaded behind the back of its clients: a queue that is bounded in
// bytes, and a few workers that end when it is empty. A body is not copied into the queue, it is
// held in the store. Where the queue is full or the server does not answer, the response is
// skipped.
const (
	uploadQueue   = 32 << 20
	uploadWorkers = 4
	// uploadCost is what a job counts beside its bytes.
	uploadCost = 4 << 10
	// uploadPatience is how many times as long as a look-up one step of an upload may take.
	uploadPatience = 10
	// uploadLate is how long ago a response may have been requested that is put without a look at
	// what is there, although its fetch has no lease.
	uploadLate = time.Second
	// chunksOutlive is by how much chunks outlive their record.
	chunksOutlive = time.Minute
)

var (
	errSuperseded = errors.New("another node has the lease by now, or has stored what is newer")
	errExpired    = errors.New("the response is of no more use")
)

// upload is a job: to put a response, or to remove a record.
type upload struct {
	fetch  *Fetch // nil: remove
	held   store.Result
	renews bool
	// compress says that the body is to be compressed, where that saves something.
	compress bool

	at     place
	raw    []byte    // the record, nil if there is none
	before time.Time // if not zero, whatever record is of a request before that

	bytes int64
}

// uploads is the queue.
type uploads struct {
	tier *SharedTier

	mu      sync.Mutex
	waiting []*upload
	bytes   int64 // of those that wait and those under way
	running int   // workers
	closed  bool
	skipped uint64
	// Bytes of bodies that were compressed, and what they came to.
	plain, stored uint64
}

// Put offers a response that the fetch has brought and that is stored here. It does not wait. held
// is released when it is uploaded, or is not to be. renews says that a response which was stored
// before has been confirmed, so the tier may have its body already.
func (f *Fetch) Put(held store.Result, renews bool) {
	t := f.tier
	f.handed = true
	f.hasAnswer()
	length := held.Entry.Body.Len()
	j := &upload{fetch: f, held: held, renews: renews, bytes: uploadCost}
	j.compress = f.compress && store.Compressible(held.Entry.Header, length)
	if t.config.StoreOff || length > t.config.MaxBody {
		held.Release()
		f.endLease(news{kind: newsUnstored}, 0)
		return
	}
	if j.bytes += length; j.compress { // its chunks are kept until they are uploaded
		j.bytes += length
	}
	if !t.breaker.closed() || !t.uploads.add(j) {
		t.uploads.skip(j)
	}
}

// Remove has the record of a response removed that was requested before a time: the resource is
// gone, or has changed.
func (f *Fetch) Remove(key store.Key, v *store.Variant, before time.Time) {
	f.tier.uploads.add(&upload{at: place{key, variantID(v)}, before: before, bytes: uploadCost})
}

// remove has a record removed that was refused, unless it is another by then.
func (u *uploads) remove(at place, raw []byte) {
	u.add(&upload{at: at, raw: raw, bytes: uploadCost + int64(len(raw))})
}

// add appends a job. It reports false where there is no room.
func (u *uploads) add(j *upload) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || u.bytes+j.bytes > uploadQueue {
		return false
	}
	u.bytes += j.bytes
	u.waiting = append(u.waiting, j)
	if u.running < uploadWorkers {
		u.running++
		u.tier.spawn(u.work)
	}
	return true
}

// work does jobs until there are none.
func (u *uploads) work() {
	for {
		j := u.next()
		if j == nil {
			return
		}
		u.do(j)
		u.mu.Lock()
		u.bytes -= j.bytes
		u.mu.Unlock()
	}
}

// next takes the first job, nil when this worker is to end.
func (u *uploads) next() *upload {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.waiting) == 0 {
		u.running--
		u.waiting = nil
		return nil
	}
	j := u.waiting[0]
	u.waiting[0] = nil
	u.waiting = u.waiting[1:]
	return j
}

func (u *uploads) do(j *upload) {
	t, begun, op := u.tier, time.Now(), OpPut
	var err error
	if j.fetch == nil {
		op, err = OpRemove, t.remove(j)
	} else if err = t.put(j); err != nil {
		u.skip(j)
	} else {
		j.held.Release()
		j.fetch.endLease(news{kind: newsStored}, newsStoredStands)
	}
	t.config.Metrics.SharedRequest(op, outcomeOf(err), time.Since(begun))
}

// skip gives a job up.
func (u *uploads) skip(j *upload) {
	u.mu.Lock()
	u.skipped++
	u.mu.Unlock()
	j.held.Release()
	j.fetch.endLease(news{kind: newsUnstored}, 0)
}

// close gives up what waits.
func (u *uploads) close() {
	u.mu.Lock()
	waiting := u.waiting
	u.waiting, u.closed = nil, true
	u.mu.Unlock()
	for _, j := range waiting {
		if j.fetch != nil {
			u.skip(j)
		}
	}
}

// compressed counts a body that is uploaded in fewer bytes.
func (u *uploads) compressed(plain, stored int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.plain += uint64(plain)
	u.stored += uint64(stored)
}

func (u *uploads) stats() TierStats {
	u.mu.Lock()
	defer u.mu.Unlock()
	return TierStats{UploadBytes: u.bytes, Skipped: u.skipped, Compressed: u.plain, CompressedStored: u.stored}
}

// write calls the engine for a step of an upload.
func (t *SharedTier) write(call func(ctx context.Context) error) error {
	return t.ask(t.ctx, uploadPatience*t.config.Timeout, call)
}

// remove removes a record, unless it is another by now.
func (t *SharedTier) remove(j *upload) error {
	key, raw := keyText(j.at.key), j.raw
	if !j.before.IsZero() {
		err := t.write(func(ctx context.Context) (err error) {
			raw, err = t.engine.Record(ctx, key, j.at.variant)
			return err
		})
		if err != nil || raw == nil {
			return err
		}
		r, err := t.sealer.decodeRecord(raw, j.at, t.fromServer)
		if err != nil || !r.entry.RequestTime.Before(j.before) {
			return err
		}
	}
	return t.write(func(ctx context.Context) error { return t.engine.RemoveRecord(ctx, key, j.at.variant, raw) })
}

// put uploads a response: its chunks, then its record, which makes it one.
func (t *SharedTier) put(j *upload) error {
	e := j.held.Entry
	ttl := min(t.config.TTL, time.Until(e.KeepUntil))
	if ttl < time.Millisecond {
		return errExpired
	}
	if !hasRow(&e.Variant) {
		return errTooLarge
	}
	r := &record{stamp: j.fetch.stamp, entry: e, length: e.Body.Len()}
	if err := t.putBody(r, j, ttl+chunksOutlive); err != nil {
		return err
	}
	at := place{e.Key, variantID(&e.Variant)}
	raw, err := t.sealer.appendRecord(nil, r, at, t.toServer)
	if err != nil {
		return err
	}
	if len(raw) > MaxRecordBytes {
		return errTooLarge
	}
	keeps := j.fetch.keepsLease()
	if !keeps && (j.fetch.held != nil || time.Since(e.RequestTime) > uploadLate) {
		return t.putUnlessNewer(at, raw, e, ttl)
	}
	if keeps && !j.fetch.holdsLease(t.ctx) {
		return errSuperseded
	}
	return t.write(func(ctx context.Context) error {
		return t.engine.PutRecord(ctx, keyText(at.key), at.variant, raw, appendRow(nil, &e.Variant), ttl)
	})
}

// putUnlessNewer puts a record unless there is one of a response that was requested later. A node
// may have fetched for all, while a fetch that has no lease, or has let it go, was under way. What
// the server has is looked at here, as it understands no record, and is replaced only if it is the
// same then. If the server does not say what it has, nothing is put.
func (t *SharedTier) putUnlessNewer(at place, raw []byte, e *store.Entry, ttl time.Duration) error {
	key, seen := keyText(at.key), []byte(nil)
	err := t.write(func(ctx context.Context) (err error) {
		seen, err = t.engine.Record(ctx, key, at.variant)
		return err
	})
	if err != nil {
		return err
	}
	if seen != nil { // one that is foreign or damaged is none
		r, err := t.sealer.decodeRecord(seen, at, t.fromServer)
		if err == nil && r.entry.RequestTime.After(e.RequestTime) {
			return errSuperseded
		}
	}
	ok := false
	err = t.write(func(ctx context.Context) (err error) {
		ok, err = t.engine.ReplaceRecord(ctx, key, at.variant, seen, raw, appendRow(nil, &e.Variant), ttl)
		return err
	})
	if err == nil && !ok {
		return errSuperseded
	}
	return err
}

// putBody puts a body into its record, or uploads its chunks. Those of a response that was renewed
// are there already as a rule, and are kept. For a new response they are uploaded in any case: what
// stands there under their name may be damaged.
func (t *SharedTier) putBody(r *record, j *upload, ttl time.Duration) error {
	body := storedBody{Body: r.entry.Body}
	if j.compress {
		if err := body.pack(); err != nil {
			return err
		}
		if body.saved > 0 {
			r.coding = codingZstd
			t.uploads.compressed(r.length, r.length-body.saved)
		}
	}
	if r.length <= inlineBody {
		return body.each(func(_ int, chunk []byte) error {
			r.inline = append([]byte(nil), chunk...)
			return nil
		})
	}
	sums, err := body.sums()
	if err != nil {
		return err
	}
	r.sums = sums
	id, all := chunkID(r.sums), false
	if j.renews {
		err = t.write(func(ctx context.Context) (err error) {
			all, err = t.engine.KeepChunks(ctx, id, chunksOf(r.length), ttl)
			return err
		})
		if all || err != nil {
			return err
		}
	}
	return body.each(func(n int, chunk []byte) error {
		return t.write(func(ctx context.Context) error { return t.engine.PutChunk(ctx, id, n, chunk, ttl) })
	})
}

package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/larder-cache/larder/store"
)

// ErrNotEverywhere says that a purge holds on this node, and may not on others.
var ErrNotEverywhere = errors.New("the purge holds on this machine, and may not on others")

var (
	errReplicas = errors.New("too few replicas have the purge")
	errRepeated = errors.New("the log was lost, or put back to an older state, again and again")
)

// appendTries is how often one record is appended until there is a reply, and a purge because the
// log that had it has ended.
const appendTries = 2

// Purge purges every node: when it returns without error none answers a request that begins later
// with anything whose fetch began before the call. It takes as long as 1.05 × Options.Fence where a
// node has gone without leaving, and in the first such time of a term. Where nodes differ in their
// fence it is that node's, and the longest in a young term. ctx should allow for it.
//
// An error wraps ErrNotEverywhere, or is that of a store that could not write the purge down. To
// purge again does no harm.
func (f *Fleet) Purge(ctx context.Context, p Purge) (Purged, error) {
	if p.Severity == store.NotPurged {
		p.Severity = store.Hard
	}
	record := logRecord{Purge: p, token: f.tokens.Add(1), who: f.id}
	records := record.split()
	if len(records) == 0 {
		return Purged{}, store.ErrNoSelector
	}
	own := f.expect(record.token)
	defer f.forget(record.token)
	ctx, cancel := context.WithTimeout(ctx, f.purgeTimeout())
	defer cancel()
	purged, err := f.purgeNodes(ctx, own, records)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrNotEverywhere, err)
	}
	counted := f.applied(own, p, err != nil)
	for _, wait := range counted {
		matched, failed := wait(ctx)
		purged.Matched += matched
		err = errors.Join(err, failed)
	}
	return purged, err
}

// longestPurge is how long a purge may take because another node says that its fence is long.
const longestPurge = time.Hour

// purgeTimeout is how long a purge may take. Nodes that a purge has to wait for may have a longer
// fence than this one.
func (f *Fleet) purgeTimeout() time.Duration {
	own := 4 * margin(f.options.Fence)
	return max(own, min(4*margin(f.watch.longest(f.options.Fence)), longestPurge))
}

// expect has the records with a token counted for their purge.
func (f *Fleet) expect(token uint64) *ownPurge {
	f.acting.Lock()
	defer f.acting.Unlock()
	own := new(ownPurge)
	f.own[token] = own
	return own
}

func (f *Fleet) forget(token uint64) {
	f.acting.Lock()
	defer f.acting.Unlock()
	delete(f.own, token)
}

// applied returns what counts a purge. Where it has failed, and may not be in the log, it is put in
// force here alone: in the caches and, as if it were the next record, over the shared tier.
func (f *Fleet) applied(own *ownPurge, p Purge, failed bool) []waitFunc {
	f.acting.Lock()
	defer f.acting.Unlock()
	if failed {
		f.view.Load().ahead(p)
		own.counted = append(own.counted, f.caches.Apply(p))
	}
	return own.counted
}

// purgeNodes appends a purge and waits for all nodes.
func (f *Fleet) purgeNodes(ctx context.Context, own *ownPurge, records []logRecord) (Purged, error) {
	for range appendTries + 1 {
		w, p, err := f.appendAll(ctx, records)
		for n := 0; err == nil && p.outcome != appendAgain; n++ {
			here := f.here(w, own)
			if here == appendAgain {
				break
			}
			if here == everywhere && p.outcome == everywhere {
				return p.purged(), nil
			}
			if err = f.awaitNodes(ctx, n); err == nil && p.outcome != everywhere {
				p = f.askNodes(ctx, w, p)
			}
		}
		if err != nil {
			return p.purged(), err
		}
	}
	return Purged{}, errRepeated
}

func (p *progress) purged() Purged {
	names := func(nodes []Node) []string {
		out := make([]string, 0, len(nodes))
		for _, n := range nodes {
			out = append(out, cmp.Or(n.Name, n.ID))
		}
		slices.Sort(out)
		return out
	}
	return Purged{Nodes: p.held + 1, Fenced: names(p.fenced), Uncertain: names(p.uncertain)}
}

// appendAll appends the records of a purge, all in one term.
func (f *Fleet) appendAll(ctx context.Context, records []logRecord) (w *waiting, p progress, err error) {
	var out Appended
	for i, r := range records {
		term := out.State.term()
		var asked, came time.Duration
		if out, asked, came, err = f.append(ctx, r.encode(f.options.Secret)); err != nil {
			return nil, p, err
		}
		w = appended(f.options.Fence, f.id, out, came)
		p = f.watch.listed(w, out.Nodes, out.State, asked, came)
		if i > 0 && out.State.term() != term {
			return w, progress{outcome: appendAgain}, nil
		}
	}
	return w, p, nil
}

// append appends a record, once more where there is no reply: twice in the log it does no harm.
func (f *Fleet) append(ctx context.Context, data []byte) (out Appended, asked, came time.Duration, err error) {
	for range appendTries {
		asked = f.clock()
		out, err = f.appendOnce(ctx, data)
		came = f.clock()
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrReadOnly) || errors.Is(err, ErrRefused) {
			break
		}
	}
	return out, asked, came, err
}

func (f *Fleet) appendOnce(ctx context.Context, data []byte) (Appended, error) {
	ctx, cancel := context.WithTimeout(ctx, f.callTimeout())
	defer cancel()
	out, err := f.engine.Append(ctx, f.place(), data, f.options.Replicas)
	switch {
	case err != nil:
		return Appended{}, err
	case out.Replicas < f.options.Replicas:
		return Appended{}, errReplicas
	}
	return out, nil
}

// here tells how far a purge has come on this node. Its record must have come back where it was
// appended: it is gone if it was removed, or if the log was put back in the meantime.
func (f *Fleet) here(w *waiting, own *ownPurge) progressOutcome {
	f.acting.Lock()
	defer f.acting.Unlock()
	switch {
	case f.node.term() == w.term && f.node.applied >= w.gen:
		if !slices.Contains(own.came, w.gen) {
			return appendAgain
		}
		return everywhere
	case f.node.term() != w.term && f.node.learned > w.since:
		return appendAgain
	default:
		return stillWaiting
	}
}

// awaitNodes waits until it is time to ask again, or this node has applied something.
func (f *Fleet) awaitNodes(ctx context.Context, n int) error {
	f.acting.Lock()
	moved := f.moved
	f.acting.Unlock()
	timer := time.NewTimer(pollAfter(n))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-moved:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-f.ctx.Done():
		return errLeft
	}
	return nil
}

var errLeft = errors.New("this node has left the fleet")

// askNodes asks for the list of nodes. Without a reply it returns what it was given.
func (f *Fleet) askNodes(ctx context.Context, w *waiting, was progress) progress {
	q := f.questions.ask(f)
	select {
	case <-q.done:
	case <-ctx.Done():
		return was
	}
	if q.err != nil {
		return was
	}
	p := f.watch.listed(w, q.nodes, q.state, q.asked, q.came)
	for _, n := range p.evict {
		_ = f.engine.Evict(ctx, n) // the next purge tries again
	}
	return p
}

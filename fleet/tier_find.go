package fleet

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/larder-cache/larder/store"
)

// Get looks for the response to key that selects scores highest; 0 is for a variant that does not
// match. The result is what a look-up in a store would be, and need not be released. The Generation
// of its Entry is the caller's to set. The Body of its Entry may be read until ctx ends, and that
// may fail: a part of it may be gone.
//
// It asks the server once, as a rule: for all rows of the index, and for the variant that is
// likely.
func (f *Fetch) Get(ctx context.Context, key store.Key, selects func(*store.Variant) int) store.Result {
	t := f.tier
	if t.config.StoreOff {
		return store.Result{}
	}
	begun := time.Now()
	found, err := t.find(ctx, key, selects)
	outcome := outcomeOf(err)
	f.silent = outcome == OutcomeTimeout
	switch {
	case err != nil:
		found.Entry = nil
	case found.Entry != nil:
		outcome = OutcomeHit
	default:
		outcome = OutcomeMiss
	}
	t.config.Metrics.SharedRequest(OpGet, outcome, time.Since(begun))
	return found
}

func (t *SharedTier) find(ctx context.Context, key store.Key, selects func(*store.Variant) int) (store.Result, error) {
	guess := t.likely.best(selects)
	var raw []byte
	var index map[string][]byte
	err := t.ask(ctx, t.config.Timeout, func(ctx context.Context) (err error) {
		raw, index, err = t.engine.Find(ctx, keyText(key), guess)
		return err
	})
	if err != nil {
		return store.Result{}, err
	}
	best, known := choose(index, guess, raw != nil, selects)
	if best == "" {
		return store.Result{Known: known}, nil
	}
	if best != guess || raw == nil {
		err = t.ask(ctx, t.config.Timeout, func(ctx context.Context) (err error) {
			raw, err = t.engine.Record(ctx, keyText(key), best)
			return err
		})
		if err != nil {
			return store.Result{}, err
		}
		if raw == nil {
			t.uploads.remove(place{key, best}, nil) // the row
			return store.Result{Known: known}, nil
		}
	}
	found, err := t.open(ctx, raw, place{key, best})
	if found.Entry == nil {
		found.Known = known
	}
	return found, err
}

// choose returns the variant to be read, "" for none. known is any of the key.
func choose(
	index map[string][]byte, guess string, guessed bool, selects func(*store.Variant) int,
) (best string, known *store.Variant) {
	score, looked := 0, 0
	for id, row := range index {
		if looked++; looked > maxRows {
			break
		}
		v, ok := decodeRow(row, id)
		if !ok {
			continue
		}
		known = &v
		if s := selects(&v); s > score || s == score && s > 0 && id == guess {
			best, score = id, s
		}
	}
	if best == "" && guessed { // its row has been evicted
		best = guess
	}
	return best, known
}

// open reads a record. One that is refused is removed, and one whose body has lost a part.
func (t *SharedTier) open(ctx context.Context, raw []byte, at place) (store.Result, error) {
	r, err := t.sealer.decodeRecord(raw, at, t.fromServer)
	if err != nil {
		if !isOtherVersion(raw) { // nodes of another version have a use for it
			t.uploads.remove(at, raw)
		}
		return store.Result{}, err
	}
	severity, ours := t.log.Judge(r.stamp, r.entry.URL, r.entry.Tags)
	switch {
	case !ours: // a node that is behind must not remove what the others have stored since
		return store.Result{}, fmt.Errorf("epoch or floor: %w", errForeign)
	case severity == store.Hard:
		t.uploads.remove(at, raw)
		return store.Result{}, fmt.Errorf("purged: %w", errForeign)
	case !time.Now().Before(r.entry.KeepUntil):
		return store.Result{}, nil
	}
	if err := t.openBody(ctx, r, raw, at); err != nil {
		return store.Result{}, err
	}
	t.likely.note(&r.entry.Variant)
	return store.Result{Entry: r.entry, Severity: severity}, nil
}

// isOtherVersion reports whether a record is one of this format in another version.
func isOtherVersion(raw []byte) bool {
	return len(raw) > 4 && string(raw[:4]) == recordMagic && raw[4] != recordVersion && raw[4] != packedVersion
}

// likelyVariants remembers the variants that were found last: most responses of a site are selected
// by the same names, and most clients send the same values.
type likelyVariants struct {
	mu   sync.Mutex
	list []likelyVariant // the last one found first
}

type likelyVariant struct {
	id      string
	variant store.Variant
}

// likelyCount is how many are remembered.
const likelyCount = 8

// plainVariant is that of a response without Vary and Content-Encoding.
var plainVariant = variantID(&store.Variant{})

// best returns the likely variant for a request.
func (l *likelyVariants) best(selects func(*store.Variant) int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.list {
		if selects(&l.list[i].variant) > 0 {
			return l.list[i].id
		}
	}
	return plainVariant
}

// note remembers a variant that was found.
func (l *likelyVariants) note(v *store.Variant) {
	id := variantID(v)
	l.mu.Lock()
	defer l.mu.Unlock()
	at := len(l.list)
	for i := range l.list {
		if l.list[i].id == id {
			at = i
			break
		}
	}
	switch {
	case at < len(l.list):
	case len(l.list) < likelyCount:
		l.list = append(l.list, likelyVariant{})
	default:
		at--
	}
	copy(l.list[1:at+1], l.list[:at])
	l.list[0] = likelyVariant{id, *v}
}

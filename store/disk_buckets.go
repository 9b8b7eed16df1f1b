package store

import (
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/pagein"
	"github.com/larder-cache/larder/store/internal/slots"
)

// buckets are those of one transaction.
type buckets struct {
	meta, records, chunks, keys, tags, urls, expiry, recency, purges, pending, kept bucket

	slots *slots.File // that rows of chunks lead to
	freed []uint32    // of these, what is free once the transaction has committed
}

// all are the same, in the order of allBuckets.
func (t *buckets) all() [11]*bucket {
	return [...]*bucket{
		&t.meta, &t.records, &t.chunks, &t.keys, &t.tags, &t.urls, &t.expiry, &t.recency, &t.purges, &t.pending, &t.kept,
	}
}

// bucket is a bucket that a compaction may be told of what is written to, and whose pages may have
// to be read before they are touched.
type bucket struct {
	*bbolt.Bucket
	rows  *touched     // nil: there is no compaction
	pages *pagein.File // nil: they are in memory, as far as is known
	leaf  uint64       // the page that pageLeaf has read last
}

// Get is that of the Bucket. Of a long value the caller has read what it touches beyond the first
// headSize bytes, see pageIn.
func (b *bucket) Get(key []byte) []byte {
	b.pageIn(key, 0, headSize)
	return b.Bucket.Get(key)
}

// Put is that of the Bucket.
func (b *bucket) Put(key, value []byte) error {
	b.rows.note(key)
	b.pageLeaf(key, false)
	return b.Bucket.Put(key, value)
}

// Delete is that of the Bucket.
func (b *bucket) Delete(key []byte) error {
	b.rows.note(key)
	b.pageLeaf(key, true)
	return b.Bucket.Delete(key)
}

func openBuckets(tx *bbolt.Tx) (*buckets, error) {
	t := new(buckets)
	for i, b := range t.all() {
		if b.Bucket = tx.Bucket(allBuckets[i]); b.Bucket == nil {
			return nil, fmt.Errorf("bucket %s is missing: %w", allBuckets[i], errDamaged)
		}
	}
	if tx.Writable() { // appended at the right edge, so full pages stay full
		for _, b := range []*bucket{&t.records, &t.chunks, &t.expiry, &t.recency, &t.kept} {
			b.FillPercent = 0.95
		}
	}
	return t, nil
}

// openBucket opens one bucket, for look-ups: to open all of them takes longer than to search in
// one.
func openBucket(tx *bbolt.Tx, name []byte) (*bbolt.Bucket, error) {
	if b := tx.Bucket(name); b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("bucket %s is missing: %w", name, errDamaged)
}

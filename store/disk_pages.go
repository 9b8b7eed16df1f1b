package store

import (
	"runtime"
	"time"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/pagein"
)

// Where pages of the file are not in memory, they are read by system calls before bbolt touches
// them (package pagein): a page fault would keep a processor from all other requests for as long as
// the disk takes. Where they are in memory, that would be half as much again as the look-up itself.
// Which of the two it is, the time of look-ups tells. One that took longer than slowRead has
// probably waited for the disk. The longer it took, the more of those that follow have their pages
// read, and changes too. If it was another program that had the processor, it costs each of these
// some microseconds.

const (
	slowRead = 250 * time.Microsecond
	// readRate is how many bytes a second of a body are read where it is in memory, at least.
	readRate = 1 << 30
	// slowWeight is how many look-ups that are fast make up for each slowRead that one has taken.
	slowWeight = 32
	// coldAbove is what slow ones have to come to, and coldest what they come to at most.
	coldAbove = 8 * slowWeight
	coldest   = 4 * coldAbove
	// headSize is what is read of a row that is looked up: the record of most entries, and the
	// checksums of a chunk.
	headSize = 4 << 10
	// wholeRow is more than any row has.
	wholeRow = 1 << 32
)

// timeRead notes how long a look-up took in a transaction, which has read so many bytes of a body.
// Of look-ups at once one may not be counted.
func (d *disk) timeRead(began time.Time, bytes int64) {
	n := d.cold.Load()
	took := time.Since(began) - time.Duration(bytes)*time.Second/readRate
	if slow := int64(took / slowRead); slow > 0 {
		d.cold.Store(int32(min(int64(n)+slowWeight*slow, coldest)))
	} else if n > 0 {
		d.cold.Store(n - 1)
	}
}

// isCold tells whether pages are to be read before they are touched.
func (d *disk) isCold() bool { return d.cold.Load() > coldAbove }

// pagesOf is how pages of a use's file are read. On Windows it is not: Go reads a file at one place
// after the other there, so that all look-ups would wait for each other.
func pagesOf(u *use) *pagein.File {
	if runtime.GOOS == "windows" {
		return nil
	}
	return pagein.New(u.file, u.db.Info().PageSize)
}

// readBuckets are those of a read transaction. The caller opens what it needs.
func (d *disk) readBuckets() *buckets {
	t := &buckets{slots: d.openSlots()}
	d.arm(t)
	return t
}

// openBuckets opens all buckets of a transaction.
func (d *disk) openBuckets(tx *bbolt.Tx) (*buckets, error) {
	t, err := openBuckets(tx)
	if err == nil {
		d.arm(t)
	}
	return t, err
}

// arm has these buckets read pages before they touch them, where the file is cold.
func (d *disk) arm(t *buckets) {
	if !d.isCold() {
		return
	}
	pages := d.paging.Load()
	for _, b := range t.all() {
		b.pages = pages
	}
}

// pageIn reads what a look-up of key touches, and of the value what lies between from and to.
func (b *bucket) pageIn(key []byte, from, to int64) {
	if b.pages != nil {
		b.pages.Row(uint64(b.Root()), key, from, to)
	}
}

// pageRecord reads what follows the head of the row of a record, up to there.
func (t *buckets) pageRecord(id uint64, to int64) {
	if t.records.pages != nil { // else there is no need for a key
		t.records.pageIn(idBytes(id), headSize, to)
	}
}

// pageLeaf reads what a change of the row with that key touches, or its deletion.
func (b *bucket) pageLeaf(key []byte, goes bool) {
	if b.pages != nil {
		b.leaf = b.pages.Leaf(uint64(b.Root()), key, goes, b.leaf)
	}
}

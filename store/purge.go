package store

// The promise: once a purge has answered, no request that starts later is served anything that was
// stored, or begun to be fetched, before it.
//
// How it is kept. A purge takes the next generation G and its record is put in force
// (purgeSet.issue), upon which BeginPurge returns; then the disk writer commits the record to the
// file; then it answers, which is when Wait returns, and Purge, which is the two in a row. Every
// entry carries the generation g in which its fetch began. While the record is in force, an entry
// that it matches with g < G is masked: purgedBy says so. The record leaves force only when nothing
// it masks is left anywhere. Interleaving by interleaving:
//
//   - Memory. Lookup judges every candidate after it has it in hand. The record is in force before
//     the answer, so a look-up that starts after the answer sees it, unless it was dropped in
//     between. Then the sweep has set the item's flag before that, and Lookup reads the flag after
//     judging; or the item had left memory before the sweep looked there, and has no flag. So
//     Lookup counts drops around both, and begins again. It holds the item from under the shard's
//     lock on, so neither what it judges nor the flag can become another entry's meanwhile. A
//     decoded entry is only looked at through its item.
//   - Snapshot of the file. A look-up may hold a transaction that still sees rows which the sweep
//     has deleted, and judge them when the record is gone. It counts drops around both, and begins
//     again.
//   - Fetch under way, stored later. Its ticket was begun with g < G, so Put carries g, and what it
//     stores is masked like everything else. Put also refuses it, but that is a courtesy: the purge
//     may come between Put's check and its insertion. The record stays in force until the ticket
//     has ended (tickets.oldest), and only then does the final sweep begin; Put comes before End,
//     so the final sweep finds what it stored.
//   - Validation under way. What a 304 renews may have other tags and another URL than before, so
//     that the record does not mask it. Put asks under the shard's lock, after which the purge
//     counts that shard, whether what is renewed was purged since the ticket began, and refuses.
//   - Fetch begun around the purge. begin reads the generation and registers the ticket in one
//     step. Either it reads a generation below G, and holds the record; or it reads G, and then it
//     began after the purge had taken effect.
//   - Flight joined later. A follower that starts after the answer must not be given a flight begun
//     before: the flight carries its ticket's generation, and Purged judges it.
//   - Queue. Look-ups judge what they find there. The disk writer judges again before it writes.
//     What waits and is in no shard is found by the queue's own index, and marked after the shards
//     are swept: an entry that leaves its shard unswept is in that index before the sweep looks
//     there. So at the end of the final sweep everything that waits is marked, before the record
//     can go.
//   - Written late. What could not be queued when it was put is queued later, under its shard's
//     lock, and only while it is resident. So the sweep finds it there and sets its flag, before
//     the queue has it or after; or it is like anything else that waits.
//   - Batch being written. The disk writer writes and sweeps on one goroutine, so no batch is under
//     way while it sweeps, and every batch it begins later passes purgedBy or the mark. A step of
//     the sweep, or a count, that lets others have the core goes on in the same transaction.
//   - Disk to memory. A look-up that reads an old row may make it resident after the sweep of
//     memory. So it holds a ticket from before the reading until after the insertion, and the
//     record stays.
//   - Counting. Between issue and the disk writer's count nothing is removed for the record's sake:
//     neither the sweep nor the writing of a batch looks at records that are not counted. matched
//     is counted by the disk writer in the transaction that commits the record, against the records
//     of lower generations: of purges that overlap, each entry counts in one. Where many have come
//     to the disk writer their counts may take several transactions, and each is answered when the
//     one that counted it is through. Between these nothing else is written and nothing swept.
//   - Nothing anywhere. purge_noop.go has the argument for leaving such a purge out.
//   - Nothing on disk. A record that can hit no index row is not written down, which is so for most
//     unsafe requests (RFC 9111 4.4). What comes to the disk later passes the disk writer, which
//     judges it by the record in memory: what is gone is not written, what is stale has it in its
//     rows. So at no moment is there a row that a crash could uncover. The disk writer looks for
//     such rows while it counts, between its batches, so no row is on its way meanwhile. It looks
//     for the file's name all the same: what has been put in its place may have such rows.
//   - Counted in another order. A batch looks at the records up to the first that is not counted,
//     and at none from there on. So a record is swept only once all that are lower are counted. One
//     that comes to the disk writer before a lower one is written down whatever it may hit: its
//     sweep finds what a batch has written meanwhile.
//   - Rows swept. Once the rows of a record are swept it is like one that had none, and leaves the
//     file with the last of them: what comes to the disk later passes the disk writer. The record
//     itself stays in memory for as long as a fetch is under way that is older.
//   - Two that say the same. A record that waits for older fetches alone leaves force when a later
//     one, of the same selectors and as severe, waits for them too: whatever the earlier masks the
//     later does, and it stays at least as long. Both are swept, so that no purge between them
//     still has to count against the earlier.
//   - In force and not answered. Nothing above depends on the answer but for Counting, which
//     removes nothing before it: all of it holds from the return of BeginPurge on. What does not is
//     what follows, which is about crashes.
//   - Crash before the commit. No answer was given. Who has acted upon the return of BeginPurge
//     carries the purge out again: position.go has the argument for how he knows.
//   - Crash after the commit. restorePurges reads the record back before Ready and before any
//     look-up. No entry in the file has a higher generation than the file's own, which every batch
//     commits and from which counting goes on. So later fetches and purges have later generations.
//   - Crash within the sweep. Rows go in transactions; the record's row goes in the last.
//   - Restart without the file (locked, failing), file taken up later. Purges answered meanwhile
//     were answered with ErrNotDurable, and the file is marked as one that has missed them, unless
//     another process has it. They stay in force, and are written to the file before the first
//     look-up in it; then the mark is removed. By the wall clock they have later generations than
//     what is in it. Where they have not, the file is set aside.
//   - Before Open, and while it is under way. The purge waits for the disk writer, and is counted
//     and committed like any other. Open has written it to the file as well, before the first
//     look-up, if it was issued before the file's own purges were read. If it was issued later its
//     generation is above all that are in the file. Where Open fails, or Close comes before it, the
//     purge is answered with ErrNotDurable, and the file is marked as in the case above.
//   - Commit fails. ErrNotDurable; the purge stays in force; the file is removed, so that not even
//     a crash brings it back. Where that fails too, a mark is put beside it. Another process that
//     finds the mark begins the file anew; this one takes the file up as in the case above.
//   - Commit does not return. The same after stallTime, and so where the count meets no row for so
//     long; how many rows it meets does not matter. The file is removed as soon as the disk
//     answers, even if the process was killed meanwhile, as long as the call that removes it is in
//     the kernel's hands.
//   - Closed meanwhile. The disk writer commits what has come to it before it ends, and from then
//     on nothing comes to it: such a purge is refused by ErrClosed, and nothing is served any more.
//   - File removed under us. Each commit looks for its name before, and so does a purge that needs
//     none; a new file is begun with all records in force.
//   - Record damaged on disk. What it masked is not known any more: the file is set aside.
//
// A purge that is not hard is the same with "stale", or "invalid", for "gone": the sweep sets a
// flag of the item and of its rows in place of deleting them, and only then the record goes. Where
// an entry is hit more than once the severest counts: flags are added, never taken away, and what a
// record and the flags say is compared. So whatever was true of an entry stays true, or is made
// worse. What is put later carries no flag: a response that was validated is put anew, under the
// generation of the ticket of its validation.

import (
	"cmp"
	"errors"
	"time"
)

// Errors of Purge.
var (
	// ErrNotDurable says that a purge holds in this process but could not be written down.
	ErrNotDurable = errors.New("purge holds in memory but is not durable")
	// ErrNotCounted says that the file could not be counted for a dry run. Nothing else has come
	// of it.
	ErrNotCounted = errors.New("what the purge would match could not be counted")
	// ErrClosed says that the store is not open.
	ErrClosed = errors.New("store is not open")
)

// PurgeOptions say how to purge.
type PurgeOptions struct {
	// Severity is what the purge makes of entries. The zero value is Hard.
	Severity Severity
	// DryRun only counts. It may fail with ErrNotCounted, and never with ErrNotDurable.
	DryRun bool
	// Patience is how long Wait waits at most, from BeginPurge on; purgeTime where it is 0. After
	// that the purge counts as not durable, or as not counted.
	Patience time.Duration
	// Labels is when the labels were read by which the selectors were made, 0 if they were not.
	// Where the store has got more since, all that is stored is validated before its next use.
	Labels LabelsTime
}

func (o PurgeOptions) severity() Severity { return cmp.Or(o.Severity, Hard) }

// Purged returns what purges have made of a response with this URL (URLAt's) and tags since it was
// fetched under generation gen. It is for responses that are not stored (yet): flights. Without a
// purge newer than gen it costs two atomic loads.
func (s *Store) Purged(url string, tags []string, gen uint64) Severity {
	if gen < s.tickets.revoked.Load() {
		return Hard // by what purges is not known any more
	}
	return s.purges.purgedBy(url, tags, gen, everything)
}

// Purge makes every entry that sel selects gone, invalid or stale, and counts those that were
// neither expired nor purged as severely before. When it returns without error, the purge holds
// across a crash. An error that wraps ErrNotDurable means that it holds until the process ends, and
// that the file it could not be written to is not used again without it. Before Open it waits for
// that as for the disk.
func (s *Store) Purge(sel Selectors, opts PurgeOptions) (matched int, err error) {
	req, err := s.BeginPurge(sel, opts)
	if err != nil {
		return 0, err
	}
	return req.Wait()
}

// Package store keeps HTTP responses in two tiers: a byte-bounded memory tier over a bbolt file and
// one of large bodies.
// It knows neither Caddy nor the rules of HTTP caching; what may be served is its caller's
// business.
//
// # Where to read
//
//	entry.go      what is stored: Key, Variant, Entry, Body
//	settings.go   budgets, policies and the words for how things end
//	store.go      the life of a store: New, Open, Apply, Close; opening a file, setting one aside
//	lookup.go     memory, then the write-behind queue, then disk (disk_lookup.go)
//	put.go        storing, replacing, removing
//	order.go      which of two answers stays
//	list.go       listing by cursor (list_place.go): by URL, or by the age of a tag's entries;
//	              list_many.go: of several stores
//	tickets.go    tickets of fetches under way
//	host.go       selectors of hosts; listener.go: URLs with the listener they were asked for at
//	stats.go      what is counted
//	record.go     how both tiers lay out an entry
//	entry_bytes.go  an entry for a tier that keeps it as bytes
//	codec.go      purges and times as they are on disk
//	internal/wire strings, lists and header fields as bytes
//
//	memory.go           the memory tier: shards under one budget
//	memory_shard.go     one lock, and what is under it
//	memory_item.go      the bookkeeping of an entry, without pointers
//	memory_in_flight.go bodies on their way, in accounts of their own
//	memory_held.go      what look-ups hold of larger items, counted
//	memory_readers.go   who is sent small ones, to be broken off where nothing else gives room
//	memory_policy.go    lists of lru, lfu and fifo; unlocked
//	memory_due.go       what expires when, and what goes first; unlocked
//	memory_index.go     by tag (memory_taglist.go) and by URL; unlocked
//	memory_walk.go      through what selectors name, in short steps under the lock
//	memory_decoded.go   what is asked for all the time, decoded; unlocked
//	internal/arena      extents outside of the Go heap
//
//	disk.go             the only place that opens and calls bbolt
//	disk_schema.go      rows; disk_buckets.go: the buckets that have them, as a transaction opens them
//	chunk.go            the form of a piece of a body on disk, checked as far as it is read
//	disk_chunk_rows.go  its rows
//	disk_slots.go       full pieces in a file of their own (internal/slots), disk_slots_move.go: to
//	                    the front of it
//	disk_body.go        a body on disk, read in pieces without a transaction (disk_pins.go)
//	disk_readers.go     readers of what is deleted: what they may hold, and when they are broken off
//	disk_body_writer.go large bodies, to disk while they arrive; disk_body_writers.go: all of them,
//	                    disk_portions.go: a step of them
//	compress.go         which bodies are compressed on disk, and where; internal/frames has the form
//	disk_damaged.go     what damage of a body costs
//	disk_aside.go       a file that is not used any more: its other name
//	disk_missed.go      a file that has missed a purge: removed, renamed or marked
//	disk_stall.go       a disk that does not answer is waited for only so long, by only so many
//	disk_writer.go      the one goroutine that writes: what it does when
//	disk_giveup.go      what becomes of a file after an error, or that lacks a purge or deletions
//	disk_queue.go       what waits for it; disk_late.go: what there was no room for at the time
//	disk_full.go        a disk that is full is read, and not written to
//	disk_trouble.go     what goes wrong is said once
//	disk_place.go       whether there is room for an entry
//	disk_batch.go       one transaction of it; disk_chunks.go: bodies
//	disk_evict.go       evicting, expiring, recency (disk_accesses.go: what look-ups have used)
//	disk_pages.go       pages that are not in memory are read before they are touched (internal/pagein)
//	disk_pace.go        how fast goes what no request waits for
//	disk_compact.go     a smaller file in the place of one with much free room
//	disk_lock_flock.go  bbolt's lock on the file
//	internal/boltcheck  what is checked of a file before bbolt opens it
//
//	purge.go            the promise of a purge and the argument for it
//	purge_request.go    the two steps of a purge: in force, then counted and written down
//	purge_set.go        purges in force, found by their selectors (selectors.go)
//	purge_count.go      what a purge matches (purge_scan.go: the rows that a selector names)
//	purge_noop.go       whether a purge would change nothing
//	purge_sweep.go      deleting what purges have hit
//	purge_watch.go      telling which URLs these were
//	labels.go           the rules by which its caller has stored something
//	position.go         how far the store has come in somebody else's list of purges
//	severity.go         what a purge makes of a response
//	masks.go            purges over responses that are kept elsewhere
//
// # Budgets
//
// Memory counts for an entry
//
//   - its extent, rounded up to a slot or to pages (3 % on average),
//   - 136 bytes of index,
//   - 64 bytes for each tag. One that no other entry has takes 40, one that two have 80, one that
//     many have 45.
//
// An entry counts while it is held: resident, waiting for the disk, or being sent to a client. A
// renewed entry (Renewal, Put) has its large body in common with the entry that was renewed. In
// memory that extent counts until the last of its renewals is gone. On disk the record alone is
// written, under the same id as the chunks.
//
// What is held is never a victim, because that would give no room. It counts as used now. When what
// look-ups hold of items above 64 KiB and bodies in flight have three quarters of the budget,
// nothing is evicted for an item or a body above 64 KiB: it is stored if there is room.
//
// Memory also counts
//
//   - what is reserved for bodies on their way,
//   - 256 bytes of bookkeeping for each entry or deletion that waits for the disk, what its variant
//     was selected by, and its body once more where that is compressed already,
//   - what is kept decoded, by an estimate of what its maps take: at most a thirty-second part of
//     the budget.
//
// It does not count
//
//   - what a reader of a body on disk has in hand while its client accepts it: 32 KiB at most,
//   - where bodies are compressed, the encoders and decoders of the process: at most sixteen of
//     each, 0.5 MiB and 0.2 MiB,
//   - free slots. Beyond 4 MiB, or a twenty-fourth of the budget if that is more, the sparsest
//     slabs are emptied,
//   - free pages: at most a megabyte, or a thirty-second part of the budget,
//   - bookkeeping that was needed once, 64 bytes an item. It is used again and not given back.
//
// Disk counts allocated pages: the database's file less its free pages, as of the last commit, and
// the slots of the file of large bodies that are taken. A batch evicts
// for itself before it is written. It is bounded by the pages that it changes, which are in the
// file twice until it has committed. The file may have grown all the same, because no free pages
// lay side by side; then less of the budget is used (disk.room). So the file stays within one and a
// half times the budget, with that of large bodies, and what is used of it does whatever clients
// hold of what is deleted (disk_readers.go); a small file may grow a few chunks beyond for that.
// bbolt's files never shrink: after Apply with a smaller budget pages get free, and when more than
// half of what is larger than the budget is free it is compacted. The file of large bodies is cut
// behind its last slot that is taken, and the lowest are taken first. Where both files come to more
// than five quarters of the budget the last ones are moved to free ones before, so that the
// database may grow into what large bodies leave; the other way round large bodies stand in the
// database's free pages, until it is compacted.
//
// # Large bodies
//
// A full chunk of 256 KiB that is not compressed stands in a slot of larder.bodies, and its row in
// the database says in which and has its checksums. The design had one bbolt file. For a body of
// 560 MiB that zeroed as many bytes of buffers, copied it twice, and waited for two syncs for each
// 4 MiB: two fifths of the processor time of fetching it, and the largest part of what the Go heap
// had in it that was garbage. Chunks stand in fixed slots, so no room is lost between them, and
// what is shorter stays with the rows. The row is what makes it exist, so that everything that is
// said of rows below (atomic batches, purges, damage, compaction) holds for large bodies too.
//
// Compressed bodies count what they take of the file. Whether one has a place at all is judged by
// its length, before it is compressed.
//
// A body may take half of the disk budget. Bodies on their way cannot be evicted, and may take
// three quarters together of what may be used of it. What is appended to a BodyWriter and not
// written is its caller's to count.
//
// The counters of Stats are exact: a full scan of either tier comes to the same, which tests check.
// Entries that are expired or purged count until they are swept, and are served no more before
// that.
//
// What a purge hit, and what has expired, gives back its room at a pace: 5,000 entries a second, in
// steps of 64 (up to 256 after a slow sync) that let others have the core every quarter of a
// millisecond, so that on one core hits do not wait behind the sweep. Stats.PurgesPending tells how
// many purges are not swept yet.
//
// # Compression
//
// With Settings.Compress bodies are compressed on disk, by pieces of 32 KiB (internal/frames),
// which is what a reader has in hand at once. So a part of a body costs what it is long, and what
// is decompressed is bounded by the recorded length. In memory bodies stand as they are: a hit
// there knows nothing of it. A body of up to one chunk is compressed on the goroutine that puts it,
// a longer one by the disk writer, chunk by chunk. A piece that would not be an eighth shorter is
// stored as it is.
//
// A record whose body is compressed has a version of its own, and a compressed chunk is shorter
// than its bytes are. A release that knows neither takes both for damaged: it misses, and serves no
// wrong byte. The schema of the file is the same, so files of before are read, and a file in which
// nothing is compressed is read by releases of before.
//
// # Eviction
//
// lru is segmented in memory: an entry begins in probation, its next use protects it, and victims
// are taken from probation first, so that a scan passes through a fifth of the tier. On disk it is
// the order of use. lfu has a class for each power of two of uses, which age; fifo is the order in
// which entries came; none refuses. The tier's victim is that of its fullest shard. What is past
// its lifetime and its stale windows (Entry.KeptFrom) goes before all others in both tiers, under
// none too. Under every policy but none, entries may go before their turn where sizes shift: those
// in the sparsest slab of a size that has become rare.
//
// # Holds
//
// Bytes in an extent are used again when the last hold on their item is given up: that of its
// shard, of the queue, of a sweep, of each Result. So a Body that Lookup returned may be read until
// Release, and not after; everything else in an Entry is on the Go heap and good for ever. With the
// race detector freed bytes are overwritten at once, so that the checksums in tests find who is
// late.
//
// # Durability
//
// A purge is on disk before it answers, unless nothing there is for it to hit; BeginPurge returns
// before that. A position follows the purges within about a second. An entry is on disk a quarter
// of a second after Put, sooner where many come together, and a second at most while the queue is
// not full, also while purges come without a gap: writing, sweeping and expiring take turns. What
// there is no room for then, or no file, is written when there is, if memory has it still: see
// disk_late.go. What is to be deleted from a disk that is full waits in memory, and is forgotten by
// a crash, or by a stop that finds no room either: see disk_full.go. Close writes everything. The
// chunks of a BodyWriter are written as they come, and are an entry when its record is; what a
// crash leaves of one is swept at the next start, or is in slots that no row leads to. Every
// record, body and key row, and every 32 KiB of a chunk, carries a checksum that covers its place
// too, so that damage is a miss, counted and deleted, and never another entry's bytes. Of a body
// that is read piece by piece it shows when a piece is: see disk_damaged.go.
//
// # Faults
//
// docs/guarantees.md has a table of what can happen to the file, what the store does, and the test
// of each. The tests go round many times more where LARDER_FAULTS is "long"; .ci/long runs that. A
// loss of power is simulated on the writes as bbolt makes them, see powerloss_test.go. What bbolt
// believes unchecked in every transaction, internal/boltcheck looks at before.
//
// # Locks
//
// In this order: Store.life, shard.mu, queue.mu. Under the others no lock is taken: disk.mu,
// purgeSet.mu, tickets.mu, pins.mu, accesses.mu, arena.mu, table.mu, shard.counting,
// bodyWriters.mu, Masks.mu, slots.File.mu. There are two exceptions: disk.mu is held for reading
// around a transaction, within which memory, the queue, the records and the bodies on their way may
// be used, and bodyWriters.mu while pins.mu is taken when a BodyWriter begins, fails or is counted,
// slots.File.mu where its slots are given back, and while pieces of a body are given back, whose
// memory may be an arena's. clientReader.mu is held while a
// client is interrupted, which takes no lock of the store.
//
// Nothing is written to a client under any of them, and no transaction is open while a client is
// written to: bodies are read in pieces (disk_body.go), each copied out of a transaction of its
// own.
//
// # Caveats
//
//   - The order of answers is by RequestTime. Where the clock is set back by less than the time
//     since a request, the next answer counts as older and is not stored.
//   - Recency reaches the disk in batches: at eviction, when many uses have come together, and at
//     Close. After a crash the policy starts from when entries were stored.
//   - While the file is not available, what memory replaces is not replaced in the file. Once it is
//     back and memory has evicted the newer response, the older one is found again for what is left
//     of its life. Purges are not affected.
//   - A damaged record takes its key row with it; its rows for tags and URL are dropped where a
//     sweep meets them, and a purge's count may include them until then.
//   - After a panic that left bbolt's locks in doubt the file's map is abandoned: address space is
//     lost until the process ends, no memory.
//   - bbolt believes how many overflow pages a page of its tree says to have, and which children,
//     and takes what is no leaf for a branch. Damage in just those bytes can make it allocate
//     without bound, or, where a page becomes its own ancestor's parent, go round in circles until
//     there is no memory left, and neither can be recovered from. boltcheck.Tree checks this when
//     a file is opened: of one of up to 4 MiB wholly, of a larger one for 8,192 pages or a tenth of
//     a second, from the top. What is damaged while the file is open is not noticed.
//   - Index rows carry no checksum. Where damage took some, a purge does not find what they led to.
//   - matched counts index rows; two tags of more than 64 bytes that begin alike, and whose SHA-256
//     begin with the same 17 bytes, would be counted together. They are never purged together.
//   - Under the policy none nothing is evicted but by a smaller budget, so a full store refuses
//     until entries expire, are purged or replaced.
//   - A body of up to 32 KiB stands in the row of its record, so that a renewal writes both.
//   - A Result keeps the bytes of its body, in memory or on disk; without Release they are kept
//     until restart.
//   - Where there are no anonymous mappings (Windows, Plan 9, WebAssembly) extents are slices of
//     the Go heap: never scanned, but the collector counts them, and free pages are not given back.
package store

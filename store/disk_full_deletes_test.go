package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWhatAFullDiskHasIsReplaced: an old response is not back when the one that has taken its place
// has left memory, and what was removed stays so.
func TestWhatAFullDiskHasIsReplaced(t *testing.T) {
	dir := t.TempDir()
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	s, disk, clock, _ := onFullDisk(t, dir, bothTiers)
	for n := range 4 {
		s.Put(signedEntry(s, url(n), 1, 50_000), 0)
	}
	must(t, s.Sync())
	r := s.Lookup(keyOf(url(0)), matchAny)
	s.disk.pins.pin(r.Entry.ID, 50_000)        // it is read from disk
	s.Put(signedEntry(s, url(0), 2, 5_000), 0) // queued when the disk is found to be full
	disk.fillUp(t, s)
	if held, used := s.disk.pins.inUse(); held != 0 || used != 50_000 {
		t.Errorf("%d bytes count as deleted, and %d as read; none is deleted, and 50,000 are read", held, used)
	}
	s.disk.pins.unpin(r.Entry.ID)
	r.Release()
	if held := s.Stats().DiskHeld; held != 0 {
		t.Errorf("%d bytes count as deleted when the reader has left", held)
	}
	if r := s.Lookup(keyOf("http://example.com/not there"), matchAny); r.Entry != nil {
		t.Error("it is there")
	}
	s.Put(signedEntry(s, "http://example.com/not there", 1, 5_000), 0) // in the place of nothing
	for version := range 3 {
		s.Put(signedEntry(s, url(1), 2+version, 5_000), 0)
	}
	r = s.Lookup(keyOf(url(2)), matchAny)
	s.Remove(r.Entry)
	s.Remove(r.Entry)
	r.Release()
	if n, _, _ := s.queue.state(); n != 3 {
		t.Errorf("%d deletions wait", n)
	}
	s.Apply(Settings{Memory: 1, Disk: bothTiers.Disk})
	for n, want := range []int{0, 0, 0, 1} {
		if version, _ := found(t, s, url(n)); version != want {
			t.Errorf("%s: version %d, want %d", url(n), version, want)
		}
	}
	disk.makeRoom(t, s, clock)
	must(t, s.Sync())
	for n, want := range []int{0, 0, 0, 1} {
		if version, _ := found(t, s, url(n)); version != want {
			t.Errorf("%s: version %d, want %d, when it is written again", url(n), version, want)
		}
	}
	checkAgreement(t, s)
}

// TestReadersOfWhatIsNotDeleted: what a reader had taken of a body was forgotten, and its time ran
// on, when a transaction had no room to delete that.
func TestReadersOfWhatIsNotDeleted(t *testing.T) {
	const id, length, taken = 1, 100_000, 60_000
	var p pins
	p.init()
	p.pin(id, length)
	p.took(id, taken)
	began := time.Unix(1_000_000, 0)
	for n := range 2 {
		if p.delete(id, length) {
			t.Fatal("it has no reader")
		}
		if held := p.held[id]; held.taken != taken || !held.due.IsZero() {
			t.Errorf("deleted %d times: %d bytes are taken, due %v", n+1, held.taken, held.due)
		}
		p.held[id].look(began, 0)
		p.held[id].taken = taken
		p.keep(id)
		if deleted, all := p.inUse(); deleted != 0 || all != length {
			t.Errorf("%d bytes of %d count as deleted", deleted, all)
		}
	}
	p.unpin(id)
	if deleted, all := p.inUse(); deleted+all != 0 || len(p.held)+len(p.taken)+len(p.read) != 0 {
		t.Errorf("%d bytes are in use when the reader has left", all)
	}
}

// manyReplaced are those of a store of replacedOnFullDisk.
var manyReplaced = Settings{Memory: 2 << 20, Disk: 64 << 20}

// replacedOnFullDisk stores pages, and replaces all of them when the disk is full: more than a
// store with so little memory remembers to delete.
func replacedOnFullDisk(t *testing.T, pages int) (s *Store, disk *fullDisk, clock *testClock, url func(n int) string) {
	t.Helper()
	s, disk, clock, _ = onFullDisk(t, t.TempDir(), manyReplaced)
	url = func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	for n := range pages {
		s.Put(signedEntry(s, url(n), 1, 200), 0)
	}
	must(t, s.Sync())
	disk.fillUp(t, s)
	if most := s.diskWriter.pausedBytes() / deletionCost; most >= int64(pages) {
		t.Fatalf("%d deletions may wait", most)
	}
	for n := range pages {
		s.Put(signedEntry(s, url(n), 2, 200), 0)
	}
	return s, disk, clock, url
}

// foundAll counts the pages of replacedOnFullDisk that are found, by their versions.
func foundAll(t *testing.T, s *Store, pages int, url func(n int) string) (versions [3]int) {
	t.Helper()
	for n := range pages {
		version, _ := found(t, s, url(n))
		versions[version]++
	}
	return versions
}

// TestMoreIsReplacedThanAFullDiskRemembers: what was deleted past the bound of the queue was
// forgotten, and 477 of 1,500 responses that had been replaced were served again.
func TestMoreIsReplacedThanAFullDiskRemembers(t *testing.T) {
	const pages = 1500
	s, disk, _, url := replacedOnFullDisk(t, pages)
	if is := foundAll(t, s, pages, url); is != [3]int{2: pages} {
		t.Errorf("versions %v are found", is)
	}
	disk.full.Store(false)
	waitFor(t, func() bool { return s.Stats().Disk.State == "open" && s.memory.late.Load() == 0 })
	must(t, s.Sync())
	s.Apply(Settings{Memory: 1, Disk: manyReplaced.Disk})
	if is := foundAll(t, s, pages, url); is != [3]int{2: pages} {
		t.Errorf("versions %v are found in the new file", is)
	}
	checkAgreement(t, s)
}

// TestWhatAFullDiskForgetsIsNotServed is the same where the new ones have left memory: neither at
// once, nor when the disk is tried again, nor by the next process.
func TestWhatAFullDiskForgetsIsNotServed(t *testing.T) {
	const pages = 1500
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprintf("stopped %v", stopped), func(t *testing.T) {
			s, disk, clock, url := replacedOnFullDisk(t, pages)
			dir := filepath.Dir(s.disk.path)
			s.Apply(Settings{Memory: 1, Disk: manyReplaced.Disk})
			if is := foundAll(t, s, pages, url); is[1] != 0 {
				t.Errorf("%d that were replaced are found", is[1])
			}
			if stopped {
				must(t, s.Close())
				s = openStore(t, Config{Path: dir, Required: true}, diskTier)
			} else {
				disk.makeRoom(t, s, clock)
				must(t, s.Sync())
			}
			if is := foundAll(t, s, pages, url); is[1] != 0 {
				t.Errorf("%d that were replaced are found later", is[1])
			}
			checkAgreement(t, s)
		})
	}
}

// TestRefreshedOnAFullDisk: a page that is in memory alone left a deletion of nothing when it was
// refreshed, and so few pages cost the file.
func TestRefreshedOnAFullDisk(t *testing.T) {
	s := keptByHand(t, Settings{Memory: 8 << 20, Disk: 64 << 20})
	s.diskWriter.failed(&fullError{fullErrors[0]})
	for n := range s.diskWriter.pausedBytes()/deletionCost + 1 {
		url := fmt.Sprintf("http://example.com/%d", n)
		s.Lookup(keyOf(url), matchAny)
		s.Put(signedEntry(s, url, 1, 200), 0)
		s.Put(signedEntry(s, url, 2, 200), 0)
	}
	if n, _, _ := s.queue.state(); n > 0 || !s.disk.up.Load() {
		t.Errorf("%d deletions wait, and the file is read: %v", n, s.disk.up.Load())
	}
}

// TestNewPagesWaitWhenADiskIsFull: each that was queued when the disk was found to be full left a
// deletion, also what had been late before.
func TestNewPagesWaitWhenADiskIsFull(t *testing.T) {
	const pages = 500
	s := keptByHand(t, Settings{Memory: 8 << 20, Disk: 64 << 20})
	dw, url := s.diskWriter, func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	s.Put(signedEntry(s, url(0), 1, 200), 0)
	must(t, dw.flush())
	for n := 1; n <= pages; n++ {
		s.Lookup(keyOf(url(n)), matchAny)
		s.Put(signedEntry(s, url(n), 1, 200), 0)
	}
	dw.failed(&fullError{fullErrors[0]})
	s.Put(signedEntry(s, url(0), 2, 200), 0)
	if n, _, _ := s.queue.state(); n != 1 {
		t.Errorf("%d deletions wait where one page is replaced", n)
	}
	dw.resume()
	must(t, dw.flush())
	dw.onTick()
	dw.queueLate()
	if n, _, _ := s.queue.state(); n < lateStep-1 {
		t.Fatalf("%d pages wait", n)
	}
	dw.failed(&fullError{fullErrors[0]})
	if n, _, _ := s.queue.state(); n != 0 {
		t.Errorf("%d deletions wait of pages that were late", n)
	}
}

// TestMissesAtOnceOnAFullDisk: what a look-up had found to be absent is forgotten where many are
// under way, and then each left a deletion of nothing.
func TestMissesAtOnceOnAFullDisk(t *testing.T) {
	const pages = 500
	s := keptByHand(t, Settings{Memory: 8 << 20, Disk: 64 << 20})
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	s.Put(signedEntry(s, url(0), 1, 200), 0)
	must(t, s.diskWriter.flush())
	s.memory.clear() // and no look-up comes first, so that nothing is known of any
	s.diskWriter.failed(&fullError{fullErrors[0]})
	for n := range pages {
		s.Put(signedEntry(s, url(n), 2, 200), 0)
	}
	if n, _, _ := s.queue.state(); n != 1 {
		t.Errorf("%d deletions wait where one page is replaced", n)
	}
	s.memory.clear()
	if version, _ := found(t, s, url(0)); version != 0 {
		t.Errorf("version %d is found of what was replaced", version)
	}
}

// forgetful is a store with a page on disk that has been replaced when the disk was full, and more
// was to be deleted than is remembered.
func forgetful(t *testing.T, url string) *Store {
	t.Helper()
	s := keptByHand(t, manyReplaced)
	s.Put(signedEntry(s, url, 1, 200), 0)
	must(t, s.diskWriter.flush())
	s.diskWriter.failed(&fullError{fullErrors[0]})
	for n := range s.diskWriter.pausedBytes() / deletionCost {
		s.queue.push(deletion(uint64(1e9+n), keyOf(fmt.Sprint(n)), Removed))
	}
	s.Put(signedEntry(s, url, 2, 200), 0)
	if s.disk.up.Load() {
		t.Fatal("more may wait, so that this shows nothing")
	}
	return s
}

// TestStopRightAfterAFullDiskForgets: the disk writer was not told yet, and tried to write to the
// file as if it were read. What was replaced stayed in it, and what was in memory was lost.
func TestStopRightAfterAFullDiskForgets(t *testing.T) {
	const url = "http://example.com/"
	for _, told := range []bool{true, false} {
		s := forgetful(t, url)
		if !told {
			<-s.diskWriter.broken
		}
		s.diskWriter.drain()
		s.memory.clear()
		if version, _ := found(t, s, url); version != 2 {
			t.Errorf("told %v: version %d is on disk", told, version)
		}
	}
}

// TestForgetfulFileThatCannotBeRemoved: it is not opened before it can be.
func TestForgetfulFileThatCannotBeRemoved(t *testing.T) {
	const url = "http://example.com/"
	s := forgetful(t, url)
	remove := s.disk.takeAway
	s.disk.takeAway = func(time.Time) error { return errors.New("immutable") }
	s.diskWriter.reported(<-s.diskWriter.broken)
	if err := s.diskWriter.reopen(); err == nil || s.disk.up.Load() {
		t.Error("the file is opened again")
	}
	s.disk.takeAway = remove
	must(t, s.diskWriter.reopen())
	s.memory.clear()
	if version, _ := found(t, s, url); version != 0 {
		t.Errorf("version %d is on disk", version)
	}
}

// TestDeletionsOfAFullDiskAreBounded: beyond a share of memory they are not kept, and the file is
// not read any more.
func TestDeletionsOfAFullDiskAreBounded(t *testing.T) {
	for _, tt := range []struct {
		memory int64
		most   int
	}{{1 << 20, 1024}, {8 << 20, 4096}, {256 << 20, queueJobs / 2}, {512 << 20, queueJobs / 2}} {
		s := keptByHand(t, Settings{Memory: tt.memory, Disk: 64 << 20})
		s.diskWriter.failed(&fullError{fullErrors[0]})
		for n := range tt.most + 10 {
			if kept := s.queue.push(deletion(uint64(n), keyOf(fmt.Sprint(n)), Removed)); kept != (n < tt.most) || s.disk.up.Load() != kept {
				t.Fatalf("memory %d, %d of %d: %v, and the file is read: %v", tt.memory, n, tt.most, kept, s.disk.up.Load())
			}
		}
		if !s.queue.push(deletion(0, keyOf("0"), Removed)) {
			t.Error("one that waits already is refused")
		}
	}
}

// TestLongVariantsOnAFullDisk: what a variant was selected by may be as long as the header of a
// request. Deletions kept that, so that few requests cost the file.
func TestLongVariantsOnAFullDisk(t *testing.T) {
	const long, pages = 50_000, 64
	s := keptByHand(t, Settings{Memory: 8 << 20, Disk: 64 << 20})
	put := func() {
		for n := range pages {
			e := testEntry(s, fmt.Sprintf("http://example.com/%d", n), []byte("body"))
			e.Variant = Variant{Names: []string{"X"}, Values: []string{strings.Repeat("x", long)}}
			s.Put(e, 0)
		}
	}
	put()
	must(t, s.diskWriter.flush())
	s.memory.clear()
	s.diskWriter.failed(&fullError{fullErrors[0]})
	put()
	if n, bytes, _ := s.queue.state(); !s.disk.up.Load() || n != pages || bytes != pages*deletionCost {
		t.Errorf("%d wait of %d, and count %d bytes; the file is read: %v", n, pages, bytes, s.disk.up.Load())
	}
}

// TestVariantSums: equal variants have the same sum, and no others have.
func TestVariantSums(t *testing.T) {
	variants := []Variant{
		{},
		{Coding: "br"},
		{Names: []string{"br"}, Values: []string{""}},
		{Names: []string{"A"}, Values: []string{"bc"}},
		{Names: []string{"Ab"}, Values: []string{"c"}},
		{Names: []string{"A", "B"}, Values: []string{"", "c"}},
		{Names: []string{"A", "B"}, Values: []string{"c", ""}},
		{Names: []string{"A", "B"}, Values: []string{"c", ""}, Coding: "br"},
	}
	for i, v := range variants {
		for j, o := range variants {
			if alike := v.sum() == o.sum(); alike != (i == j) {
				t.Errorf("%v and %v have the same sum: %v", v, o, alike)
			}
		}
		if again := v; again.sum() != v.sum() {
			t.Errorf("%v has two sums", v)
		}
	}
}

// remove removes a page.
func remove(s *Store, url string) {
	r := s.Lookup(keyOf(url), matchAny)
	defer r.Release()
	s.Remove(r.Entry)
}

// outgrown has the disk be full as soon as the file would grow, and the store notice. The file has
// the free pages of so many entries of five pages each.
func (d *fullDisk) outgrown(t *testing.T, s *Store, given int) {
	t.Helper()
	for n := range given {
		s.Put(signedEntry(s, fmt.Sprintf("http://example.com/given/%d", n), 1, 20_000), 0)
	}
	must(t, s.Sync())
	for n := range given {
		remove(s, fmt.Sprintf("http://example.com/given/%d", n))
	}
	must(t, s.Sync())
	end := s.disk.size.Load()
	interceptWrites(t, s, func(write writeAt) writeAt {
		return func(p []byte, off int64) (int, error) {
			if off+int64(len(p)) > end {
				return 0, d.error("write")
			}
			return write(p, off)
		}
	})
	for n := range 100 {
		s.Put(signedEntry(s, fmt.Sprintf("http://example.com/new/%d", n), 1, 30_000), 0)
	}
	if err := s.Sync(); err == nil || s.Stats().Disk.State != "full" { // it may be noticed before
		t.Fatalf("Sync: %v, %+v", err, s.Stats().Disk)
	}
}

// TestFullDiskDeletesFirst: what waits to be deleted, and would give room, was in one transaction
// with what there was no room for, and was rolled back with that on each retry.
func TestFullDiskDeletesFirst(t *testing.T) {
	dir := t.TempDir()
	s, disk, clock, _ := onFullDisk(t, dir, bothTiers)
	old := putPages(t, s, 40)
	disk.outgrown(t, s, 20)
	for _, url := range old {
		remove(s, url)
	}
	clock.advance(retryTime)
	waitFor(t, func() bool { return s.Stats().Errors[DiskTier] >= 2 })
	if n := hits(t, killed(t, dir), old); n != 0 {
		t.Errorf("%d of %d that were removed are on disk", n, len(old))
	}
}

// TestFullDiskDeletesInSmallSteps: what waits to be deleted was in one transaction, which changes a
// page for each entry, and takes a free one for it. Where there were not so many it was rolled back
// on each retry, and nothing was ever written again. So it was with what a purge had hit, and with
// what had expired.
func TestFullDiskDeletesInSmallSteps(t *testing.T) {
	const pages, each, mostTries = 3000, 5, 8
	for name, deletes := range map[string]func(s *Store, clock *testClock, urls []string){
		"removed": func(s *Store, _ *testClock, urls []string) {
			for _, url := range urls {
				remove(s, url)
			}
		},
		"purged": func(s *Store, _ *testClock, urls []string) {
			if _, err := s.Purge(Selectors{URLs: urls}, PurgeOptions{}); err != nil {
				t.Error(err)
			}
		},
		"expired": func(_ *Store, clock *testClock, _ []string) { clock.advance(2 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, disk, clock, _ := onFullDisk(t, dir, bothTiers)
			var urls []string
			for n, url := range putPages(t, s, pages) {
				if n%each == 0 {
					urls = append(urls, url)
				}
			}
			disk.outgrown(t, s, 8)
			before := s.Stats().Errors[DiskTier]
			deletes(s, clock, urls)
			for tries := 0; ; tries++ {
				clock.advance(retryTime)
				waitFor(t, func() bool {
					st := s.Stats()
					waiting, _, _ := s.queue.state()
					return st.Errors[DiskTier] > before || waiting+int(s.memory.late.Load())+st.PurgesPending == 0 && (name != "expired" || st.Disk.Entries == 0)
				})
				left, pending := hits(t, killed(t, dir), urls), s.Stats().PurgesPending
				if left+pending == 0 {
					break
				}
				if tries == mostTries {
					t.Fatalf("%d of %d are on disk after %d retries, and %d purges are pending", left, len(urls), tries, pending)
				}
				before = s.Stats().Errors[DiskTier]
			}
		})
	}
}

// TestRenewalOnAFullDisk: one that was queued when the disk was found to be full had the large body
// deleted that it has in common with what it renews.
func TestRenewalOnAFullDisk(t *testing.T) {
	const url = "http://example.com/"
	dir := t.TempDir()
	s, disk, clock, _ := onFullDisk(t, dir, Settings{Memory: 1 << 20, Disk: 64 << 20})
	s.Put(signedEntry(s, url, 1, 2<<20), 0)
	must(t, s.Sync())
	disk.full.Store(true)
	if !renew(t, s, url, "1") {
		t.Fatal("not stored")
	}
	disk.fillUp(t, s)
	wantRenewed(t, s, url, 1, "")
	disk.makeRoom(t, s, clock)
	must(t, s.Sync())
	wantRenewed(t, s, url, 1, "")
	if !renew(t, s, url, "2") {
		t.Error("not stored when there is room")
	}
	must(t, s.Sync())
	wantRenewed(t, killed(t, dir), url, 1, "2")
	checkAgreement(t, s)
}

// renewedLarge is a store with a large body on disk, and one that renews it. That is put "before"
// the disk is found to be full, and waits in the queue alone, or it is refused, "while" that is
// found or "after" it.
func renewedLarge(t *testing.T, url, put string, change func(e *Entry)) *Store {
	t.Helper()
	s := keptByHand(t, Settings{Memory: 1 << 20, Disk: 64 << 20})
	s.Put(signedEntry(s, url, 1, 2<<20, "a"), 0)
	must(t, s.diskWriter.flush())
	want := RefusedFull
	switch put {
	case "before":
		want = Stored
	case "while":
		s.queue.pause(s.diskWriter.pausedBytes(), s.leavesRenewed)
	case "after":
		s.diskWriter.failed(&fullError{fullErrors[0]})
	}
	if got := renewAs(t, s, url, "1", change); got != want {
		t.Fatalf("the renewal is %v, want %v", got, want)
	}
	return s
}

// TestRenewalThatIsNotWritten: where there is no room to write one, what it renews stays on disk,
// as that alone has the body. But it was found again where the renewal had been purged by a tag of
// its own, and it did not have that tag for later purges, nor the shorter life. And where the queue
// refused it the body went.
func TestRenewalThatIsNotWritten(t *testing.T) {
	const url = "http://example.com/"
	addTag := func(e *Entry) { e.Tags = []string{"a", "b"} }
	for _, tt := range []struct {
		name          string
		change        func(e *Entry)
		before, after string // tags that are purged before and after
		want          int
	}{
		{"as it was", func(*Entry) {}, "", "", 1},
		{"with fewer tags", func(e *Entry) { e.Tags = nil }, "", "", 1},
		{"for longer", func(e *Entry) { e.KeepUntil = e.KeepUntil.Add(1) }, "", "b", 1},
		{"purged", addTag, "b", "", 0},
		{"purged as before", func(*Entry) {}, "a", "", 0},
		{"purged later", addTag, "", "b", 0},
		{"of another request", func(e *Entry) { e.Flags |= 8 }, "", "", 1},
		{"fresh for as long, in whole seconds", func(e *Entry) { e.FreshUntil = e.FreshUntil.Add(-time.Second) }, "", "", 1},
		{"fresh for less long", func(e *Entry) { e.FreshUntil = e.FreshUntil.Add(-time.Second - 1) }, "", "", 0},
		{"kept from earlier on", func(e *Entry) { e.KeptFrom = e.FreshUntil }, "", "", 0},
	} {
		for _, put := range []string{"before", "while", "after"} {
			if put != "before" && tt.before != "" {
				continue // there is no renewal to be purged
			}
			t.Run(tt.name+", put "+put, func(t *testing.T) {
				s := renewedLarge(t, url, put, tt.change)
				purge := func(tag string) {
					if tag != "" {
						purgeByHand(s, tag)
						for s.purges.pending() > 0 && len(s.diskWriter.sweeps.memory) > 0 {
							_, _ = s.diskWriter.sweepMemoryStep()
						}
					}
				}
				purge(tt.before)
				s.diskWriter.failed(&fullError{fullErrors[0]})
				purge(tt.after)
				if version, _ := found(t, s, url); version != tt.want {
					t.Errorf("version %d is found, want %d", version, tt.want)
				}
				s.diskWriter.drain()
				if version, _ := found(t, s, url); version != tt.want {
					t.Errorf("version %d is found when there is room, want %d", version, tt.want)
				}
			})
		}
	}
}

// TestRenewedTwiceOnAFullDisk: of two renewals of a body that were queued when the disk was found
// to be full the first had it deleted, as the second had taken its place. It is deleted where
// either says less of it.
func TestRenewedTwiceOnAFullDisk(t *testing.T) {
	const url = "http://example.com/"
	asItWas, tagged := func(*Entry) {}, func(e *Entry) { e.Tags = []string{"a", "b"} }
	for _, tt := range []struct {
		name          string
		first, second func(e *Entry)
		want          int
	}{
		{"as it was", asItWas, asItWas, 1},
		{"the first has another tag", tagged, asItWas, 0},
		{"the second has another tag", asItWas, tagged, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := renewedLarge(t, url, "before", tt.first)
			if got := renewAs(t, s, url, "2", tt.second); got != Stored {
				t.Fatalf("the second renewal is %v", got)
			}
			s.diskWriter.failed(&fullError{fullErrors[0]})
			if version, _ := found(t, s, url); version != tt.want {
				t.Errorf("version %d is found, want %d", version, tt.want)
			}
		})
	}
}

// TestRenewalOfWhatWasNotStored: one that was refused for lack of room had a deletion wait of no
// entry.
func TestRenewalOfWhatWasNotStored(t *testing.T) {
	const url = "http://example.com/"
	s := keptByHand(t, Settings{Memory: 1 << 20, Disk: 64 << 20})
	s.diskWriter.failed(&fullError{fullErrors[0]})
	old := signedEntry(s, url, 1, 2<<20)
	e := old.Renewal()
	e.Tags = []string{"another"}
	if got := s.Put(e, 0); got != RefusedFull {
		t.Fatalf("it is %v", got)
	}
	if n, _, _ := s.queue.state(); n > 0 {
		t.Errorf("%d deletions wait", n)
	}
}

// TestVariantsOnAFullDisk: each new variant of one URL had a deletion wait, and so had each that
// went for it. They filled the queue with what was never on disk.
func TestVariantsOnAFullDisk(t *testing.T) {
	const limit, there = 4, 2
	s, disk, clock, _ := onFullDisk(t, t.TempDir(), bothTiers)
	w := variantWorld{t, s, limit}
	for n := range there {
		w.put(fmt.Sprint("there ", n))
	}
	disk.fillUp(t, s)
	for n := range 500 {
		value := fmt.Sprint(n)
		if w.finds(value) {
			t.Fatalf("%s is there", value)
		}
		e := testEntry(s, variantURL, []byte(value))
		e.Variant = Variant{Names: []string{"Accept-Language"}, Values: []string{value}}
		if r := s.Put(e, limit); r != Stored || !w.finds(value) {
			t.Fatalf("put %s: %v", value, r)
		}
	}
	if n, _, _ := s.queue.state(); n > there {
		t.Errorf("%d deletions wait, of %d variants that were on disk", n, there)
	}
	for n := range there {
		if value := fmt.Sprint("there ", n); w.finds(value) {
			t.Errorf("%s is found", value)
		}
	}
	disk.makeRoom(t, s, clock)
	waitFor(t, func() bool { return s.memory.late.Load() == 0 })
	must(t, s.Sync())
	if n := s.Stats().Disk.Entries; n != limit+1 {
		t.Errorf("%d entries are on disk", n)
	}
	checkAgreement(t, s)
}

// TestRenewedVariantIsDropped: a variant that was renewed while the disk tier had failed was taken
// for one that is in memory alone when it went for another variant. What it had renewed was on
// disk, and was found again, also after it had been replaced.
func TestRenewedVariantIsDropped(t *testing.T) {
	const limit, large = 2, 200_000
	s := keptByHand(t, bothTiers)
	put := func(value string, version, size int) {
		t.Helper()
		e := signedEntry(s, variantURL, version, size)
		e.Variant = Variant{Names: []string{"Accept-Language"}, Values: []string{value}}
		if r := s.Put(e, limit); r != Stored {
			t.Fatalf("put %s: %v", value, r)
		}
	}
	look := func(value string) Result {
		return s.Lookup(keyOf(variantURL), func(v *Variant) int {
			if v.Values[0] == value {
				return 1
			}
			return 0
		})
	}
	version := func(value string) string {
		r := look(value)
		defer r.Release()
		if r.Entry == nil {
			return ""
		}
		return r.Entry.Header.Get("Version")
	}
	put("a", 1, large)
	put("b", 1, large)
	must(t, s.diskWriter.flush())
	s.diskWriter.failed(errors.New("an input/output error"))
	r := look("a")
	e := r.Entry.Renewal()
	if got := s.Put(e, limit); got != Stored {
		t.Fatal(got)
	}
	r.Release()
	must(t, s.attach())
	for range 4 {
		version("b") // which is used more than a
	}
	version("not there") // the disk is asked: these are all
	version("b")
	s.diskWriter.failed(&fullError{fullErrors[0]})
	put("c", 1, 100)
	if a, b, c := version("a"), version("b"), version("c"); a != "" || b != "1" || c != "1" {
		t.Errorf("versions %q, %q and %q are found of a, b and c", a, b, c)
	}
	put("a", 2, 100)
	s.Apply(Settings{Memory: 1, Disk: bothTiers.Disk})
	if v := version("a"); v != "" {
		t.Errorf("version %s of a is found, and was replaced", v)
	}
}

// TestRemovedOnAFullDisk: what was never on disk, stored and removed in turn, left a deletion each
// time, of which no two were the same.
func TestRemovedOnAFullDisk(t *testing.T) {
	const url = "http://example.com/"
	s := keptByHand(t, manyReplaced)
	s.Put(signedEntry(s, url, 1, 200), 0)
	must(t, s.diskWriter.flush())
	s.diskWriter.failed(&fullError{fullErrors[0]})
	for n := range 100 {
		s.Put(signedEntry(s, url, 2+n, 200), 0)
		r := s.Lookup(keyOf(url), matchAny)
		s.Remove(r.Entry)
		r.Release()
		if version, _ := found(t, s, url); version != 0 {
			t.Fatalf("version %d is found", version)
		}
	}
	if n, _, _ := s.queue.state(); n != 1 {
		t.Errorf("%d deletions wait of one entry on disk", n)
	}
	s.diskWriter.drain()
	if n := s.Stats().Disk.Entries; n != 0 {
		t.Errorf("%d entries are on disk when there is room", n)
	}
}

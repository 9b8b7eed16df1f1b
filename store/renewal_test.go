package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// renew stores the entry of a URL once more as a 304 does, under the header that is given; false
// when there is none.
func renew(t *testing.T, s *Store, url, count string) bool {
	t.Helper()
	return renewAs(t, s, url, count, func(*Entry) {}) == Stored
}

// renewAs is renew for a 304 that changes more of the entry.
func renewAs(t *testing.T, s *Store, url, count string, change func(e *Entry)) PutResult {
	t.Helper()
	ticket := s.Begin()
	defer ticket.End()
	r := s.Lookup(keyOf(url), matchAny)
	defer r.Release()
	if r.Entry == nil {
		return RefusedExpired
	}
	e := r.Entry.Renewal()
	e.Header = http.Header{"Version": r.Entry.Header["Version"], "Renewed": {count}}
	e.ResponseTime, e.Generation = s.now(), ticket.Generation()
	change(e)
	return s.Put(e, 0)
}

// wantRenewed checks the entry of a URL.
func wantRenewed(t *testing.T, s *Store, url string, version int, count string) {
	t.Helper()
	if got, _ := found(t, s, url); got != version {
		t.Errorf("%s: version %d, want %d", url, got, version)
	}
	r := s.Lookup(keyOf(url), matchAny)
	defer r.Release()
	if r.Entry == nil || r.Entry.Header.Get("Renewed") != count {
		t.Errorf("%s: entry %v, want it renewed by %q", url, r.Entry, count)
	}
}

// TestRenewalWritesNoBody: ten validations of 8 MiB wrote 80 MiB, and copied as much in memory.
func TestRenewalWritesNoBody(t *testing.T) {
	const size, url = 8 << 20, "http://example.com/"
	for name, settings := range map[string]Settings{
		"from memory": {Memory: 64 << 20, Disk: 64 << 20},
		"from disk":   {Memory: 1 << 20, Disk: 64 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, Config{Path: dir, Required: true}, settings)
			s.Put(signedEntry(s, url, 1, size, "tag"), 0)
			must(t, s.Sync())
			if !renew(t, s, url, "0") { // where it is read from now on
				t.Fatal("not stored")
			}
			must(t, s.Sync())
			var written int64
			interceptWrites(t, s, func(write writeAt) writeAt {
				return func(data []byte, off int64) (int, error) {
					written += int64(len(data))
					return write(data, off)
				}
			})
			before := s.Stats()
			for n := range 10 {
				if !renew(t, s, url, fmt.Sprint(n)) {
					t.Fatal("not stored")
				}
				must(t, s.Sync())
			}
			after := s.Stats()
			if written == 0 || written > size/2 {
				t.Errorf("%d bytes written to renew %d ten times", written, size)
			}
			if grown := after.Memory.Bytes - before.Memory.Bytes; grown > size/2 {
				t.Errorf("%d bytes more in memory", grown)
			}
			if after.Disk.Entries != 1 || after.Skipped > 0 {
				t.Errorf("%d entries on disk, %d skipped", after.Disk.Entries, after.Skipped)
			}
			wantRenewed(t, s, url, 1, "9")
			checkAgreement(t, s)
			must(t, s.Close())
			s = openStore(t, Config{Path: dir, Required: true}, settings)
			wantRenewed(t, s, url, 1, "9")
			if n, err := s.Purge(Selectors{Tags: []string{"tag"}}, PurgeOptions{}); n != 1 || err != nil {
				t.Errorf("Purge = %d, %v", n, err)
			}
			allSwept(t, s, 0)
			checkAgreement(t, s)
		})
	}
}

// TestRenewalInMemorySharesTheBody: what is counted is the record alone, and the bytes are given
// back with the last of those that have them.
func TestRenewalInMemorySharesTheBody(t *testing.T) {
	const size, url = 1 << 20, "http://example.com/"
	s := openStore(t, Config{}, Settings{Memory: 64 << 20})
	s.Put(signedEntry(s, url, 1, size), 0)
	first := s.Lookup(keyOf(url), matchAny)
	bytesOf := func(r Result) *byte {
		c, err := r.Entry.Body.Chunk(0)
		must(t, err)
		return &c[0]
	}
	before := s.memory.used.Load()
	for n := range 5 {
		renew(t, s, url, fmt.Sprint(n))
	}
	second := s.Lookup(keyOf(url), matchAny)
	if bytesOf(first) != bytesOf(second) {
		t.Error("the body was copied")
	}
	if grown := s.memory.used.Load() - before; grown > 64<<10 {
		t.Errorf("%d bytes more are counted", grown)
	}
	first.Release()
	s.Remove(second.Entry)
	if version, _ := found(t, s, url); version != 0 || s.Stats().Memory.Entries != 0 {
		t.Error("it is not removed")
	}
	if body, err := wholeBody(second.Entry.Body); err != nil || len(body) < size {
		t.Errorf("the body under its reader: %d bytes, %v", len(body), err)
	} else if _, err := readSigned(url, body); err != nil {
		t.Error(err)
	}
	second.Release()
	if n := s.memory.used.Load(); n != 0 {
		t.Errorf("%d bytes are counted in an empty store", n)
	}
}

// TestRenewalOfWhatIsNotThere: the record is not in the file any more, or not yet. Then the body is
// written again. What was replaced or removed is not renewed.
func TestRenewalOfWhatIsNotThere(t *testing.T) {
	const url = "http://example.com/"
	for name, before := range map[string]func(t *testing.T, s *Store, e *Entry){
		"replaced by what is still queued": func(t *testing.T, s *Store, _ *Entry) {
			s.Put(signedEntry(s, url, 2, 600_000), 0)
		},
		"renewed by what is still queued": func(_ *testing.T, s *Store, e *Entry) { s.Put(e.Renewal(), 0) },
		"renewed twice at once": func(t *testing.T, s *Store, e *Entry) {
			s.Put(e.Renewal(), 0)
			must(t, s.Sync())
		},
		"replaced": func(t *testing.T, s *Store, _ *Entry) {
			s.Put(signedEntry(s, url, 1, 100), 0)
			must(t, s.Sync())
		},
		"removed": func(t *testing.T, s *Store, e *Entry) { s.Remove(e); must(t, s.Sync()) },
		"another file": func(t *testing.T, s *Store, _ *Entry) {
			must(t, s.disk.drop(s.now()))
			waitFor(t, func() bool {
				_, _ = s.Purge(Selectors{URLs: []string{url}}, PurgeOptions{})
				return s.Stats().Errors[DiskTier] > 0
			})
		},
	} {
		for _, settings := range []Settings{bothTiers, {Memory: 1 << 20, Disk: 64 << 20}} {
			t.Run(fmt.Sprintf("%s, %d bytes of memory", name, settings.Memory), func(t *testing.T) {
				dir := t.TempDir()
				s := openStore(t, Config{Path: dir, Required: true}, settings)
				s.Put(signedEntry(s, url, 1, 3<<20), 0)
				must(t, s.Sync())
				r := s.Lookup(keyOf(url), matchAny)
				before(t, s, r.Entry)
				e := r.Entry.Renewal()
				e.Header = http.Header{"Version": {"1"}, "Renewed": {"late"}}
				e.Generation = s.purges.last.Load()
				result := s.Put(e, 0)
				r.Release()
				_ = s.Sync()
				refused := strings.HasPrefix(name, "replaced") || name == "removed" || name == "another file" // by a purge
				if refused != (result == RefusedOlder) {
					t.Errorf("Put = %v", result)
				}
				if refused {
					if r := s.Lookup(keyOf(url), matchAny); r.Entry != nil {
						if r.Entry.Header.Get("Renewed") != "" {
							t.Error("it is renewed")
						}
						r.Release()
					}
					checkAgreement(t, s)
					return
				}
				if result == Stored {
					wantRenewed(t, s, url, 1, "late")
				}
				checkAgreement(t, s)
				must(t, s.Close())
				s = openStore(t, Config{Path: dir, Required: true}, settings)
				if version, _ := found(t, s, url); version > 0 {
					wantRenewed(t, s, url, version, "late")
				} else {
					t.Error("nothing is left after a restart")
				}
				checkAgreement(t, s)
			})
		}
	}
}

// TestRenewalsAtRandom mixes renewals with all that moves entries: no body is ever another's, what
// was renewed last is found, and the counters agree in the end, over restarts too.
func TestRenewalsAtRandom(t *testing.T) {
	rng := seeded(t)
	dir := t.TempDir()
	settings := Settings{Memory: 3 << 20, Disk: 12 << 20}
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	const pages = 12
	var versions [pages]int
	for range rounds(3, 30) {
		s := openStore(t, Config{Path: dir, Required: true}, settings)
		var workers sync.WaitGroup
		for w := range 3 {
			rng := rand.New(rand.NewPCG(rng.Uint64(), uint64(w)))
			workers.Go(func() {
				for i := range 150 {
					n := rng.IntN(pages/3)*3 + w // each has pages of its own
					switch rng.IntN(12) {
					case 0, 1:
						versions[n]++
						s.Put(signedEntry(s, url(n), versions[n], rng.IntN(900_000), "tag", fmt.Sprint("tag", n)), 0)
					case 2:
						if _, err := s.Purge(Selectors{Tags: []string{fmt.Sprint("tag", n)}}, PurgeOptions{Severity: Severity(rng.IntN(4))}); err != nil {
							t.Errorf("Purge: %v", err)
						}
					case 3:
						r := s.Lookup(keyOf(url(n)), matchAny)
						if r.Entry != nil {
							s.Remove(r.Entry)
						}
						r.Release()
					case 4:
						must(t, s.Sync())
					case 5, 6, 7, 8:
						renew(t, s, url(n), fmt.Sprint(i))
					default:
						if version, _ := found(t, s, url(n)); version != 0 && version != versions[n] {
							t.Errorf("%s: version %d, stored last was %d", url(n), version, versions[n])
						}
					}
				}
			})
		}
		workers.Wait()
		for n := range pages {
			if renew(t, s, url(n), "last") {
				if r := s.Lookup(keyOf(url(n)), matchAny); r.Entry != nil && !bytes.Equal([]byte(r.Entry.Header.Get("Renewed")), []byte("last")) {
					t.Errorf("%s: an older header is found", url(n))
				} else {
					r.Release()
				}
			}
		}
		checkAgreement(t, s)
		must(t, s.Close())
	}
}

// TestRenewalOfWhatWasPurged: a 304 that brings other tags, or another URL, took the entry out of
// reach of a purge that had answered before it came.
func TestRenewalOfWhatWasPurged(t *testing.T) {
	const url, later = "http://example.com/p?u=x", "http://example.com/p"
	for name, sel := range map[string]Selectors{
		"tag":    {Tags: []string{"old"}},
		"url":    {URLs: []string{url}},
		"prefix": {Prefixes: []string{url}},
	} {
		for _, severity := range []Severity{Soft, Invalid, Hard} {
			t.Run(fmt.Sprintf("%s, %v", name, severity), func(t *testing.T) {
				s := openStore(t, Config{}, Settings{Memory: 1 << 20})
				s.Put(signedEntry(s, url, 1, 100, "old"), 0)
				ticket := s.Begin()
				defer ticket.End()
				r := s.Lookup(keyOf(url), matchAny)
				defer r.Release()
				if n, err := s.Purge(sel, PurgeOptions{Severity: severity}); n != 1 || err != nil {
					t.Fatalf("purged %d: %v", n, err)
				}
				e := r.Entry.Renewal()
				e.URL, e.Tags, e.Generation = later, []string{"new"}, ticket.Generation()
				if result := s.Put(e, 0); result != RefusedPurged {
					t.Errorf("stored all the same: %v", result)
				}
				after := s.Lookup(keyOf(url), matchAny)
				defer after.Release()
				if gone := severity == Hard; gone != (after.Entry == nil) || !gone && after.Severity != severity {
					t.Errorf("found %v, %v", after.Entry, after.Severity)
				}
			})
		}
	}
}

// TestRenewalUnderAnotherURL: a body that is large is written again with the URL that it has now.
func TestRenewalUnderAnotherURL(t *testing.T) {
	const size, url, later = 8 << 20, "http://example.com/p?u=x", "http://example.com/p"
	for name, settings := range map[string]Settings{
		"from memory": {Memory: 64 << 20, Disk: 64 << 20},
		"from disk":   {Memory: 1 << 20, Disk: 64 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, Config{Path: t.TempDir(), Required: true}, settings)
			s.Put(signedEntry(s, url, 1, size, "tag"), 0)
			must(t, s.Sync())
			ticket := s.Begin()
			r := s.Lookup(keyOf(url), matchAny)
			e := r.Entry.Renewal()
			e.URL, e.Tags, e.Generation, e.ResponseTime = later, nil, ticket.Generation(), s.now()
			if result := s.Put(e, 0); result != Stored {
				t.Fatal(result)
			}
			r.Release()
			ticket.End()
			must(t, s.Sync())
			wantBody := func() {
				t.Helper()
				after := s.Lookup(keyOf(url), matchAny)
				defer after.Release()
				if after.Entry == nil || after.Entry.URL != later {
					t.Fatalf("found %+v", after.Entry)
				}
				if body := bodyOf(t, after.Entry); !bytes.Equal(body, signedBody(url, 1, size)) {
					t.Errorf("the body is another, of %d bytes", len(body))
				}
			}
			wantBody()
			if n, err := s.Purge(Selectors{URLs: []string{url}}, PurgeOptions{}); n != 0 || err != nil {
				t.Errorf("by the URL of before %d were purged: %v", n, err)
			}
			wantBody()
			if n, err := s.Purge(Selectors{URLs: []string{later}}, PurgeOptions{}); n != 1 || err != nil {
				t.Errorf("%d were purged: %v", n, err)
			}
		})
	}
}

// TestRenewalOfWhatIsRemovedCountsOnce: where one batch evicts an entry and writes its renewal
// under the same id, the renewal is in memory and on disk, and a purge counts it once.
func TestRenewalOfWhatIsRemovedCountsOnce(t *testing.T) {
	s := keptByHand(t, Settings{Memory: 64 << 20, Disk: 64 << 20})
	const url = "http://example.com/"
	s.Put(testEntry(s, url, make([]byte, 3*chunkSize)), 0)
	if err := s.diskWriter.flush(); err != nil {
		t.Fatal(err)
	}
	r := s.Lookup(keyOf(url), matchAny)
	defer r.Release()
	s.queue.push(deletion(r.Entry.ID, r.Entry.Key, Capacity))
	renewal := r.Entry.Renewal()
	if got := s.Put(renewal, 0); got != Stored || renewal.ID != r.Entry.ID {
		t.Fatalf("Put = %v, id %d of %d", got, renewal.ID, r.Entry.ID)
	}
	if err := s.diskWriter.flush(); err != nil {
		t.Fatal(err)
	}
	sh := s.memory.shard(keyOf(url))
	key := keyOf(url)
	if it := sh.find(&key, renewal.ID); it == nil || !it.is(isOnDisk) {
		t.Errorf("the renewal is in memory %v, and not known to be on disk", it != nil)
	}
}

package store

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/slots"
)

// What is simulated here, and what not. bbolt commits in three steps: the file is made longer where
// it must be, and synced; the changed pages are written to places that no committed state uses, and
// synced; one of the two meta pages is written, and synced. A loss of power between two syncs
// leaves any part of what was written since the first of them, in any order, torn at any sector.
// The test records the writes of a working store as bbolt makes them, takes the file as it was
// before a transaction, and adds such parts: every file that can come out opens as it was before
// the transaction or after it, purges included, and goes on working. Of what was written to the
// file of large bodies since it was synced any part is left, too. A disk that does not keep to
// its syncs can leave the meta page without the pages it speaks of. Of that no state can be
// promised; bodies are right or there are none, and nothing crashes.

const (
	powerURLs = 40
	powerTags = 4
	sector    = 512
	pageBytes = 4096
)

var powerTier = Settings{Memory: 1, Disk: 8 << 20}

// commit is one transaction as it went to the file.
type commit struct {
	before []byte // the file
	size   int64  // of the file from then on
	pages  []pageWrite
	meta   pageWrite
	bodies bodiesImage
}

// bodiesImage is the file of large bodies: as it was synced, and what has been written since.
type bodiesImage struct {
	synced []byte
	since  []pageWrite
}

// torn is that file after a loss of power.
func (b *bodiesImage) torn(rng *rand.Rand) []byte {
	image := bytes.Clone(b.synced)
	for _, w := range b.since {
		if rng.IntN(2) == 0 {
			image = longer(image, w.off+int64(len(w.data)))
			tear(rng, image, w)
		}
	}
	return image
}

// longer is an image of at least so many bytes.
func longer(image []byte, n int64) []byte {
	return append(image, make([]byte, max(0, n-int64(len(image))))...)
}

// bodiesRecorder is the file of large bodies, and keeps what is written to it. That it gets shorter
// is left out: no row leads to what is cut off.
type bodiesRecorder struct {
	slots.Storage
	r *recorder
}

func (b bodiesRecorder) WriteAt(p []byte, off int64) (int, error) {
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	b.r.bodies.since = append(slices.Clip(b.r.bodies.since), pageWrite{off, bytes.Clone(p)})
	return b.Storage.WriteAt(p, off)
}

func (b bodiesRecorder) Sync() error {
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	image := bytes.Clone(b.r.bodies.synced)
	for _, w := range b.r.bodies.since {
		image = longer(image, w.off+int64(len(w.data)))
		copy(image[w.off:], w.data)
	}
	b.r.bodies = bodiesImage{synced: image}
	return b.Storage.Sync()
}

type pageWrite struct {
	off  int64
	data []byte
}

// recorder keeps what is written.
type recorder struct {
	mu      sync.Mutex
	file    string
	image   []byte // the file after the commits
	commits []commit
	pages   []pageWrite // of the transaction under way
	bodies  bodiesImage
	fault   error
}

func (r *recorder) wrap(write writeAt) writeAt {
	return func(data []byte, off int64) (int, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		w := pageWrite{off, bytes.Clone(data)}
		if off >= 2*pageBytes {
			r.pages = append(r.pages, w)
			return write(data, off)
		}
		info, err := os.Stat(r.file)
		if err != nil {
			r.fault = err
			return write(data, off)
		}
		c := commit{before: r.image, size: info.Size(), pages: r.pages, meta: w, bodies: r.bodies}
		r.commits, r.pages, r.image = append(r.commits, c), nil, c.after()
		return write(data, off)
	}
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.commits)
}

// grown is the file of a length; what is new is zero.
func (c *commit) grown() []byte {
	return append(bytes.Clone(c.before), make([]byte, max(0, c.size-int64(len(c.before))))...)
}

// after is the file once the transaction is done.
func (c *commit) after() []byte {
	image := c.grown()
	for _, w := range append(slices.Clip(c.pages), c.meta) {
		copy(image[w.off:], w.data)
	}
	return image
}

// tear writes a random part of w: whole pages, or sectors of some of them.
func tear(rng *rand.Rand, image []byte, w pageWrite) {
	for at := 0; at < len(w.data); at += pageBytes {
		step := pageBytes
		if rng.IntN(3) == 0 {
			step = sector
		}
		for from := at; from < min(at+pageBytes, len(w.data)); from += step {
			if rng.IntN(2) == 0 {
				copy(image[w.off+int64(from):], w.data[from:min(from+step, len(w.data))])
			}
		}
	}
}

// cut is the file after a loss of power somewhere within the transaction.
func (c *commit) cut(rng *rand.Rand) (image []byte, how string) {
	switch rng.IntN(4) {
	case 0:
		return c.grown()[:len(c.before)+rng.IntN(int(c.size)-len(c.before)+1)], "while it grows"
	case 1:
		image = c.grown()
		for _, w := range c.pages[:rng.IntN(len(c.pages)+1)] { // in order, the last one torn
			copy(image[w.off:], w.data)
		}
		tear(rng, image, c.pages[rng.IntN(len(c.pages))])
		return image, "while pages are written, in order"
	case 2:
		image = c.grown()
		for _, w := range c.pages {
			tear(rng, image, w)
		}
		return image, "while pages are written, in any order"
	default:
		image = c.grown()
		for _, w := range c.pages {
			copy(image[w.off:], w.data)
		}
		copy(image[c.meta.off:], c.meta.data[:rng.IntN(128)]) // its checksum is within
		return image, "while the meta page is written"
	}
}

// lied is the file after a disk has written the meta page before the others, and not all of them.
func (c *commit) lied(rng *rand.Rand) []byte {
	image := c.grown()
	for _, w := range c.pages {
		tear(rng, image, w)
	}
	copy(image[c.meta.off:], c.meta.data)
	return image
}

// sight is what a store shows of an image: versions by URL, what purges have made of them by
// severityKey, and its position.
type sight map[string]int

// severityKey is where a sight has what purges have made of a URL.
func severityKey(url string) string { return "severity of " + url }

// look opens a store on an image. The caller closes it.
func look(t *testing.T, dir string, image, bodies []byte) (*Store, sight) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, BodiesName), bodies, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), image, 0o600); err != nil {
		t.Fatal(err)
	}
	clock := newTestClock()
	s := openStore(t, Config{Path: dir, Required: true, Now: clock.now}, powerTier)
	seen := sight{}
	for n := range powerURLs {
		version, severity := found(t, s, powerURL(n))
		if version != 0 {
			seen[powerURL(n)], seen[severityKey(powerURL(n))] = version, int(severity)
		}
	}
	if p := positionOf(s); p != 0 {
		seen[positionKey] = p
	}
	return s, seen
}

func powerURL(n int) string { return fmt.Sprintf("http://example.com/%d", n) }

// promises are what was answered by the time so many transactions had been committed.
type promises struct {
	commits int
	least   map[string]int // versions that Sync has vouched for, but for what was purged since
	purged  map[string]int // the latest version that a hard purge has answered for
	marked  map[string]answeredMark
}

// answeredMark is up to which version a purge has answered for, and as what these are to be found.
type answeredMark struct {
	version  int
	severity Severity
}

// recordLife has a store live for a while: it is filled, refilled, purged and swept.
func recordLife(t *testing.T, rng *rand.Rand, steps int) ([]commit, []promises) {
	t.Helper()
	dir := t.TempDir()
	clock := newTestClock()
	r := &recorder{file: filepath.Join(dir, FileName)}
	s := New(Config{Path: dir, Required: true, Now: clock.now}, powerTier)
	s.disk.bodiesStorage = func(f *os.File) slots.Storage { return bodiesRecorder{f, r} }
	must(t, s.Open())
	t.Cleanup(func() { _ = s.Close() })
	interceptWrites(t, s, func(write writeAt) writeAt {
		var err error
		if r.image, err = os.ReadFile(r.file); err != nil {
			t.Fatal(err)
		}
		return r.wrap(write)
	})
	put, least, purged, marked := map[string]int{}, map[string]int{}, map[string]int{}, map[string]answeredMark{}
	var answered []promises
	for version := 1; version <= steps; version++ {
		for range 1 + rng.IntN(12) {
			n, size := rng.IntN(powerURLs), rng.IntN(1_500)
			if rng.IntN(8) == 0 {
				size = rng.IntN(3 * chunkSize)
			}
			if r := s.Put(signedEntry(s, powerURL(n), version, size, fmt.Sprintf("t%d", n%powerTags)), 0); r != Stored {
				t.Fatalf("Put = %v", r)
			}
			put[powerURL(n)] = version
		}
		if rng.IntN(3) > 0 {
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			maps.Copy(least, put)
		}
		if rng.IntN(4) == 0 {
			tag, severity := rng.IntN(powerTags), []Severity{Hard, Hard, Invalid, Soft}[rng.IntN(4)]
			req := beginPurge(t, s, Selectors{Tags: []string{fmt.Sprintf("t%d", tag)}}, PurgeOptions{Severity: severity})
			must(t, s.SetPosition(idBytes(uint64(version))))
			if _, err := req.Wait(); err != nil {
				t.Fatal(err)
			}
			for n := tag; n < powerURLs; n += powerTags {
				url := powerURL(n)
				if severity != Hard {
					marked[url] = answeredMark{version, severity}
					continue
				}
				delete(least, url)
				delete(put, url)
				purged[url] = version
			}
		}
		answered = append(answered, promises{r.count(), maps.Clone(least), maps.Clone(purged), maps.Clone(marked)})
	}
	if err := s.Close(); err != nil || r.fault != nil {
		t.Fatal(err, r.fault)
	}
	return r.commits, answered
}

// check holds a sight of the file after so many commits to what had been answered by then. purged
// is what has been purged in the end.
func (p *promises) check(t *testing.T, seen sight, commits int, purged map[string]int) {
	t.Helper()
	if commits < p.commits {
		return
	}
	for url, version := range p.least {
		if got := seen[url]; got < version && purged[url] < version { // else a later purge may have taken it away
			t.Errorf("after %d commits: %s: version %d, want %d", commits, url, got, version)
		}
	}
	p.checkPurges(t, seen, fmt.Sprintf("after %d commits", commits))
}

// checkPurges holds a sight to the purges that had been answered.
func (p *promises) checkPurges(t *testing.T, seen sight, when string) {
	t.Helper()
	for url, version := range p.purged {
		if got := seen[url]; got > 0 && got <= version {
			t.Errorf("%s: %s: version %d is there, which was purged at %d", when, url, got, version)
		}
	}
	for url, m := range p.marked {
		if got, is := seen[url], Severity(seen[severityKey(url)]); got > 0 && got <= m.version && is < m.severity {
			t.Errorf("%s: %s: version %d is %v, and was made %v at %d", when, url, got, is, m.severity, m.version)
		}
	}
}

// TestFaultPowerLoss cuts the power within the transactions of a store.
func TestFaultPowerLoss(t *testing.T) {
	rng := seeded(t)
	commits, answered := recordLife(t, rng, rounds(25, 120))
	images := 0
	for i, c := range commits {
		if len(c.pages) == 0 || rng.IntN(len(commits)) > rounds(10, 1<<20) {
			continue
		}
		var bodies bodiesImage // before the transaction wrote to it
		if i > 0 {
			bodies = commits[i-1].bodies
		}
		before, after := cleanSight(t, c.before, bodies.torn(rng)), cleanSight(t, c.after(), c.bodies.torn(rng))
		for _, p := range answered {
			p.check(t, after, i+1, answered[len(answered)-1].purged)
		}
		checkPosition(t, before, answered)
		checkPosition(t, after, answered)
		for range rounds(4, 40) {
			image, how := c.cut(rng)
			dir := t.TempDir()
			s, seen := look(t, dir, image, c.bodies.torn(rng))
			if !maps.Equal(seen, before) && !maps.Equal(seen, after) {
				t.Errorf("commit %d, %s: %v is neither what was before, %v, nor what came, %v", i, how, seen, before, after)
			}
			if aside := asideFiles(t, dir); len(aside) > 0 {
				t.Errorf("commit %d, %s: set aside %q", i, how, aside)
			}
			goOn(t, s)
			checkAgreement(t, s)
			closeAndForget(t, s, dir)
			images++
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d transactions, %d files after a loss of power", len(commits), images)
	if images == 0 {
		t.Error("nothing was tried")
	}
}

// TestFaultLyingDisk leaves out pages that were synced.
func TestFaultLyingDisk(t *testing.T) {
	rng := seeded(t)
	commits, _ := recordLife(t, rng, rounds(25, 120))
	aside, images := 0, 0
	for _, c := range commits {
		if len(c.pages) == 0 || rng.IntN(len(commits)) > rounds(10, 1<<20) {
			continue
		}
		for range rounds(3, 30) {
			dir := t.TempDir()
			s, _ := look(t, dir, c.lied(rng), c.bodies.torn(rng))
			for n := range powerURLs {
				s.Put(signedEntry(s, powerURL(n), 1<<20, 3_000, "t0"), 0)
			}
			// May find the damage.
			_, _ = s.Purge(Selectors{Prefixes: []string{powerURL(1)}}, PurgeOptions{})
			_ = s.Sync()
			for n := range powerURLs {
				found(t, s, powerURL(n))
			}
			aside += min(1, len(asideFiles(t, dir)))
			closeAndForget(t, s, dir)
			images++
		}
	}
	t.Logf("%d transactions, %d files of a disk that lied, %d of them set aside", len(commits), images, aside)
}

// TestFaultPowerLossAtFirstStart cuts the power while a new file is begun.
func TestFaultPowerLossAtFirstStart(t *testing.T) {
	rng := seeded(t)
	begun := filepath.Join(t.TempDir(), "begun")
	edit(t, begun, func(*bbolt.Tx) error { return nil })
	whole, err := os.ReadFile(begun)
	if err != nil {
		t.Fatal(err)
	}
	for round := range rounds(10, 1000) {
		image := make([]byte, rng.IntN(len(whole)+1))
		if round%2 == 0 {
			image = make([]byte, len(whole))
		}
		for at := 0; at < len(image); at += sector {
			if rng.IntN(2) == 0 {
				copy(image[at:min(at+sector, len(image))], whole[at:])
			}
		}
		dir := t.TempDir()
		s, seen := look(t, dir, image, nil)
		if len(seen) > 0 {
			t.Errorf("an empty file shows %v", seen)
		}
		goOn(t, s)
		checkAgreement(t, s)
		closeAndForget(t, s, dir)
	}
}

// cleanSight is what is seen of a whole file.
func cleanSight(t *testing.T, image, bodies []byte) sight {
	t.Helper()
	dir := t.TempDir()
	s, seen := look(t, dir, image, bodies)
	closeAndForget(t, s, dir)
	return seen
}

// goOn uses a store that has just been opened.
func goOn(t *testing.T, s *Store) {
	t.Helper()
	const url = "http://example.com/later"
	s.Put(signedEntry(s, url, 1, 3_000, "later"), 0)
	if err := s.Sync(); err != nil {
		t.Errorf("Sync: %v", err)
	}
	if version, _ := found(t, s, url); version != 1 {
		t.Errorf("%s: version %d", url, version)
	}
	if n, err := s.Purge(Selectors{Tags: []string{"later"}}, PurgeOptions{}); n != 1 || err != nil {
		t.Errorf("Purge = %d, %v", n, err)
	}
	if version, _ := found(t, s, url); version != 0 {
		t.Errorf("%s is there after its purge", url)
	}
}

func closeAndForget(t *testing.T, s *Store, dir string) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

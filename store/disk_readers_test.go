package store

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"
)

// stalledClient takes as many pieces as the test lets it, and then hangs until it is interrupted.
type stalledClient struct {
	take    chan struct{}
	waiting chan struct{} // one for each piece that it does not take yet
	cut     chan struct{}
	done    chan error
}

// Write implements io.Writer.
func (c *stalledClient) Write(p []byte) (int, error) {
	c.waiting <- struct{}{}
	select {
	case <-c.take:
		return len(p), nil
	case <-c.cut:
		return 0, os.ErrDeadlineExceeded
	}
}

// Interrupt implements Interrupter.
func (c *stalledClient) Interrupt() int {
	close(c.cut)
	return 1
}

// stall stores a body, has a client read it that hangs, and deletes it.
func stall(t *testing.T, s *Store, url string, size int) *stalledClient {
	t.Helper()
	return stallAt(t, s, url, size, 0)
}

// stallAfter has the client take some pieces of 7 MiB first.
func stallAfter(t *testing.T, s *Store, pieces int) *stalledClient {
	t.Helper()
	return stallThen(t, s, "http://example.com/", 7<<20, 0, func(c *stalledClient) {
		for range pieces {
			c.take <- struct{}{}
			<-c.waiting
		}
	})
}

// stallAt has the client read from an offset on.
func stallAt(t *testing.T, s *Store, url string, size int, off int64) *stalledClient {
	t.Helper()
	return stallThen(t, s, url, size, off, func(*stalledClient) {})
}

// stallThen calls a function before the body is deleted.
func stallThen(t *testing.T, s *Store, url string, size int, off int64, fn func(*stalledClient)) *stalledClient {
	t.Helper()
	if r := s.Put(testEntry(s, url, make([]byte, size)), 0); r != Stored {
		t.Fatalf("%s: %v", url, r)
	}
	must(t, s.diskWriter.flush())
	c := &stalledClient{
		take: make(chan struct{}), waiting: make(chan struct{}, 1), cut: make(chan struct{}), done: make(chan error, 1),
	}
	r := s.Lookup(keyOf(url), matchAny)
	if !r.ReadsDisk() {
		t.Fatalf("%s is not read from the disk", url)
	}
	go func() {
		_, err := WriteBody(c, r.Entry.Body, off, int64(size)-off, c)
		r.Release()
		c.done <- err
	}()
	<-c.waiting
	fn(c)
	s.Remove(r.Entry)
	must(t, s.diskWriter.flush())
	return c
}

// wantCut fails the test unless WriteBody ends with an error.
func (c *stalledClient) wantCut(t *testing.T) {
	t.Helper()
	if err := <-c.done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("WriteBody: %v", err)
	}
}

// wantInterrupted waits until so many clients count as broken off.
func wantInterrupted(t *testing.T, s *Store, want uint64) {
	t.Helper()
	for s.Stats().Interrupted < want {
		runtime.Gosched()
	}
	if n := s.Stats().Interrupted; n != want {
		t.Fatalf("%d clients are broken off, want %d", n, want)
	}
}

// end lets the client go, as if it had left.
func (c *stalledClient) end() {
	close(c.cut)
	<-c.done
}

// readersByHand is a store with a small file, whose disk writer and clock are the test's.
func readersByHand(t *testing.T, log *lineLog) (*Store, *testClock) {
	t.Helper()
	fillsByLength(t)
	s := keptByHand(t, Settings{Memory: 1, Disk: 16 << 20})
	clock := newTestClock()
	s.diskWriter.now = clock.now
	if log != nil {
		s.diskWriter.log = slog.New(slog.NewTextHandler(log, nil))
	}
	return s, clock
}

// TestReadersThatTakeNothingOfWhatIsDeleted: they keep large bodies from the disk, and are broken
// off after 30 s: no more of them than that takes, those first that have waited the longest, and
// not the one that takes a piece now and then.
func TestReadersThatTakeNothingOfWhatIsDeleted(t *testing.T) {
	log := new(lineLog)
	s, clock := readersByHand(t, log)
	slow := stall(t, s, "http://example.com/slow", 1<<20)
	s.diskWriter.breakOff()
	first := stall(t, s, "http://example.com/first", 1<<20)
	s.diskWriter.breakOff()
	clock.advance(idleTime / 10)
	later := []*stalledClient{
		stall(t, s, "http://example.com/later/0", 1<<20), stall(t, s, "http://example.com/later/1", 1<<20),
	}
	if r := s.Put(testEntry(s, "http://example.com/large", make([]byte, 1<<20)), 0); r != RefusedFull {
		t.Errorf("4 MiB of 16 are deleted and read, and one more is %v", r)
	}
	for range 9 {
		s.diskWriter.breakOff()
		clock.advance(idleTime / 10)
		slow.take <- struct{}{}
		<-slow.waiting
	}
	if n := s.Stats().Interrupted; n != 0 {
		t.Errorf("%d were broken off before their time", n)
	}
	s.diskWriter.breakOff()
	wantInterrupted(t, s, 1)
	first.wantCut(t)
	clock.advance(idleTime / 10)
	s.diskWriter.breakOff()
	wantInterrupted(t, s, 2)
	cut := 0
	for _, c := range later {
		select {
		case <-c.cut:
			c.wantCut(t)
			cut++
		default:
		}
	}
	if held := s.Stats().DiskHeld; cut != 1 || held > 2<<20 || held == 0 {
		t.Errorf("%d of 2 that came later were broken off, %d bytes are held", cut, held)
	}
	if r := s.Put(testEntry(s, "http://example.com/large", make([]byte, 1<<20)), 0); r != Stored {
		t.Errorf("a large body is %v then", r)
	}
	for _, c := range append(later, slow) {
		select {
		case <-c.cut:
		default:
			c.end()
		}
	}
	if n := s.Stats().DiskHeld; n != 0 || len(s.disk.pins.readers) > 0 {
		t.Errorf("%d bytes are held, and %d bodies read, by no client", n, len(s.disk.pins.readers))
	}
	clock.advance(calmTime)
	s.diskWriter.breakOff()
	s.diskWriter.breakOff()
	log.wantOnce(t, "hold much of what was deleted", "level=WARN", "held_bytes=", "disk=16777216")
	log.wantOnce(t, "takes in large bodies again", "level=INFO")
}

// TestReaderOnDiskWithTheRecordInMemory: the reader of a body on disk is known as one where memory
// has the record. Else it could not be broken off for what comes.
func TestReaderOnDiskWithTheRecordInMemory(t *testing.T) {
	s := keptByHand(t, Settings{Memory: 8 << 20, Disk: 16 << 20})
	const url, size = "http://example.com/", 7 << 20
	s.Put(testEntry(s, url, make([]byte, size)), 0)
	must(t, s.diskWriter.flush())
	if !renew(t, s, url, "1") { // brings the record to memory
		t.Fatal("not renewed")
	}
	r := s.Lookup(keyOf(url), matchAny)
	if r.item == nil || r.pinned == nil {
		t.Fatalf("found %+v", r)
	}
	c := &stalledClient{
		take: make(chan struct{}), waiting: make(chan struct{}, 1), cut: make(chan struct{}), done: make(chan error, 1),
	}
	go func() {
		_, err := r.WriteBody(c, r.Entry.Body, 0, -1, c)
		c.done <- err
	}()
	<-c.waiting
	pins := &s.disk.pins
	pins.mu.Lock()
	if n := len(pins.readers[r.pinned.id]); n != 1 {
		t.Errorf("%d readers of the body are known, want 1", n)
	}
	pins.mu.Unlock()
	c.end()
	r.Release()
}

// TestPaceOfReadersOfWhatIsDeleted: the system has what a slow client was sent at once, and takes
// nothing more for it before a third of its buffer is free. It is broken off if it takes less than
// 8 KiB/s, and no sooner: one at 20 kB/s was after 30 s. Who takes a piece now and then does not
// have its body for as long as it likes.
func TestPaceOfReadersOfWhatIsDeleted(t *testing.T) {
	const third = 4 << 20 / 3 / pieceSize // pieces
	for _, tc := range []struct {
		name         string
		before       int // pieces that it has taken before the body was deleted
		pieces       int // that it takes each time
		each         time.Duration
		rounds       int           // until it stops
		from, within time.Duration // when it is broken off then
	}{
		{"20 kB/s", third, third, 70 * time.Second, 4, idleTime, 201 * time.Second},
		{"10 kB/s", third, third, 140 * time.Second, 3, idleTime, 201 * time.Second},
		{"has taken nothing", 0, 0, 0, 0, 30 * time.Second, 31 * time.Second},
		{"has taken a piece", 1, 0, 0, 0, 34 * time.Second, 35 * time.Second},
		{"has taken much and stops", 2 * third, 0, 0, 0, 200 * time.Second, 202 * time.Second},
		{"a piece now and then", 0, 1, 20 * time.Second, 1, 13 * time.Second, 14 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, clock := readersByHand(t, nil)
			c := stallAfter(t, s, tc.before)
			advance := func(d time.Duration) (passed time.Duration) {
				for s.diskWriter.breakOff(); passed < d && !c.isCut(); passed += time.Second {
					clock.advance(time.Second)
					for _, r := range s.disk.pins.idle(clock.now(), 0) {
						r.Interrupt()
					}
				}
				return passed
			}
			advance(time.Second)
			for range tc.rounds {
				if passed := advance(tc.each); passed < tc.each {
					t.Fatalf("broken off after %v", passed)
				}
				for range tc.pieces {
					c.take <- struct{}{}
					<-c.waiting
				}
			}
			if passed := advance(time.Hour); passed < tc.from-2*time.Second || passed > tc.within {
				t.Errorf("broken off %v after it has stopped", passed)
			}
			c.wantCut(t)
		})
	}
}

// isCut tells whether the client was broken off.
func (c *stalledClient) isCut() bool {
	select {
	case <-c.cut:
		return true
	default:
		return false
	}
}

// TestInterruptedAtTheEnd: a client that is broken off while it takes the last piece has no whole
// answer.
func TestInterruptedAtTheEnd(t *testing.T) {
	s, clock := readersByHand(t, nil)
	c := stallAt(t, s, "http://example.com/", 3<<20, 3<<20-100)
	s.diskWriter.breakOff()
	clock.advance(idleTime)
	readers := s.disk.pins.idle(clock.now(), 0)
	if len(readers) != 1 {
		t.Fatalf("%d readers are idle", len(readers))
	}
	reader := readers[0].(*clientReader)
	reader.client = &calling{func() { c.take <- struct{}{} }} // it takes it just now
	reader.Interrupt()
	if err := <-c.done; !errors.Is(err, ErrIdle) {
		t.Errorf("WriteBody: %v", err)
	}
	reader.client = &calling{func() { t.Error("interrupted after WriteBody") }}
	reader.Interrupt()
}

// TestPartsGiveNoMoreTime: a client that reads a deleted body in parts, as an answer to many ranges
// does, had another 30 s with each of them, and so its body for as long as there were parts. Of
// another client the first part gives them.
func TestPartsGiveNoMoreTime(t *testing.T) {
	for _, same := range []bool{true, false} {
		s, clock := readersByHand(t, nil)
		p := &s.disk.pins
		const id = 1 << 40
		p.pin(id, 3<<20)
		p.delete(id, 3<<20)
		client := &calling{func() {}}
		broken := 0
		for range 10 {
			if !same {
				client = &calling{func() {}}
			}
			r := &clientReader{client: client}
			p.addReader(id, r)
			broken += len(p.idle(clock.now(), 0))
			clock.advance(20 * time.Second)
			broken += len(p.idle(clock.now(), 0))
			p.removeReader(id, r)
		}
		if broken == 0 == same {
			t.Errorf("of one client %v: broken off %d times", same, broken)
		}
		p.unpin(id)
	}
}

// calling is an Interrupter that calls a function.
type calling struct{ fn func() }

func (c *calling) Interrupt() int {
	c.fn()
	return 1
}

// TestBodyThatIsWrittenAheadIsBrokenOff: those who read a body from its BodyWriter are broken off
// as well, whether it has never been stored or has been deleted since.
func TestBodyThatIsWrittenAheadIsBrokenOff(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *Store, d *BodyWriter){
		"never stored": func(_ *testing.T, _ *Store, d *BodyWriter) { d.Unstorable() },
		"stored and removed": func(t *testing.T, s *Store, d *BodyWriter) {
			t.Helper()
			e := testEntry(s, "http://example.com/", nil)
			e.Body = d.Body()
			if r := s.Put(e, 0); r != Stored {
				t.Fatal(r)
			}
			must(t, s.diskWriter.flush())
			s.Remove(e)
			must(t, s.diskWriter.flush())
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := readersByHand(t, nil)
			d, err := s.NewBodyWriter(-1)
			must(t, err)
			interrupted := make(chan struct{})
			d.ReadBy(&calling{func() { close(interrupted) }})
			must(t, d.Append(make([]byte, 3<<20), unread))
			sealed := make(chan error, 1)
			go func() { sealed <- d.Seal() }()
			for done := false; !done; {
				_, err := s.diskWriter.writeBodies()
				must(t, err)
				select {
				case err := <-sealed:
					must(t, err)
					done = true
				default:
				}
			}
			end(t, s, d)
			for range 12 { // a piece is taken
				s.diskWriter.breakOff()
				clock.advance(idleTime / 10)
				if _, err := d.Chunk(0); err != nil {
					t.Error(err)
				}
			}
			s.diskWriter.breakOff()
			clock.advance(2 * idleTime)
			if n := s.Stats().Interrupted; n != 0 {
				t.Fatalf("%d are broken off that take pieces", n)
			}
			s.diskWriter.breakOff()
			<-interrupted
			wantInterrupted(t, s, 1)
			d.Close()
			if held := s.Stats().DiskHeld; held != 0 {
				t.Errorf("%d bytes are held", held)
			}
		})
	}
}

// TestLargeBodiesComeInByTheirRisk: what is deleted and read takes an eighth of the budget, and a
// body is let in as long as it does not take a quarter of it with that.
func TestLargeBodiesComeInByTheirRisk(t *testing.T) {
	s, _ := readersByHand(t, nil)
	var clients []*stalledClient
	for i := range 3 {
		clients = append(clients, stall(t, s, fmt.Sprintf("http://example.com/%d", i), 1<<20))
	}
	for size, want := range map[int]PutResult{100 << 10: Stored, 1 << 20: Stored, 2 << 20: RefusedFull} {
		if r := s.Put(testEntry(s, fmt.Sprintf("http://example.com/of/%d", size), make([]byte, size)), 0); r != want {
			t.Errorf("%d bytes: %v, want %v", size, r, want)
		}
		must(t, s.diskWriter.flush())
		d, err := s.NewBodyWriter(int64(size))
		if (err == nil) != (want == Stored) {
			t.Errorf("a body writer for %d bytes: %v", size, err)
		}
		if err == nil {
			d.Close()
		}
	}
	for _, c := range clients {
		c.end()
	}
}

// TestFileStaysInItsBound: whatever clients read, and hold, and whatever becomes of it, no more of
// the file is used than one and a half times its budget. What is free may be so scattered in a file
// as small as this one that it grows beyond that by a few chunks.
func TestFileStaysInItsBound(t *testing.T) {
	fillsByLength(t)
	const budget = 16 << 20
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := keptByHand(t, Settings{Memory: 1, Disk: budget})
	var held []Result
	var writers []*BodyWriter
	step := func() {
		t.Helper()
		writeAll(t, s)
		if used, size := s.disk.used(), s.disk.length(); used > budget*3/2 || size > budget*7/4 {
			t.Fatalf("%d bytes are used of at most %d, the file has %d", used, budget*3/2, size)
		}
	}
	for range 250 {
		url := fmt.Sprintf("http://example.com/%d", rng.IntN(40))
		switch rng.IntN(8) {
		case 0:
			if r := s.Peek(keyOf(url), matchAny); r.Entry != nil {
				s.Remove(r.Entry)
				r.Release()
			}
		case 1:
			if n := len(held); n > 0 && rng.IntN(4) == 0 {
				held[n-1].Release()
				held = held[:n-1]
			}
		case 2:
			if d, err := s.NewBodyWriter(-1); err == nil {
				writers = append(writers, d)
			}
		case 3:
			for _, d := range writers {
				_ = d.Append(make([]byte, rng.IntN(1<<20)), unread)
			}
		case 4:
			if n := len(writers); n > 0 {
				writers[rng.IntN(n)].Unstorable()
			}
		default:
			s.Put(testEntry(s, url, make([]byte, rng.IntN(2<<20))), 0)
		}
		step()
		if r := s.Lookup(keyOf(url), matchAny); r.Entry != nil {
			held = append(held, r)
		}
	}
	for i := range held {
		held[i].Release()
	}
	for _, d := range writers {
		d.Close()
	}
	step()
}

package coalesce

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// fill writes data as a fetch would, with chunks of the given capacities.
func fill(b *body, data []byte, capacities ...int) {
	for len(data) > 0 {
		if len(b.spare().data) == 0 {
			b.add(new(config).newChunk(capacities[0]))
			capacities = capacities[1:]
		}
		n := copy(b.spare().data, data)
		b.publish(n)
		data = data[n:]
	}
}

func TestBodyAt(t *testing.T) {
	t.Parallel()
	var b body
	data := pattern(1, 25)
	fill(&b, data, 10, 10, 10)
	for _, tc := range []struct {
		name     string
		off      int64
		from, to int
	}{
		{"start", 0, 0, 10},
		{"inside the first chunk", 3, 3, 10},
		{"at a border", 10, 10, 20},
		{"in the last chunk, to what is published", 21, 21, 25},
		{"at the end", 25, 0, 0},
		{"beyond the end", 99, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, _ := b.at(tc.off)
			if !bytes.Equal(got, data[tc.from:tc.to]) {
				t.Errorf("at(%d) = %x, want %x", tc.off, got, data[tc.from:tc.to])
			}
			if len(got) != cap(got) {
				t.Errorf("at(%d) leaves its reader %d bytes to append to", tc.off, cap(got)-len(got))
			}
		})
	}
}

func TestBodyDrop(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name        string
		off         int64
		start, held int64
	}{
		{"nothing passed", 0, 0, 30},
		{"inside the first chunk", 9, 0, 30},
		{"first chunk passed", 10, 10, 20},
		{"two passed", 24, 20, 10},
		{"the last one is not full", 25, 20, 10},
		{"beyond the end", 99, 20, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var b body
			fill(&b, pattern(1, 25), 10, 10, 10)
			b.drop(tc.off)
			if b.start() != tc.start || b.held != tc.held || b.size != 25 {
				t.Errorf("start %d, held %d, size %d, want %d, %d, 25", b.start(), b.held, b.size, tc.start, tc.held)
			}
			if got, _ := b.at(tc.start - 1); got != nil {
				t.Errorf("dropped bytes are still there: %x", got)
			}
		})
	}
}

func TestBodyTrim(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		length int
		held   int64
	}{
		{"empty", 0, 0},
		{"half full", 8, 8},
		{"an eighth to spare", 14, 16},
		{"full", 16, 16},
		{"second chunk nearly empty", 17, 17},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var b body
			data := pattern(2, tc.length)
			fill(&b, data, 16, 16)
			before, _ := b.at(int64(tc.length) - 1)
			b.trim(new(config))
			if b.held != tc.held {
				t.Errorf("held %d, want %d", b.held, tc.held)
			}
			if got := slices.Concat(b.list()...); !bytes.Equal(got, data) {
				t.Errorf("list = %x, want %x", got, data)
			}
			if after, _ := b.at(int64(tc.length) - 1); !bytes.Equal(before, after) {
				t.Errorf("last byte is %x, was %x", after, before)
			}
		})
	}
}

// Many small writes make few chunks, announced ones exactly one that fits, and none is rewritten
// once published.
func TestChunks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name            string
		expect          int64
		write, times    int
		chunks, largest int
	}{
		{"one small write", -1, 100, 1, 1, 100},
		{"small body announced", 1000, 100, 10, 1, 1000},
		{"announced too short", 100, 100, 3, 2, 200},
		{"ten thousand small writes", -1, 20, 10_000, 7, maxChunk},
		{"one large write", -1, 200_000, 1, 4, maxChunk},
		{"large body announced", 100_000, 32_768, 3, 2, maxChunk},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(1 << 30)
			g := NewGroup[string](l, Limits{})
			f, m := g.Solo(nil)
			f.Expect(tc.expect)
			f.Share(nil, -1)
			want := pattern(3, tc.write*tc.times)
			for i := range tc.times {
				write(t, f, want[i*tc.write:(i+1)*tc.write])
			}
			early, err := m.Reader().Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			kept := bytes.Clone(early)
			f.Finish(nil)
			chunks, whole := f.Body()
			largest := cap(slices.MaxFunc(chunks, func(a, b []byte) int { return cap(a) - cap(b) }))
			if !whole || len(chunks) != tc.chunks || largest != tc.largest {
				t.Errorf("whole %v, %d chunks, largest %d, want true, %d, %d", whole, len(chunks), largest, tc.chunks, tc.largest)
			}
			if got := slices.Concat(chunks...); !bytes.Equal(got, want) || !bytes.Equal(early, kept) {
				t.Errorf("body differs from what was written, or published bytes changed")
			}
			if l.now() != f.body.held {
				t.Errorf("%d bytes reserved, %d held", l.now(), f.body.held)
			}
			m.Leave()
			f.Settle()
			expectEmpty(t, g, l)
		})
	}
}

// TestWriteThatIsLate: memory that a Write copies into is nobody else's until it is done, whatever
// ends the flight meanwhile, and then nothing of it is published. A handler may write still when
// ServeHTTP has returned. It wrote into memory that was another's, or no memory any more.
func TestWriteThatIsLate(t *testing.T) {
	for name, end := range map[string]func(f *Flight){
		"it has failed":   func(f *Flight) { f.Fail(errOrigin) },
		"it has finished": func(f *Flight) { f.Finish(nil) },
		"it is stored":    func(f *Flight) { f.Finish(nil); f.HandOver(); f.MoveTo(&memorySource{t: t}) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
				f, lead := join(t, g, true)
				f.Share(nil, -1)
				write(t, f, pattern(9, 100))
				s, err := f.space(100)
				if err != nil {
					t.Fatal(err)
				}
				end(f)
				size := f.body.size
				f.Settle()
				lead.Leave()
				if b.chunks != 1 {
					t.Fatalf("%d chunks are in use while one is written to", b.chunks)
				}
				n := copy(s.data, pattern(10, 100))
				if err := f.publish(s, n); !errors.Is(err, ErrEnded) || f.body.size > size {
					t.Errorf("%v, and %d bytes of the body", err, f.body.size)
				}
			})
		})
	}
}

package frames

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/larder-cache/larder/internal/cputime"
	"github.com/larder-cache/larder/internal/frames/framestest"
)

// mixed is a piece of size bytes, every second frame of which cannot be compressed.
func mixed(size int, seed uint64) []byte {
	b := framestest.HTML(size, seed)
	for from := Size; from < size; from += 2 * Size {
		copy(b[from:min(from+Size, size)], framestest.Noise(Size, seed))
	}
	return b
}

func TestAPieceIsReadAsItWas(t *testing.T) {
	sizes := []int{1, 100, 1 << 10, Size - 1, Size, Size + 1, 2*Size - 1, 2 * Size, 3*Size + 7, 256<<10 - 128, 256 << 10}
	all := map[string][]byte{
		"json": framestest.JSON(256<<10, 1), "html": framestest.HTML(256<<10, 2), "mixed": mixed(256<<10, 3), "zeros": make([]byte, 256<<10),
	}
	for _, size := range sizes {
		for name, piece := range all {
			piece = piece[:size]
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				packed, ok := Append([]byte("before"), piece)
				if !ok {
					if size > 1<<10 {
						t.Error("nothing is saved")
					}
					return
				}
				packed, found := bytes.CutPrefix(packed, []byte("before"))
				if !found || len(packed) > size-size/minSaved {
					t.Fatalf("%d bytes of %d, appended: %v", len(packed), size, found)
				}
				checkPiece(t, packed, piece)
			})
		}
	}
}

// checkPiece reads a piece as a whole, frame by frame and from offsets by chance.
func checkPiece(t *testing.T, packed, piece []byte) {
	t.Helper()
	f, err := Open(packed, len(piece))
	if err != nil {
		t.Fatal(err)
	}
	whole := make([]byte, len(piece))
	if err := f.ReadAll(whole); err != nil || !bytes.Equal(whole, piece) {
		t.Fatalf("the whole is another, or %v", err)
	}
	room, r := make([]byte, Size), rand.New(rand.NewPCG(1, uint64(len(piece))))
	for range 20 {
		off := r.IntN(len(piece))
		got, err := f.Read(room, off)
		if want := piece[off:min(off-off%Size+Size, len(piece))]; err != nil || !bytes.Equal(got, want) {
			t.Fatalf("from %d on: %d bytes, want %d, or %v", off, len(got), len(want), err)
		}
		if &got[:1][0] != &room[off%Size] {
			t.Fatal("it is not in the room that was given")
		}
	}
	if got, err := f.Read(nil, 0); err != nil || !bytes.Equal(got, piece[:min(Size, len(piece))]) {
		t.Fatalf("without room: %d bytes, %v", len(got), err)
	}
}

func TestWhatSavesLittleIsLeftAsItIs(t *testing.T) {
	for name, piece := range map[string][]byte{
		"nothing": nil, "noise": framestest.Noise(100<<10, 1), "a little": append(framestest.Noise(60<<10, 1), make([]byte, 4<<10)...),
	} {
		if out, ok := Append([]byte("x"), piece); ok || string(out) != "x" {
			t.Errorf("%s: %d bytes, %v", name, len(out), ok)
		}
	}
}

// TestNoDamageIsTakenForABody flips each bit of the sizes and of the first frame's head, and bits
// by chance in the rest. The frames' own checksums have to find it: a caller's is not asked here.
func TestNoDamageIsTakenForABody(t *testing.T) {
	piece := mixed(3*Size, 1)
	packed, _ := Append(nil, piece)
	r := rand.New(rand.NewPCG(1, 2))
	noise := noiseAt(packed, len(piece))
	for n := range 1000 {
		bit := n
		if n >= 200 {
			bit = r.IntN(8 * len(packed))
		}
		if noise[0] <= bit/8 && bit/8 < noise[1] {
			continue // as it is: that has its caller's checksum alone
		}
		damaged := bytes.Clone(packed)
		damaged[bit/8] ^= 1 << (bit % 8)
		got := make([]byte, len(piece))
		f, err := Open(damaged, len(piece))
		if err == nil {
			err = f.ReadAll(got)
		}
		if err == nil && !bytes.Equal(got, piece) {
			t.Fatalf("bit %d: another body", bit)
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	for n := range packed {
		if f, err := Open(packed[:n], len(piece)); err == nil && f.ReadAll(make([]byte, len(piece))) == nil {
			t.Fatalf("%d of %d bytes are a body", n, len(packed))
		}
	}
}

// noiseAt is where the second frame stands, which is as it was.
func noiseAt(packed []byte, length int) [2]int {
	f, err := Open(packed, length)
	if err != nil {
		panic(err)
	}
	from, to := f.place(1)
	return [2]int{from, to}
}

// TestNoMoreIsDecompressedThanIsSaid: a frame of a few bytes may say that it is of gigabytes.
func TestNoMoreIsDecompressedThanIsSaid(t *testing.T) {
	for _, known := range []bool{true, false} {
		bomb := zeros(t, 64<<20, known)
		for _, length := range []int{len(bomb) + 1, 16 << 10, Size} {
			if length <= len(bomb) {
				length = len(bomb) + 1
			}
			f, err := Open(bomb, length)
			if err != nil {
				t.Fatal(err)
			}
			before := allocated()
			if _, err := f.Read(make([]byte, Size), 0); !errors.Is(err, ErrDamaged) {
				t.Errorf("known %v, %d bytes: %v", known, length, err)
			}
			if took := allocated() - before; took > 4<<20 {
				t.Errorf("known %v, %d bytes: it took %d bytes to find out", known, length, took)
			}
		}
	}
}

// zeros is a frame of size zeros, which says so at its beginning or not.
func zeros(t *testing.T, size int, known bool) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(Size))
	if err != nil {
		t.Fatal(err)
	}
	if known {
		return e.EncodeAll(make([]byte, size), nil)
	}
	var out bytes.Buffer
	e.Reset(&out)
	if _, err := io.Copy(e, bytes.NewReader(make([]byte, size))); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func FuzzReadTrustsNothing(f *testing.F) {
	for _, size := range []int{100, 5000, Size, Size + 1, 3 * Size} {
		packed, _ := Append(nil, framestest.JSON(size, 1))
		f.Add(packed, size)
		f.Add(packed[:len(packed)/2], size)
	}
	f.Add([]byte{0xff, 0xff, 1}, 2*Size)
	f.Fuzz(func(t *testing.T, data []byte, length int) {
		if length < 0 || length > 16*Size {
			return
		}
		p, err := Open(data, length)
		if err != nil {
			return
		}
		whole := make([]byte, length)
		if p.ReadAll(whole) != nil {
			return
		}
		room := make([]byte, Size)
		for off := 0; off < length; off += Size {
			got, err := p.Read(room, off)
			if err != nil || !bytes.Equal(got, whole[off:min(off+Size, length)]) {
				t.Fatalf("from %d on: %d bytes, %v", off, len(got), err)
			}
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add(framestest.JSON(3000, 1), 40)
	f.Add(framestest.Noise(3000, 1), 3)
	f.Fuzz(func(t *testing.T, data []byte, times int) {
		piece := bytes.Repeat(data, min(max(times, 1), 1+200_000/max(1, len(data))))
		packed, ok := Append(nil, piece)
		if !ok {
			return
		}
		p, err := Open(packed, len(piece))
		if err != nil {
			t.Fatal(err)
		}
		whole := make([]byte, len(piece))
		if err := p.ReadAll(whole); err != nil || !bytes.Equal(whole, piece) {
			t.Fatalf("another piece, or %v", err)
		}
	})
}

// BenchmarkFrames reports the processor time that one page takes.
func BenchmarkFrames(b *testing.B) {
	for name, body := range map[string][]byte{"json": framestest.JSON(16<<10, 1), "html": framestest.HTML(16<<10, 1)} {
		packed, _ := Append(nil, body)
		report := func(b *testing.B, fn func()) {
			b.ReportAllocs()
			used := cputime.Used()
			for b.Loop() {
				fn()
			}
			b.ReportMetric(float64((cputime.Used()-used).Nanoseconds())/float64(b.N), "cpu-ns/op")
		}
		b.Run("write "+name, func(b *testing.B) {
			var out []byte
			report(b, func() { out, _ = Append(out[:0], body) })
			b.ReportMetric(float64(len(packed))/float64(len(body)), "size")
		})
		b.Run("read "+name, func(b *testing.B) {
			room := make([]byte, Size)
			report(b, func() {
				f, err := Open(packed, len(body))
				if err == nil {
					_, err = f.Read(room, 0)
				}
				if err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

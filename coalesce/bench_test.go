package coalesce

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
)

// BenchmarkAlone is a miss without followers: join, share, a body of the given size, hand over,
// settle, leave.
func BenchmarkAlone(b *testing.B) {
	for _, bc := range []struct {
		name string
		size int
	}{
		{"1KiB", 1 << 10},
		{"100KiB", 100 << 10},
	} {
		b.Run(bc.name, func(b *testing.B) {
			g := NewGroup[string](newLedger(1<<40), Limits{})
			data := make([]byte, bc.size)
			b.ReportAllocs()
			b.SetBytes(int64(bc.size))
			for b.Loop() {
				f, m, _ := g.Join("k", nil, nil)
				flyThrough(f, data)
				if _, err := io.Copy(io.Discard, &asReader{r: m.Reader()}); err != nil {
					b.Fatal(err)
				}
				m.Leave()
			}
		})
	}
}

// BenchmarkAloneParked adds the goroutine of the fetch, which the leader waits for.
func BenchmarkAloneParked(b *testing.B) {
	g := NewGroup[string](newLedger(1<<40), Limits{})
	data := make([]byte, 1<<10)
	b.ReportAllocs()
	for b.Loop() {
		f, m, _ := g.Join("k", nil, nil)
		go flyThrough(f, data)
		if o := m.Wait(context.Background(), 0, nil); o != Shared {
			b.Fatal(o)
		}
		if _, err := io.Copy(io.Discard, &asReader{r: m.Reader()}); err != nil {
			b.Fatal(err)
		}
		m.Leave()
	}
}

// BenchmarkReaders is one flight of 1 MiB that 100 members wait for and read.
func BenchmarkReaders(b *testing.B) {
	const readers, size = 100, 1 << 20
	g := NewGroup[string](newLedger(1<<40), Limits{})
	data := make([]byte, size)
	b.ReportAllocs()
	b.SetBytes(readers * size)
	for b.Loop() {
		f, lead, _ := g.Join("k", nil, nil)
		var wg sync.WaitGroup
		for i := range readers {
			m := lead
			if i > 0 {
				_, m, _ = g.Join("k", nil, nil)
			}
			wg.Go(func() {
				defer m.Leave()
				m.Wait(context.Background(), 0, nil)
				if n, err := io.Copy(io.Discard, &asReader{r: m.Reader()}); n != size || err != nil {
					b.Error(n, err)
				}
			})
		}
		flyThrough(f, data)
		wg.Wait()
	}
}

// BenchmarkTinyWrites appends 20 bytes at a time, as a template or a chunked JSON would.
func BenchmarkTinyWrites(b *testing.B) {
	g := NewGroup[string](newLedger(1<<40), Limits{})
	f, m := g.Solo(nil)
	f.Share(nil, 0) // windowed, so that any number of bytes may pass
	m.Reader().Skip(1 << 62)
	data := make([]byte, 20)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	f.Settle()
	m.Leave()
}

// flyThrough is a fetch of data that is stored.
func flyThrough(f *Flight, data []byte) {
	defer f.Settle()
	f.Keep(true)
	f.Expect(int64(len(data)))
	f.Share(nil, -1)
	for rest := data; len(rest) > 0; {
		n, err := f.Write(rest[:min(len(rest), 32<<10)]) // as io.Copy does
		if err != nil {
			f.Fail(err)
			return
		}
		rest = rest[n:]
	}
	f.Finish(nil)
	f.HandOver()
}

// asReader drains a Reader without copying its bytes.
type asReader struct{ r *Reader }

func (a *asReader) Read([]byte) (int, error) {
	b, err := a.r.Next(context.Background())
	return len(b), err
}

func (a *asReader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		b, err := a.r.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		m, err := w.Write(b)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
}

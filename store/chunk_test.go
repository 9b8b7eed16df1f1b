package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// chunkForms are bodies of a chunk: some that are stored as they are and some that are compressed.
func chunkForms(rnd *rand.Rand) map[string][]byte {
	forms := make(map[string][]byte)
	for _, size := range []int{1, blockSize - 1, blockSize, blockSize + 1, 3*blockSize + 7, chunkSize} {
		forms[fmt.Sprintf("%d bytes", size)] = randomBody(rnd, size)
		var text strings.Builder
		for text.Len() < size {
			fmt.Fprintf(&text, "<li>%d %x</li>\n", text.Len(), rnd.Uint32())
		}
		if size > blockSize {
			forms[fmt.Sprintf("%d bytes compressed", size)] = []byte(text.String()[:size])
		}
	}
	return forms
}

// chunkValue is how body stands in the file.
func chunkValue(key []byte, name string, body []byte) []byte {
	data := body
	if strings.HasSuffix(name, "compressed") {
		data = packPiece(body)
	}
	value := append(roomForChunk(len(data)), data...)
	sealChunk(key, value)
	return value
}

// readChunk reads a chunk piece by piece, and returns which pieces are damaged.
func readChunk(t *testing.T, c *chunk, body []byte) (damaged []int) {
	t.Helper()
	for off := 0; off < len(body); off += pieceSize {
		room := make([]byte, pieceSize)
		n, err := c.read(room, off)
		switch want := body[off:min(off+pieceSize, len(body))]; {
		case errors.Is(err, errDamaged):
			damaged = append(damaged, off/pieceSize)
		case err != nil || !bytes.Equal(room[:n], want):
			t.Fatalf("from %d on: %d bytes, %v", off, n, err)
		}
	}
	return damaged
}

// readToDamage reads a chunk as far as one read has it, and on from there, and returns how much
// came before an error.
func readToDamage(c *chunk, length int) int {
	off, room := 0, make([]byte, chunkSize)
	for off < length {
		n, err := c.read(room, off)
		if err != nil {
			break
		}
		off += n
	}
	return off
}

// TestChunkIsCheckedWhereItIsRead flips each of many bits: what is read is what was written, or
// known to be damaged, and damage to one block keeps no other from being read.
func TestChunkIsCheckedWhereItIsRead(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	key := chunkKey(7, 3)
	for name, body := range chunkForms(rnd) {
		value := chunkValue(key, name, body)
		c, err := openChunk(new(bucket), key, value, int64(len(body)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := readChunk(t, &c, body); len(d) > 0 {
			t.Fatalf("%s: sound pieces %v are damaged", name, d)
		}
		for range 50 {
			off := rnd.IntN(len(body))
			room := make([]byte, 1+rnd.IntN(chunkSize))
			n, err := c.read(room, off)
			if err != nil || n == 0 || !bytes.Equal(room[:n], body[off:off+n]) {
				t.Fatalf("%s, to %d bytes from %d on: %d bytes, %v (seed %d)", name, len(room), off, n, err, seed)
			}
		}
		whole := make([]byte, len(body))
		if err := c.fill(whole); err != nil || !bytes.Equal(whole, body) {
			t.Fatalf("%s: fill: %v", name, err)
		}
		for range 50 {
			spoilt := bytes.Clone(value)
			at := rnd.IntN(len(spoilt))
			spoilt[at] ^= 1 << rnd.IntN(8)
			c, err := openChunk(new(bucket), key, spoilt, int64(len(body)))
			if errors.Is(err, errDamaged) && !c.packed && strings.HasSuffix(name, "compressed") {
				continue // the sizes of its frames
			}
			if err != nil {
				t.Fatalf("%s, byte %d: %v (seed %d)", name, at, err, seed)
			}
			d := readChunk(t, &c, body)
			if len(d) == 0 || len(d) > 1 && !c.packed {
				t.Fatalf("%s, byte %d: pieces %v are damaged (seed %d)", name, at, d, seed)
			}
			if n := readToDamage(&c, len(body)); n != d[0]*pieceSize {
				t.Errorf("%s, byte %d: %d bytes are read before piece %d (seed %d)", name, at, n, d[0], seed)
			}
			if err := c.checkAll(); !errors.Is(err, errDamaged) {
				t.Errorf("%s, byte %d: checkAll: %v (seed %d)", name, at, err, seed)
			}
			if err := c.fill(whole); !errors.Is(err, errDamaged) {
				t.Errorf("%s, byte %d: fill: %v (seed %d)", name, at, err, seed)
			}
		}
	}
}

// TestChunkOfAnotherPlace: a chunk cut short, and one that stands at another key, is not taken for
// this one.
func TestChunkOfAnotherPlace(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 0))
	key := chunkKey(7, 3)
	for name, body := range chunkForms(rnd) {
		value := chunkValue(key, name, body)
		for _, n := range []int{0, 1, sumSize, len(value) / 2, len(value) - 1} {
			c, err := openChunk(new(bucket), key, value[:n], int64(len(body)))
			if err == nil {
				err = c.fill(make([]byte, len(body)))
			}
			if !errors.Is(err, errDamaged) {
				t.Errorf("%s, %d of %d bytes: %v", name, n, len(value), err)
			}
		}
		c, err := openChunk(new(bucket), chunkKey(7, 4), value, int64(len(body)))
		if err == nil {
			err = c.checkAll()
		}
		if !errors.Is(err, errDamaged) {
			t.Errorf("%s at another key: %v", name, err)
		}
	}
}

// FuzzChunk reads what no chunk is: it is damaged, or what is read has the length that it should.
func FuzzChunk(f *testing.F) {
	key := chunkKey(1, 0)
	f.Add(chunkValue(key, "", []byte("body")), uint32(4))
	f.Add(chunkValue(key, "compressed", bytes.Repeat([]byte("ab"), blockSize)), uint32(2*blockSize))
	f.Fuzz(func(t *testing.T, value []byte, length uint32) {
		length %= chunkSize + 1
		c, err := openChunk(new(bucket), key, value, int64(length))
		if err != nil {
			return
		}
		room := make([]byte, pieceSize)
		for off := 0; off < int(length); off += pieceSize {
			if n, err := c.read(room, off); err == nil && n != min(pieceSize, int(length)-off) {
				t.Errorf("%d bytes from %d of %d on", n, off, length)
			}
		}
	})
}

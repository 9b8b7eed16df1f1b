package store

// ReadChunk is Chunk into room, of which it returns what it has filled, up to 32 KiB. It writes to
// it no more when it has returned. Its errors are those of Chunk.
func (d *BodyWriter) ReadChunk(room []byte, off int64) ([]byte, error) {
	set := d.set
	set.mu.Lock()
	written, closed := d.written, d.closed
	set.mu.Unlock()
	if closed || off < 0 || off >= written {
		return nil, errNotThere
	}
	return d.body(written).readChunk(room, off)
}

// readChunk reads a piece at most. It goes by way of a buffer, which is not used again after an
// error: a read that came too late may still be filling that.
func (b *diskBody) readChunk(room []byte, off int64) ([]byte, error) {
	piece := pieces.Get().(*[pieceSize]byte)
	n := min(pieceSize, int64(len(room)), b.length-off, chunkSize-off%chunkSize)
	read, err := b.read(piece[:n], off)
	if err != nil {
		return nil, err
	}
	room = room[:copy(room, read)]
	pieces.Put(piece)
	b.pins().took(b.id, int64(len(room)))
	return room, nil
}

package warm

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// Bounds of a file that the site sends.
const (
	// maxSitemapBytes is what sitemaps.org allows a sitemap, in clear.
	maxSitemapBytes = 50 << 20
	// maxExpansion is how many times as long as its gzip data a sitemap may be. XML of URLs has
	// about 10 to 30. Below ratioFrom it does not matter.
	maxExpansion = 200
	ratioFrom    = 1 << 20
	// gzipLayers is how often a file may be compressed: once as a file, once more on its way.
	gzipLayers = 2
)

var (
	errTooLarge = fmt.Errorf("is larger than %d MiB", maxSitemapBytes>>20)
	errExpands  = fmt.Errorf("is gzip data that expands more than %d times", maxExpansion)
)

// inClear returns what r has in clear. Gzip is known by its first bytes: names and header fields
// are often wrong about it.
func inClear(r io.Reader) (io.Reader, error) {
	for range gzipLayers {
		in := bufio.NewReader(r)
		magic, err := in.Peek(2)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if len(magic) < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
			return in, nil
		}
		if r, err = gzip.NewReader(in); err != nil {
			return nil, fmt.Errorf("is broken gzip data: %w", err)
		}
	}
	return r, nil
}

// inClearBounded is inClear for what another side sends: it has the bounds of a sitemap.
func inClearBounded(r io.Reader) (io.Reader, error) {
	sent := &countingReader{r: r}
	in, err := inClear(sent)
	if err != nil {
		return nil, err
	}
	return &boundedReader{r: in, sent: sent}, nil
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// boundedReader fails at the bounds of a sitemap.
type boundedReader struct {
	r    io.Reader
	sent *countingReader
	n    int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	switch {
	case b.n > maxSitemapBytes:
		return 0, errTooLarge
	case b.n > ratioFrom && b.n > maxExpansion*b.sent.n:
		return 0, errExpands
	}
	return n, err
}

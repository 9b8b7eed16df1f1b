package store

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// rounds is how often a fault test goes round: few times among the others, or, where LARDER_FAULTS
// is "long", as often as it takes to believe the result. The command is in doc.go.
func rounds(short, long int) int {
	if os.Getenv("LARDER_FAULTS") == "long" {
		return long
	}
	return short
}

// signedBody is a body that says whose it is and which version, with a checksum over all of it. No
// two have a stretch of padding in common, so that one made of parts of several shows.
func signedBody(url string, version, size int) []byte {
	padding := make([]byte, size)
	rng := rand.NewPCG(uint64(version), uint64(crc32.ChecksumIEEE([]byte(url))))
	for i := 0; i < size; i += 8 {
		n := rng.Uint64()
		for j := i; j < min(i+8, size); j++ {
			padding[j] = byte(n)
			if compressAll && i>>15%3 != 1 { // of three frames two can be compressed
				padding[j] = 'a' + byte(n&0xf)
			}
			n >>= 8
		}
	}
	head := fmt.Sprintf("%s %d %d ", url, version, size)
	sum := crc32.ChecksumIEEE(append([]byte(head), padding...))
	return append(fmt.Appendf(nil, "%s%08x ", head, sum), padding...)
}

// readSigned returns the version of a body of url, or what is wrong with it.
func readSigned(url string, body []byte) (version int, err error) {
	parts := bytes.SplitN(body, []byte(" "), 5)
	if len(parts) != 5 || string(parts[0]) != url {
		return 0, fmt.Errorf("%.80q is no body of %s", body, url)
	}
	var size int
	var sum uint32
	if _, err := fmt.Sscanf(string(bytes.Join(parts[1:4], []byte(" "))), "%d %d %08x", &version, &size, &sum); err != nil {
		return 0, fmt.Errorf("%s: %.80q: %w", url, body, err)
	}
	head := fmt.Sprintf("%s %d %d ", url, version, size)
	if len(parts[4]) != size || crc32.ChecksumIEEE(append([]byte(head), parts[4]...)) != sum {
		return 0, fmt.Errorf("%s: version %d: %d bytes of padding that are not its %d", url, version, len(parts[4]), size)
	}
	return version, nil
}

// found looks a signed body up; version 0 is a miss. A body that breaks off with an error counts as
// a miss: its reader is told.
func found(t *testing.T, s *Store, url string) (version int, severity Severity) {
	t.Helper()
	r := s.Lookup(keyOf(url), matchAny)
	defer r.Release()
	if r.Entry == nil {
		return 0, NotPurged
	}
	body, err := wholeBody(r.Entry.Body)
	if errors.Is(err, errCutShort) {
		return 0, NotPurged
	}
	if version, err = readSigned(url, body); err != nil {
		t.Errorf("wrong body: %v", err)
	}
	if r.Entry.URL != url || r.Entry.Header.Get("Version") != fmt.Sprint(version) {
		t.Errorf("%s: entry of %s, header %v around version %d", url, r.Entry.URL, r.Entry.Header, version)
	}
	return version, r.Severity
}

// errCutShort says that a body came to an end with an error.
var errCutShort = errors.New("cut short")

func wholeBody(b Body) ([]byte, error) {
	var out []byte
	for off := int64(0); off < b.Len(); {
		c, err := b.Chunk(off)
		if err != nil || len(c) == 0 {
			return nil, fmt.Errorf("%w at %d: %w", errCutShort, off, err)
		}
		out = append(out, c...)
		off += int64(len(c))
	}
	return out, nil
}

// signedEntry is an entry with a signed body.
func signedEntry(s *Store, url string, version, size int, tags ...string) *Entry {
	e := testEntry(s, url, signedBody(url, version, size), tags...)
	e.Header = e.Header.Clone()
	e.Header.Del("A")
	e.Header.Set("Version", fmt.Sprint(version))
	return e
}

// TestSignedBodies: a body that was tampered with is told from its own.
func TestSignedBodies(t *testing.T) {
	const url = "http://example.com/a"
	for _, size := range []int{0, 1, 9, 5_000} {
		body := signedBody(url, 7, size)
		if version, err := readSigned(url, body); err != nil || version != 7 {
			t.Errorf("size %d: version %d, %v", size, version, err)
		}
		for name, wrong := range map[string][]byte{
			"another URL's":   []byte(strings.Replace(string(body), "/a", "/b", 1)),
			"cut":             body[:len(body)-1],
			"longer":          append(bytes.Clone(body), 'x'),
			"flipped":         append(bytes.Clone(body[:len(body)-1]), body[len(body)-1]^1),
			"another version": append(signedBody(url, 8, size)[:len(body)-size/2], body[len(body)-size/2:]...),
		} {
			if name == "another version" && size < 9 {
				continue // nothing of it is left
			}
			if version, err := readSigned(url, wrong); err == nil {
				t.Errorf("size %d: %s passed as version %d", size, name, version)
			}
		}
	}
}

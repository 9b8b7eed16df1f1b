package warm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// journalHeader is the first line of a resume file. Each line that follows is a request that need
// not be made again: 32 hexadecimal digits of a hash of URL and header, the URL for people, and the
// line's end.
const journalHeader = "caddy larder warm, resume file 1\n"

// requestKey is a request in the journal.
type requestKey [16]byte

func keyOf(url string, v *variant) requestKey {
	sum := sha256.Sum256([]byte(url + "\n" + v.id))
	return requestKey(sum[:16])
}

// journal records what is done, for a run that goes on where this one was stopped. A line is
// written by one call, so what a kill leaves is whole lines and at most the beginning of one, which
// is cut off at the next start.
type journal struct {
	path string
	done map[requestKey]struct{} // by runs of before

	mu   sync.Mutex
	file *os.File
	err  error // the first one of writing
}

// openJournal reads a resume file, or makes it. An empty path is none: a nil journal records
// nothing.
func openJournal(path string) (*journal, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return nil, fmt.Errorf("--resume: %w", err)
	}
	j := &journal{path: path, file: file, done: make(map[requestKey]struct{})}
	if err := j.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("--resume: %w", err), file.Close())
	}
	return j, nil
}

// load reads what is done, and cuts off a line that was not written to its end.
func (j *journal) load() error {
	in := bufio.NewReader(j.file)
	head := make([]byte, len(journalHeader))
	n, err := io.ReadFull(in, head)
	switch {
	case err == nil && string(head) == journalHeader:
	case (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) && journalHeader[:n] == string(head[:n]):
		return j.begin() // new, or stopped within its first line
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s is not a resume file; give the name of a new file", j.path)
	default:
		return err
	}
	whole := int64(len(head))
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(line) > 0 {
				return j.file.Truncate(whole)
			}
			return nil
		}
		if err != nil {
			return err
		}
		whole += int64(len(line))
		j.note(line)
	}
}

func (j *journal) begin() error {
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	_, err := j.file.WriteString(journalHeader)
	return err
}

// note takes in a line. One that is none is passed over: its request is made again.
func (j *journal) note(line []byte) {
	digits, _, found := bytes.Cut(line, []byte(" "))
	var key requestKey
	if n, err := hex.Decode(key[:], digits[:min(len(digits), 2*len(key))]); found && err == nil && n == len(key) && len(digits) == 2*n {
		j.done[key] = struct{}{}
	}
}

// empty reports whether no run of before has done anything.
func (j *journal) empty() bool { return j != nil && len(j.done) == 0 }

// has reports whether a run of before has made a request.
func (j *journal) has(url string, v *variant) bool {
	if j == nil || len(j.done) == 0 {
		return false
	}
	_, done := j.done[keyOf(url, v)]
	return done
}

// add records a request.
func (j *journal) add(url string, v *variant) {
	if j == nil {
		return
	}
	key := keyOf(url, v)
	line := hex.EncodeToString(key[:]) + " " + url + "\n"
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return // a line behind half a line would be lost, too
	}
	_, j.err = j.file.WriteString(line)
}

// close closes the file, and removes it if nothing is left to resume.
func (j *journal) close(finished bool) error {
	if j == nil {
		return nil
	}
	err := errors.Join(j.err, j.file.Close())
	if finished {
		if removed := os.Remove(j.path); !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
	}
	if err != nil {
		return fmt.Errorf("--resume: %w", err)
	}
	return nil
}

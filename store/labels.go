package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/larder-cache/larder/store/internal/wire"
)

// What is stored was stored by rules of the caller's that may be others by now, and a purge has to
// name it as they did. So the caller gives the store a label for each of its rules, and the store
// keeps them beside what is stored by these:
//
//   - Put. The label is there before the first entry that it is about. The transaction that writes
//     that entry, or an earlier one, writes the label.
//   - Another process. It has the labels of the file when it has opened it, and adds its own.
//   - Taken up late. Purges have been made that did not know the file's labels, and may have missed
//     what is in it by these. So all that is in it is validated before its next use.
//   - Read too early. A purge comes after the file is open, or after a label was added, and its
//     selectors were made before: see LabelsTime. So all that is stored is validated then, too.
//
// Labels are not taken away: it is not known when the last entry that one is about has gone. There
// are as many as configurations have had different rules.

// maxLabels is how many labels are kept, and maxLabelBytes how long they may be together. The
// oldest give way: what was stored by them has expired, most likely.
const (
	maxLabels     = 1 << 10
	maxLabelBytes = 256 << 10
)

// metaLabels is the name of the labels in the meta bucket: checksum(4), the list.
var metaLabels = []byte("labels")

// labels is a set of texts, those that came first in front. Each list stays as it is.
type labels struct {
	mu  sync.Mutex // held to change it
	now atomic.Pointer[[]string]
	// brought is when some have last come that were not known, by AddLabel or in a file; 0: none.
	brought atomic.Uint64
}

// LabelsTime is a moment at which the labels of stores are read, to make the selectors of a purge
// by them.
type LabelsTime uint64

// labelsClock rises whenever a store gets labels that it did not know.
var labelsClock atomic.Uint64

// LabelsNow returns the present moment, never 0. It comes before the labels are read.
func LabelsNow() LabelsTime { return LabelsTime(labelsClock.Load() + 1) }

// LabelsSince reports whether the store has got labels since they were read: a purge by the
// selectors made of them may miss what is stored by these.
func (s *Store) LabelsSince(read LabelsTime) bool {
	return read > 0 && s.labels.brought.Load() >= uint64(read)
}

// AddLabel adds a label, before anything is stored that it is about.
func (s *Store) AddLabel(text string) {
	if !slices.Contains(s.Labels(), text) {
		s.labels.add(nil, []string{text})
		s.labels.noteBrought() // in this order, as in bringLabels
	}
}

// Labels returns the labels that have been added, in this process or an earlier one. The list must
// not be changed; it is another one when there are more.
func (s *Store) Labels() []string { return s.labels.list() }

func (l *labels) list() []string {
	if now := l.now.Load(); now != nil {
		return *now
	}
	return nil
}

// add makes it the labels that it has, which may be older than it, and more.
func (l *labels) add(older, more []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.list()
	var all []string
	size, seen := 0, make(map[string]bool)
	for _, text := range slices.Concat(older, was, more) {
		if !seen[text] {
			seen[text], all, size = true, append(all, text), size+len(text)
		}
	}
	for len(all) > maxLabels || size > maxLabelBytes {
		size -= len(all[0])
		all = all[1:]
	}
	if !slices.Equal(all, was) {
		l.now.Store(&all)
	}
}

// noteBrought notes the time of labels that have been added. It never goes back: a reload and a
// file that is opened may both bring some.
func (l *labels) noteBrought() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.brought.Store(labelsClock.Add(1))
}

// bringLabels brings the labels of the store and of its file together. unknown says that the file
// has some that the store did not know.
func (t *buckets) bringLabels(l *labels) (unknown bool, err error) {
	inFile, err := t.labels()
	if err != nil {
		return false, err
	}
	known := l.list()
	unknown = slices.ContainsFunc(inFile, func(text string) bool { return !slices.Contains(known, text) })
	if l.add(inFile, nil); unknown { // in this order: who reads the labels has read the time before
		l.noteBrought()
	}
	if all := l.list(); !slices.Equal(all, inFile) {
		err = t.putLabels(all)
	}
	return unknown, err
}

func (t *buckets) putLabels(list []string) error {
	v := wire.AppendList(make([]byte, 4), list)
	binary.BigEndian.PutUint32(v, wire.Checksum(metaLabels, v[4:]))
	return t.meta.Put(metaLabels, v)
}

// labels are the file's. An error says that they are damaged: purges could miss what is in it.
func (t *buckets) labels() ([]string, error) {
	v := t.meta.Get(metaLabels)
	if v == nil {
		return nil, nil
	}
	if len(v) < 4 || binary.BigEndian.Uint32(v) != wire.Checksum(metaLabels, v[4:]) {
		return nil, fmt.Errorf("labels: checksum: %w", errDamaged)
	}
	d := wire.NewDecoder(string(v[4:]))
	list := d.List()
	if !d.Done() {
		return nil, fmt.Errorf("labels: %w", errDamaged)
	}
	return list, nil
}

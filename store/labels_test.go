package store

import (
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
)

// TestLabelsOutliveWhatIsStored: the labels are in the file with the first entry, also after a
// crash, and those of several processes are one set.
func TestLabelsOutliveWhatIsStored(t *testing.T) {
	cfg := Config{Path: t.TempDir(), Required: true}
	for _, add := range []string{"b", "a", "b"} {
		s := openStore(t, cfg, bothTiers)
		s.AddLabel(add)
		s.AddLabel("of all")
		s.Put(testEntry(s, "http://example.com/"+add, []byte(add)), 0)
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		if _, inFile := labelsInFile(t, s); !slices.Equal(inFile, s.Labels()) {
			t.Errorf("in the file are %q, of the store %q", inFile, s.Labels())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := openStore(t, cfg, bothTiers)
	if got := s.Labels(); !slices.Equal(got, []string{"b", "of all", "a"}) {
		t.Errorf("the labels are %q", got)
	}
}

// labelsInFile reads the labels of the file of an open store.
func labelsInFile(t *testing.T, s *Store) (entries uint64, list []string) {
	t.Helper()
	if err := s.disk.view(func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err != nil {
			return err
		}
		entries = b.number(metaEntries)
		list, err = b.labels()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return entries, list
}

// TestLabelsAreBounded: the oldest give way.
func TestLabelsAreBounded(t *testing.T) {
	s := openStore(t, Config{}, Settings{Memory: 1 << 20})
	for n := range maxLabels + 10 {
		s.AddLabel(fmt.Sprint(n))
	}
	if got := s.Labels(); len(got) != maxLabels || got[0] != "10" || got[maxLabels-1] != fmt.Sprint(maxLabels+9) {
		t.Errorf("there are %d from %s on", len(got), got[0])
	}
	s.AddLabel(string(make([]byte, maxLabelBytes)))
	if got := s.Labels(); len(got) != 1 {
		t.Errorf("%d labels beside a long one", len(got)-1)
	}
}

// TestFileWithUnknownLabels: a file that is opened after purges that did not know its labels has
// nothing that is used without validation. Otherwise it is as it was.
func TestFileWithUnknownLabels(t *testing.T) {
	for _, tc := range []struct {
		name, label string
		purged      bool
		want        Severity
	}{
		{"no purge", "", false, NotPurged},
		{"a purge that knew", "old", true, NotPurged},
		{"a purge that did not", "", true, Invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := Config{Path: t.TempDir(), Required: true}
			s := openStore(t, cfg, bothTiers)
			s.AddLabel("old")
			s.Put(testEntry(s, "http://example.com/a", []byte("a")), 0)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = New(cfg, bothTiers)
			if tc.label != "" {
				s.AddLabel(tc.label)
			}
			if tc.purged {
				beginPurge(t, s, Selectors{URLs: []string{"http://example.com/b"}}, PurgeOptions{})
			}
			if err := s.Open(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			r := s.Lookup(keyOf("http://example.com/a"), matchAny)
			defer r.Release()
			if r.Entry == nil || r.Severity != tc.want {
				t.Errorf("found %v, %v, want %v", r.Entry != nil, r.Severity, tc.want)
			}
		})
	}
}

// TestPurgeOfSelectorsMadeBeforeALabel: something may have been stored by the label already.
func TestPurgeOfSelectorsMadeBeforeALabel(t *testing.T) {
	s := openStore(t, Config{}, bothTiers)
	s.AddLabel("old")
	for _, want := range []Severity{NotPurged, Invalid} {
		read := LabelsNow()
		if s.AddLabel("old"); want == Invalid {
			s.AddLabel("new")
		}
		s.Put(testEntry(s, "http://example.com/a", []byte("a")), 0)
		_, err := s.Purge(Selectors{URLs: []string{"http://example.com/b"}}, PurgeOptions{Labels: read})
		must(t, err)
		r := s.Lookup(keyOf("http://example.com/a"), matchAny)
		if r.Entry == nil || r.Severity != want {
			t.Errorf("found %v, %v, want %v", r.Entry != nil, r.Severity, want)
		}
		r.Release()
	}
}

// TestPurgeOfSelectorsMadeBeforeTheFile: a purge whose selectors were made before the file has
// brought labels, and that comes when it is open, may have missed what is in it by these.
func TestPurgeOfSelectorsMadeBeforeTheFile(t *testing.T) {
	for _, tc := range []struct {
		name, label  string
		before, told bool
		want         Severity
	}{
		{"made before", "", true, true, Invalid},
		{"made before, of no labels", "", true, false, NotPurged},
		{"made before, by the same labels", "old", true, true, NotPurged},
		{"made after", "", false, true, NotPurged},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := Config{Path: t.TempDir(), Required: true}
			s := openStore(t, cfg, bothTiers)
			s.AddLabel("old")
			s.Put(testEntry(s, "http://example.com/a", []byte("a")), 0)
			must(t, s.Close())
			s = New(cfg, bothTiers)
			if tc.label != "" {
				s.AddLabel(tc.label)
			}
			before := LabelsNow()
			must(t, s.Open())
			t.Cleanup(func() { _ = s.Close() })
			var options PurgeOptions
			switch {
			case tc.told && tc.before:
				options.Labels = before
			case tc.told:
				options.Labels = LabelsNow()
			}
			n, err := s.Purge(Selectors{URLs: []string{"http://example.com/b"}}, options)
			if n != 0 || err != nil {
				t.Errorf("Purge = %d, %v", n, err)
			}
			r := s.Lookup(keyOf("http://example.com/a"), matchAny)
			defer r.Release()
			if r.Entry == nil || r.Severity != tc.want {
				t.Errorf("found %v, %v, want %v", r.Entry != nil, r.Severity, tc.want)
			}
		})
	}
}

package warm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mustOpen(t *testing.T, path string) *journal {
	t.Helper()
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestJournalAfterAKill: whatever a kill leaves of the last line, what was written before is known,
// and what comes later is written behind it.
func TestJournalAfterAKill(t *testing.T) {
	variants, err := parseVariants([]string{"A: 1", "A: 2"})
	if err != nil {
		t.Fatal(err)
	}
	v, other := &variants[0], &variants[1]
	path := filepath.Join(t.TempDir(), "done")
	j := mustOpen(t, path)
	j.add("http://h/1", v)
	j.add("http://h/2", v)
	if err := j.close(false); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	second := strings.LastIndex(strings.TrimSpace(string(whole)), "\n") + 1
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		torn := mustOpen(t, path)
		torn.add("http://h/3", v)
		if err := torn.close(false); err != nil {
			t.Fatal(err)
		}
		j := mustOpen(t, path)
		if j.has("http://h/1", v) != (cut >= second) || j.has("http://h/2", v) != (cut == len(whole)) || !j.has("http://h/3", v) || j.has("http://h/3", other) {
			t.Errorf("cut at %d of %d: %d are done", cut, len(whole), len(j.done))
		}
		if err := j.close(false); err != nil {
			t.Fatal(err)
		}
	}
}

// TestJournalOfSomethingElse: a file that is none is not touched.
func TestJournalOfSomethingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	for _, text := range []string{"root:x:0:0:root:/root:/bin/sh\n", "x", strings.ToUpper(journalHeader) + "a\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openJournal(path); err == nil || !strings.Contains(err.Error(), "is not a resume file") {
			t.Errorf("%q: %v", text, err)
		}
		if left, _ := os.ReadFile(path); string(left) != text {
			t.Errorf("%q became %q", text, left)
		}
	}
}

// TestJournalWithADamagedLine: the request of such a line is made again.
func TestJournalWithADamagedLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "done")
	v := &variant{}
	j := mustOpen(t, path)
	j.add("http://h/1", v)
	if err := j.close(false); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = file.WriteString("\x00\x00\n\nzz http://h/2\n" + strings.Repeat("ab", 17) + " http://h/4\n")
	_ = file.Close()
	j = mustOpen(t, path)
	if len(j.done) != 1 || !j.has("http://h/1", v) {
		t.Errorf("%d are done", len(j.done))
	}
	if err := j.close(true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("at the end: %v", err)
	}
}

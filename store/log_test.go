package store

import (
	"strings"
	"sync"
	"testing"
)

// lineLog has the lines that a store logs.
type lineLog struct {
	mu    sync.Mutex
	lines []string
}

// Write implements io.Writer; slog's handlers call it once a record.
func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

// having returns the lines that have all of these in them.
func (l *lineLog) having(words ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		missing := false
		for _, word := range words {
			missing = missing || !strings.Contains(line, word)
		}
		if !missing {
			found = append(found, line)
		}
	}
	return found
}

func (l *lineLog) count(words ...string) int { return len(l.having(words...)) }

// wantOnce fails the test unless exactly one line has the first word, and it has the others too.
func (l *lineLog) wantOnce(t *testing.T, words ...string) {
	t.Helper()
	if l.count(words[0]) != 1 || l.count(words...) != 1 {
		t.Errorf("want one line with %q, got %q", words, l.having(words[0]))
	}
}

package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// operatorLog is what Caddy logs, in a file that a test can read.
type operatorLog struct{ file string }

func newOperatorLog(t *testing.T) operatorLog {
	return operatorLog{filepath.Join(t.TempDir(), "caddy.log")}
}

// options make it Caddy's default log, to which all goes that outlives a configuration.
func (l operatorLog) options() string { return "output file " + l.file + "\nformat json" }

// lines returns the lines of Larder's loggers whose message begins with that.
func (l operatorLog) lines(t *testing.T, message string) (found []map[string]any) {
	t.Helper()
	text, err := os.ReadFile(l.file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil {
			continue // it is being written
		}
		logger, _ := fields["logger"].(string)
		msg, _ := fields["msg"].(string)
		if strings.HasSuffix(logger, "larder") && strings.HasPrefix(msg, message) {
			found = append(found, fields)
		}
	}
	return found
}

// wantLine waits for the nth line of a message, which has to be the last of them, and compares
// fields of it.
func (l operatorLog) wantLine(t *testing.T, n int, message string, want map[string]any) {
	t.Helper()
	eventually(t, message+" is logged", func() bool { return len(l.lines(t, message)) >= n })
	lines := l.lines(t, message)
	if len(lines) != n {
		t.Fatalf("%d lines of %s, want %d: %v", len(lines), message, n, lines)
	}
	for name, value := range want {
		if got := lines[n-1][name]; !reflect.DeepEqual(got, value) {
			t.Errorf("%s: %s is %v, want %v", message, name, got, value)
		}
	}
}

// The start leaves one line, and a reload one if it changes a budget.
func TestStartAndBudgetsAreLogged(t *testing.T) {
	const opened, changed = "the cache is open", "the settings of the cache have changed"
	log := newOperatorLog(t)
	s := withDisk(t, "larder")
	s.options, s.log = "memory 32MiB", log.options()
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, s, o)
	log.wantLine(t, 1, opened, map[string]any{
		"level": "info", "zone": "default", "memory": 32.0 * (1 << 20), "eviction": "lru", "max_body": 64.0 * (1 << 20),
		"file": filepath.Join(s.disk, "larder.db"), "disk_state": "open", "disk": 64.0 * (1 << 20), "disk_entries": 0.0,
	})
	in.load(s, o)
	s.options, s.budget = "memory 48MiB", "96MiB"
	in.load(s, o)
	log.wantLine(t, 1, changed, map[string]any{
		"level": "info", "zone": "default", "memory_was": 32.0 * (1 << 20), "memory": 48.0 * (1 << 20),
		"disk_was": 64.0 * (1 << 20), "disk": 96.0 * (1 << 20), "max_body": nil,
	})
	s.options = "memory 48MiB\neviction lfu"
	in.load(s, o)
	log.wantLine(t, 2, changed, map[string]any{"eviction_was": "lru", "eviction": "lfu", "memory": nil})
	s.options, s.budget = "memory 16MiB\neviction lfu", ""
	in.load(s, o) // while both configurations are in force, the larger budgets hold
	log.wantLine(t, 3, changed, map[string]any{"memory_was": 48.0 * (1 << 20), "memory": 16.0 * (1 << 20), "disk": 64.0 * (1 << 20)})
	log.wantLine(t, 1, opened, nil)
}

// What `invalidate` purges leaves one line, whether it names anything that is stored or not.
func TestInvalidateIsLogged(t *testing.T) {
	log := newOperatorLog(t)
	s := proxied(block("tags {\nadd page\n}", "invalidate /products/* {\ntags page product-{path.1}\nurls /list\n}", "invalidate /soft {\ntags page\nsoft\n}"))
	s.log = log.options()
	in := start(t, s, newOrigin(t, answering(200, "Cache-Control", "max-age=60")))
	in.get("/list")
	in.get("/other")
	in.do(http.MethodPost, "/elsewhere", "x")
	in.do(http.MethodPost, "/products/7", "x")
	log.wantLine(t, 1, "invalidate", map[string]any{
		"level": "info", "method": "POST", "url": in.url("/products/7"), "soft": false, "matched": 2.0,
		"tags": []any{"page", "product-7"}, "urls": []any{"/list"},
	})
	in.do(http.MethodDelete, "/soft", "")
	log.wantLine(t, 2, "invalidate", map[string]any{"method": "DELETE", "soft": true, "matched": 0.0, "tags": []any{"page"}, "urls": nil})
}

// A disk tier that is lost leaves one line, with the file and the cause and without a Go stack.
func TestLostTierIsLogged(t *testing.T) {
	log := newOperatorLog(t)
	s := withDisk(t, "larder")
	s.log = log.options()
	in := start(t, s, newOrigin(t, answering(200, "Cache-Control", "max-age=60")))
	in.get("/")
	eventually(t, "the entry is on disk", func() bool { return in.stats().Disk.Entries == 1 })
	file := filepath.Join(s.disk, "larder.db")
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	next := 0
	eventually(t, "the disk tier is lost", func() bool {
		next++
		in.get("/" + strconv.Itoa(next))
		return len(log.lines(t, "disk tier")) > 0
	})
	line := log.lines(t, "disk tier")[0]
	if line["level"] != "error" || line["file"] != file || line["error"] == nil {
		t.Errorf("logged: %v", line)
	}
	for _, line := range log.lines(t, "") {
		if text, _ := json.Marshal(line); line["stacktrace"] != nil || strings.Contains(string(text), ".go:") {
			t.Errorf("a stack is in %s", text)
		}
	}
}

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// accessLog is a JSON log in a file that a test can read.
type accessLog struct{ file string }

func newAccessLog(t *testing.T) accessLog {
	return accessLog{filepath.Join(t.TempDir(), "access.log")}
}

func (l accessLog) directive() string {
	return "log {\noutput file " + l.file + "\nformat json\n}\n"
}

// entry waits for the access-log line of the first request for uri.
func (l accessLog) entry(t *testing.T, method, uri string) map[string]any {
	t.Helper()
	var found map[string]any
	eventually(t, "a log line of "+uri, func() bool {
		text, err := os.ReadFile(l.file)
		if err != nil {
			return false
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) != nil {
				continue
			}
			if request, ok := fields["request"].(map[string]any); ok && request["uri"] == uri && request["method"] == method {
				found = fields
				return true
			}
		}
		return false
	})
	return found
}

// warnings loads a site and returns what it has larder warn of, each as its server, route, message
// and hint.
func warnings(t *testing.T, s setup, o *origin) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "larder.log")
	s.global += "\nlog larder {\noutput file " + file + "\nformat json\ninclude larder\nlevel WARN\n}"
	start(t, s, o)
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		var entry struct{ Msg, Server, Route, Hint string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, entry.Server+" "+entry.Route+": "+entry.Msg+": "+entry.Hint)
	}
	return all
}

package larder_test

import (
	"regexp"
	"strings"
	"testing"
)

// TestFaultTable holds the pages' table of faults to the tree: every row names a test, and every test of a fault is in a row.
func TestFaultTable(t *testing.T) {
	table := section(t, readPages(t, pagePatterns...), "What the disk can do to you")
	existing := declaredTests(t)
	name := regexp.MustCompile("`(Test\\w+)`")
	listed, rows := make(map[string]bool), 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| Fault") {
			continue
		}
		rows++
		names := name.FindAllStringSubmatch(line, -1)
		if len(names) == 0 {
			t.Errorf("no test in the row %s", line)
		}
		for _, match := range names {
			if listed[match[1]] = true; !existing[match[1]] {
				t.Errorf("the table names %s, which is not in the tree", match[1])
			}
		}
	}
	if rows == 0 {
		t.Error("the table has no rows")
	}
	for test := range existing {
		if strings.HasPrefix(test, "TestFault") && test != "TestFaultTable" && !listed[test] {
			t.Errorf("the table does not list %s", test)
		}
	}
}

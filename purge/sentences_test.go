package purge

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/larder-cache/larder/adminapi"
)

// TestFailuresAreOnThePage: docs/troubleshooting.md has each sentence that a purge with status 503
// is answered with, so that a reader finds the row by what stands in the answer. It had two rows
// for that status alone.
func TestFailuresAreOnThePage(t *testing.T) {
	page, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("cause")
	for _, failure := range []error{
		adminapi.ErrNoCache, sentenceOf(cause, false), sentenceOf(cause, true), sentenceOf(errors.Join(ErrNotEverywhere, cause), false),
	} {
		sentence, _, _ := strings.Cut(failure.Error(), "send it again: ")
		if strings.Count(string(page), "\n| `"+sentence) != 1 {
			t.Errorf("the page has no row for %q, or several", sentence)
		}
	}
}

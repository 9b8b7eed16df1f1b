package rfc9111

import (
	"fmt"
	"reflect"
	"sync"
	"testing"
)

// TestKnownLines: what a line says does not depend on the lines read before it.
func TestKnownLines(t *testing.T) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range 10 * len(parsedLines) {
				lines := []string{fmt.Sprintf(`max-age=%d, private="X-%d", no-cache="Y-%d"`, n%200, n%200, n%200)}
				if got, want := parseCacheControl(lines), readCacheControl(lines); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %+v, want %+v", lines, got, want)
				}
			}
		})
	}
	wg.Wait()
}

package larder

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestLooksSideBySide: an unsafe request waits for the slowest of the disks where nothing that it
// names may be stored, and not for one after the other.
func TestLooksSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []*pooled{new(pooled), new(pooled), new(pooled)}
		began := time.Now()
		left := withoutSideBySide(all, func(p *pooled) bool {
			time.Sleep(time.Second)
			return p == all[1]
		})
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v", took)
		}
		if !slices.Equal(left, []*pooled{all[0], all[2]}) {
			t.Errorf("%d are left", len(left))
		}
	})
}

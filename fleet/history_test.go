package fleet_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/store"
)

// TestMasksAreBounded in bytes: the floor rises, and all that the masks do not know any more is
// refused.
func TestMasksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := start(t, fleettest.NewServer(), 1, nil)[0]
		const most = 64 << 10
		node.SetMaskBytes(most)
		time.Sleep(2 * fence)
		var stamps []fleet.Stamp
		url := func(i int) string { return fmt.Sprintf("http://a/%d/%s", i, strings.Repeat("x", 1<<10)) }
		for i := range 200 {
			stamp, _ := node.Begin()
			stamps = append(stamps, stamp)
			if _, err := node.Purge(t.Context(), fleet.Purge{Selectors: store.Selectors{URLs: []string{url(i)}}}); err != nil {
				t.Fatal(err)
			}
		}
		if s := node.Stats(); s.MaskBytes > most || s.Masks < 40 || s.LogBytes < 200<<10 {
			t.Errorf("%+v", s)
		}
		known := 0
		for i, stamp := range stamps {
			severity, ours := node.Judge(stamp, url(i), nil)
			if ours && severity != store.Hard {
				t.Errorf("what was purged by record %d is used", i)
			}
			if ours {
				known++
			}
		}
		if stamp, ok := node.Begin(); known < 40 || !ok {
			t.Errorf("%d are judged by the masks; a fetch may be shared: %v", known, ok)
		} else if severity, ours := node.Judge(stamp, url(0), nil); !ours || severity != store.NotPurged {
			t.Errorf("what is fetched now is %v, ours %v", severity, ours)
		}
	})
}

package fleet

import (
	"sync"
	"testing"
	"time"
)

// TestNowGoesOnInSleep: it is the clock that does, to within what is read between its readings.
func TestNowGoesOnInSleep(t *testing.T) {
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 20_000 {
				before := bootTime()
				got := now()
				if after := bootTime(); got < before-doubt || got > after+doubt {
					t.Errorf("it is %v between %v and %v", got, before, after)
					return
				}
			}
		})
	}
	group.Wait()
}

// TestNowSeesSleep: what it has from before is not used for long.
func TestNowSeesSleep(t *testing.T) {
	now()
	sleep.ahead.Add(-int64(time.Hour)) // as if the machine had slept for an hour since
	sleep.checked.Add(-int64(recheck))
	if got, want := now(), bootTime(); got < want-time.Minute || got > want {
		t.Errorf("it is %v, want %v", got, want)
	}
}

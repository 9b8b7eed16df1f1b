package fleettest

import (
	"strings"
	"testing"

	"github.com/larder-cache/larder/fleet"
)

// TestHistory is how an Engine bounds its log. open returns engines of one server, which keep about
// so many records.
func TestHistory(t *testing.T, open func(t *testing.T, records int) []fleet.Engine) {
	t.Helper()
	const records = 200
	most := fleet.HistoryBytes(records)
	long := strings.Repeat("x", 32<<10)
	giant := func(i int) string {
		if i == 5 {
			return strings.Repeat("y", int(most)+1)
		}
		return "short"
	}
	for _, tt := range []struct {
		name        string
		data        func(i int) string
		n           int
		least, most int   // records that stay
		bytes       int64 // that stay at least
	}{
		{"short records", func(int) string { return "short" }, 1000, records, 2 * records, 0},
		{"long records", func(int) string { return long }, 300, 100, int(most >> 15), most * 7 / 8},
		{"long ones after short ones", func(i int) string { return long[:max(5, min(i-100, 1)*len(long))] }, 400, 100, int(most >> 15), most * 7 / 8},
		{"one that is longer than all may be", giant, 6, 1, 1, most},
		{"those after it", giant, 9, 3, 3, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			engines := open(t, records)
			var state fleet.State
			for i := range tt.n {
				state = appendRecord(t, engines[i%len(engines)], tt.data(i)).State
			}
			log := readAll(t, engines[0], 0)
			bytes := int64(0)
			for _, r := range log {
				bytes += int64(len(r.Data))
			}
			if len(log) < tt.least || len(log) > tt.most || bytes < tt.bytes || bytes > most && len(log) > 1 {
				t.Errorf("the log has %d records of %d bytes: want %d to %d, of %d to %d", len(log), bytes, tt.least, tt.most, tt.bytes, most)
			}
			last := log[len(log)-1]
			if state.First != log[0].Generation || state.Tail != last.Generation || string(last.Data) != tt.data(tt.n-1) {
				t.Errorf("it is %+v, with %d to %d", state, log[0].Generation, last.Generation)
			}
			if overhead := state.Bytes - bytes; overhead < 0 || overhead > int64(200*len(log)) {
				t.Errorf("it says that %d bytes take %d", bytes, state.Bytes)
			}
		})
	}
}

//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package arena

import "testing"

// TestPagesOfTheSystem: on machines with larger pages than ours nothing that is in use is released.
func TestPagesOfTheSystem(t *testing.T) {
	const kib = 1 << 10
	for _, tt := range []struct{ from, to, system, wantFrom, wantTo int }{
		{4 * kib, 12 * kib, 4 * kib, 4 * kib, 12 * kib},
		{4 * kib, 36 * kib, 16 * kib, 16 * kib, 32 * kib},
		{16 * kib, 32 * kib, 16 * kib, 16 * kib, 32 * kib},
		{4 * kib, 60 * kib, 64 * kib, 64 * kib, 0},
	} {
		if from, to := wholePages(tt.from, tt.to, tt.system); from != tt.wantFrom || to != tt.wantTo {
			t.Errorf("%d to %d by pages of %d: %d to %d, want %d to %d", tt.from, tt.to, tt.system, from, to, tt.wantFrom, tt.wantTo)
		}
	}
}

package origin

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		text, date string
		want       time.Duration
	}{
		{"", "", 0},
		{"120", "", 2 * time.Minute},
		{"0", "", 0},
		{"007", "", 7 * time.Second},
		{"3601", "", time.Hour},
		{strings.Repeat("9", 1000), "", time.Hour},
		{"-1", "", 0},
		{"+1", "", 0},
		{"1.5", "", 0},
		{"1s", "", 0},
		{"120, 120", "", 0},
		{"soon", "", 0},
		{"Sat, 28 Nov 2026 12:00:30 GMT", "", 30 * time.Second},
		{"Saturday, 28-Nov-26 12:00:30 GMT", "", 30 * time.Second},
		{"Sat Nov 28 12:00:30 2026", "", 30 * time.Second},
		{"Sat, 28 Nov 2026 11:00:00 GMT", "", 0},
		{"Sun, 29 Nov 2026 12:00:00 GMT", "", time.Hour},
		// The origin's clock is ten minutes fast.
		{"Sat, 28 Nov 2026 12:10:30 GMT", "Sat, 28 Nov 2026 12:10:00 GMT", 30 * time.Second},
		{"Sat, 28 Nov 2026 12:00:30 GMT", "yesterday", 30 * time.Second},
		{"Sat, 28 Nov 9999 12:00:30 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", time.Hour},
	} {
		h := http.Header{}
		if tc.text != "" {
			h.Set("Retry-After", tc.text)
		}
		if tc.date != "" {
			h.Set("Date", tc.date)
		}
		if got := RetryAfter(h, now); got != tc.want {
			t.Errorf("%q at %q: %v, want %v", tc.text, tc.date, got, tc.want)
		}
	}
}

// FuzzRetryAfter: whatever an origin sends, the answer is a time from none to an hour, and of
// digits it is that many seconds.
func FuzzRetryAfter(f *testing.F) {
	for _, text := range []string{"120", "0", "-1", "99999999999999999999", "Sat, 28 Nov 2026 12:00:30 GMT", "Sat Nov 28 12:00:30 2026", " 5", "5\x00"} {
		f.Add(text, "", int64(1_796_000_000))
		f.Add(text, "Sat, 28 Nov 2026 12:10:00 GMT", int64(0))
	}
	f.Fuzz(func(t *testing.T, text, date string, now int64) {
		got := RetryAfter(http.Header{"Retry-After": {text}, "Date": {date}}, time.Unix(now, 0))
		if got < 0 || got > MaxRetryAfter {
			t.Fatalf("%v", got)
		}
		digits := strings.Trim(text, "0123456789") == "" && text != ""
		if n := strings.TrimLeft(text, "0"); digits && len(n) < 5 {
			want := time.Duration(0)
			for _, c := range n {
				want = 10*want + time.Duration(c-'0')*time.Second
			}
			if want = min(want, MaxRetryAfter); got != want {
				t.Fatalf("%q: %v, want %v", text, got, want)
			}
		}
	})
}

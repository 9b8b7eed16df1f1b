package httpcache

import (
	"bytes"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// A panic in a refresh is logged with its stack: no client is told of it. One that aborts on
// purpose is not logged.
func TestPanicInARefreshIsLogged(t *testing.T) {
	for name, tc := range map[string]struct {
		value any
		lines int
	}{
		"a fault": {"out of cheese", 1},
		"abort":   {http.ErrAbortHandler, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHandler(t)
			var log bytes.Buffer
			h.Logger = slog.New(slog.NewTextHandler(&log, nil))
			ask(t, h, tenBytes(http.StatusOK, "Cache-Control", "max-age=0, stale-while-revalidate=60"))
			ask(t, h, func(http.ResponseWriter, *http.Request) error { panic(tc.value) })
			for h.cache.Users() > 0 {
				runtime.Gosched()
			}
			lines := strings.Count(log.String(), "level=ERROR")
			if lines != tc.lines || lines > 0 && !strings.Contains(log.String(), "log_test.go:") {
				t.Errorf("%d lines, want %d:\n%s", lines, tc.lines, &log)
			}
		})
	}
}

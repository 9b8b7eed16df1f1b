package larder

import (
	"context"
	"log/slog"
	"testing"

	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// What is found out once of a log's level is what asking it would tell.
func TestLevelOfALogIsFoundOut(t *testing.T) {
	levels := []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	for least := zapcore.DebugLevel; least <= zapcore.FatalLevel; least++ {
		core, logged := observer.New(least)
		asked := slog.Handler(zapslog.NewHandler(core))
		known := slog.New(levelled(asked)).With("a", 1).WithGroup("b")
		var records int
		for _, level := range levels {
			want := asked.Enabled(context.Background(), level)
			if got := known.Enabled(context.Background(), level); got != want {
				t.Errorf("from %v: %v is taken: %t, want %t", least, level, got, want)
			}
			if want {
				records++
			}
			known.Log(context.Background(), level, "text")
		}
		if logged.Len() != records {
			t.Errorf("from %v: %d records, want %d", least, logged.Len(), records)
		}
	}
}

package larder

import (
	"context"
	"log/slog"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap/exp/zapslog"
)

// moduleName is the name of the app, of the directive and of the command, and the metrics' prefix.
const moduleName = "larder"

// storeLogger returns a logger for what outlives configurations. Each record goes to the logger
// that is Caddy's default when it is written, because an older one may be closed.
func storeLogger() *slog.Logger { return slog.New(currentLog{}) }

type currentLog struct{ attrs []slog.Attr }

func (l currentLog) handler() slog.Handler {
	h := slog.Handler(zapslog.NewHandler(caddy.Log().Core(), zapslog.WithName(moduleName)))
	if len(l.attrs) > 0 {
		h = h.WithAttrs(l.attrs)
	}
	return h
}

func (l currentLog) Enabled(ctx context.Context, level slog.Level) bool {
	return l.handler().Enabled(ctx, level)
}

func (l currentLog) Handle(ctx context.Context, record slog.Record) error {
	return l.handler().Handle(ctx, record)
}

func (l currentLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return currentLog{attrs: append(slices.Clip(l.attrs), attrs...)}
}

// WithGroup keeps attributes flat. The store does not use it.
func (l currentLog) WithGroup(string) slog.Handler { return l }

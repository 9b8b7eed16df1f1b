package larder

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"

	"github.com/larder-cache/larder/store"
)

// moduleName is the name of the app, of the directive and of the command, and the metrics' prefix.
const moduleName = "larder"

// storeLogger returns a logger for what outlives configurations. Each record goes to the logger
// that is Caddy's default when it is written, because an older one may be closed.
func storeLogger() *slog.Logger { return slog.New(currentLog{}) }

type currentLog struct{ attrs []slog.Attr }

// never is above every level. zapslog adds Go stacks to errors unless it is told otherwise. An
// error here is the disk's or a server's, and its text says which: the stack would be the same each
// time. A panic is another matter, because its stack is all that there is to find its cause by:
// httpcache logs that as a field.
const never = slog.Level(127)

func (l currentLog) handler() slog.Handler {
	h := slog.Handler(zapslog.NewHandler(caddy.Log().Core(), zapslog.WithName(moduleName), zapslog.AddStacktraceAt(never)))
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

// levels is a handler of a configuration's log, of which it is known from which level on it takes
// records: as long as the configuration lives that stays the same. To ask it leads through five
// packages, and every request asks.
type levels struct {
	slog.Handler
	least slog.Level
}

// levelled finds out the level of a handler.
func levelled(h slog.Handler) slog.Handler {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if h.Enabled(context.Background(), level) {
			return levels{h, level}
		}
	}
	return levels{h, never}
}

// Enabled implements slog.Handler.
func (l levels) Enabled(_ context.Context, level slog.Level) bool { return level >= l.least }

// WithAttrs implements slog.Handler.
func (l levels) WithAttrs(attrs []slog.Attr) slog.Handler {
	return levels{l.Handler.WithAttrs(attrs), l.least}
}

// WithGroup implements slog.Handler.
func (l levels) WithGroup(name string) slog.Handler {
	return levels{l.Handler.WithGroup(name), l.least}
}

// logOpen says which cache has been opened, how large it may become, and what it has kept.
func (z *zone) logOpen(logger *zap.Logger) {
	s := z.cache.Store().Stats()
	fields := []zap.Field{
		zap.String("zone", z.Zone), zap.Int64("memory", s.Memory.Budget),
		zap.String("eviction", z.settings.Eviction.String()), zap.Int64("max_body", z.settings.MaxBody),
		zap.String("compress", z.settings.Compress.String()),
	}
	if folder := z.Disk.Path; folder != "" {
		fields = append(fields, zap.String("file", filepath.Join(folder, store.FileName)), zap.String("disk_state", s.Disk.State),
			zap.Int64("disk", s.Disk.Budget), zap.Int64("disk_bytes", s.Disk.Bytes), zap.Int64("disk_entries", s.Disk.Entries))
	}
	logger.Info("the cache is open", fields...)
}

// logChange says which settings of the cache have changed, from what to what.
func (p *pooled) logChange(was, now *store.Settings) {
	attrs := []slog.Attr{slog.String("zone", p.zone()), slog.String("cache", p.key)}
	for _, size := range []struct {
		name     string
		was, now int64
	}{
		{"memory", was.Memory, now.Memory},
		{"disk", was.Disk, now.Disk},
		{"max_body", was.MaxBody, now.MaxBody},
	} {
		if size.was != size.now {
			attrs = append(attrs, slog.Int64(size.name+"_was", size.was), slog.Int64(size.name, size.now))
		}
	}
	if was.Eviction != now.Eviction {
		attrs = append(attrs, slog.String("eviction_was", was.Eviction.String()), slog.String("eviction", now.Eviction.String()))
	}
	if was.Compress != now.Compress {
		attrs = append(attrs, slog.String("compress_was", was.Compress.String()), slog.String("compress", now.Compress.String()))
	}
	storeLogger().LogAttrs(context.Background(), slog.LevelInfo, "the settings of the cache have changed", attrs...)
}

package larder

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	cfg "github.com/larder-cache/larder/caddyfile"
)

func TestWarnOfBudgets(t *testing.T) {
	zones := func(memory, disk cfg.Size) []*zone {
		config := cfg.AppConfig{
			Memory: memory, Disk: &cfg.DiskConfig{Path: t.TempDir(), Budget: disk},
			Zones: map[string]*cfg.ZoneConfig{"off": {Memory: 1 << 20, Disk: &cfg.DiskConfig{Off: true}}},
		}
		var zones []*zone
		for _, s := range config.Stores() {
			zones = append(zones, &zone{Store: s})
		}
		return zones
	}
	for _, tt := range []struct {
		name         string
		memory, disk cfg.Size
		available    uint64
		want         []string
	}{
		{"all fits", 63 << 20, 1 << 20, 64 << 20, nil},
		{"the sum of the zones counts", 64 << 20, 1 << 20, 64 << 20, []string{"memory"}},
		{"nothing is known of memory", 64 << 20, 1 << 20, 0, nil},
		{"disk", 1 << 20, 1 << 62, 64 << 20, []string{"disk"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			core, logs := observer.New(zapcore.WarnLevel)
			warnOfBudgets(zones(tt.memory, tt.disk), tt.available, zap.New(core))
			var got []string
			for _, entry := range logs.All() {
				for _, field := range entry.Context {
					if field.Type == zapcore.Uint64Type && field.Key != "available" {
						got = append(got, field.Key)
					}
				}
			}
			if len(got) != len(tt.want) || len(got) == 1 && got[0] != tt.want[0] {
				t.Errorf("warned of %q, want %q: %v", got, tt.want, logs.All())
			}
		})
	}
}

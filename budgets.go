package larder

import (
	"go.uber.org/zap"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/check"
	"github.com/larder-cache/larder/internal/machine"
)

// warnOfBudgets logs budgets that the machine has not: a process that takes more memory than its
// cgroup may is killed, and a full disk refuses the writes of others, too.
func warnOfBudgets(zones []*zone, memory uint64, logger *zap.Logger) {
	stores := make([]cfg.Store, 0, len(zones))
	for _, z := range zones {
		stores = append(stores, z.Store)
	}
	excess := check.Machine{Memory: memory, TooLarge: machine.TooLarge}.Excess(stores)
	if excess.Memory > 0 {
		logger.Warn("the memory budgets are larger than the memory that the process may have: lower memory in the global option",
			zap.Uint64("memory", excess.Memory), zap.Uint64("available", memory))
	}
	for _, full := range excess.Disks {
		logger.Warn("the disk budgets are larger than the room on their disk: lower that of disk in the global option, or make room",
			zap.Strings("files", full.Files), zap.Uint64("disk", full.Budget), zap.Uint64("available", full.Room))
	}
}

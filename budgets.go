package larder

import (
	"path/filepath"

	"go.uber.org/zap"

	"github.com/larder-cache/larder/internal/machine"
	"github.com/larder-cache/larder/store"
)

// warnOfBudgets logs budgets that the machine has not: a process that takes more memory than its
// cgroup may is killed, and a full disk refuses the writes of others, too.
func warnOfBudgets(zones []*zone, memory uint64, logger *zap.Logger) {
	var budgets uint64
	var files []machine.File
	for _, z := range zones {
		budgets += uint64(z.Memory)
		if !z.Disk.Off {
			files = append(files, machine.File{Path: filepath.Join(z.Disk.Path, store.FileName), Budget: uint64(z.Disk.Budget)})
		}
	}
	if memory > 0 && budgets > memory {
		logger.Warn("the memory budgets are larger than the memory that the process may have: lower memory in the global option",
			zap.Uint64("memory", budgets), zap.Uint64("available", memory))
	}
	for _, full := range machine.TooLarge(files) {
		logger.Warn("the disk budgets are larger than the room on their disk: lower that of disk in the global option, or make room",
			zap.Strings("files", full.Files), zap.Uint64("disk", full.Budget), zap.Uint64("available", full.Room))
	}
}

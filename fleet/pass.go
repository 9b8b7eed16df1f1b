package fleet

// Pass tells whether this node may answer from what it has without asking the origin first: no
// purge has been answered that it has not applied. A request asks once, after it has started, and
// before it looks for anything that is stored: a pass that is got between a look-up and the
// question says nothing of what was found.
func (f *Fleet) Pass() bool { return int64(f.clock()) < f.pass.Load() }

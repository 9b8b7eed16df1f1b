package store

import (
	"context"
	"log/slog"
	"time"
)

// trouble is the time from a failure of the disk until it has worked for calmTime. What is said in
// it is said once: a full disk fails, is tried again and works for a moment, for as long as it is
// full.
type trouble struct {
	told map[string]bool // what has been said; nil: none is on
	last time.Time       // of the store's clock: the last failure
	full bool            // that the disk is full has been said
}

// calmTime is how long nothing may have failed for a trouble to be over.
const calmTime = 5 * time.Minute

func (t *trouble) on() bool { return t.told != nil }

// tell logs what has gone wrong, once in a trouble.
func (dw *diskWriter) tell(level slog.Level, message string, details ...slog.Attr) {
	t := &dw.trouble
	t.last = dw.now()
	if t.told[message] {
		return
	}
	if t.told == nil {
		t.told = make(map[string]bool)
	}
	t.told[message] = true
	dw.log.LogAttrs(context.Background(), level, message, append(details, slog.String("file", dw.disk.path))...)
}

// recovered notes a commit.
func (dw *diskWriter) recovered() {
	if dw.trouble.on() && dw.now().Sub(dw.trouble.last) >= calmTime {
		dw.trouble = trouble{}
		dw.log.Info("disk tier works again", slog.String("file", dw.disk.path))
	}
}

package coalesce

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// TestAwait has a reader wait for a part of the body, of which it takes nothing.
func TestAwait(t *testing.T) {
	failure, over := errors.New("a failure"), errors.New("the wait is over")
	for name, tc := range map[string]struct {
		limit  int64 // of what is kept
		before int   // bytes that come before it waits
		then   func(f *Flight, cancel context.CancelCauseFunc)
		want   error
	}{
		"more has come": {-1, 11, nil, nil},
		"more comes":    {-1, 10, func(f *Flight, _ context.CancelCauseFunc) { _, _ = f.Write([]byte{1}) }, nil},
		"it ends":       {-1, 5, func(f *Flight, _ context.CancelCauseFunc) { f.Finish(nil) }, nil},
		"it fails":      {-1, 5, func(f *Flight, _ context.CancelCauseFunc) { f.Fail(failure) }, failure},
		"the wait ends": {-1, 10, func(_ *Flight, cancel context.CancelCauseFunc) { cancel(over) }, over},
		"windowed":      {0, 5, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
				f, all := windowing(t, g, 1, tc.limit)
				write(t, f, pattern(15, tc.before))
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				r, done := all[1].Reader(), make(chan error, 1)
				go func() { done <- r.Await(ctx, 10) }()
				synctest.Wait()
				if tc.then != nil {
					select {
					case err := <-done:
						t.Fatal("it does not wait:", err)
					default:
						tc.then(f, cancel)
					}
				}
				if err := <-done; !errors.Is(err, tc.want) {
					t.Errorf("Await: %v, want %v", err, tc.want)
				}
				if b, err := r.Next(t.Context()); err != nil || len(b) == 0 || b[0] != pattern(15, 1)[0] {
					t.Errorf("the first bytes: %d, %v", len(b), err)
				}
				f.Finish(nil)
				f.Settle()
				for _, m := range all {
					m.Leave()
				}
			})
		})
	}
}

// TestAwaitOfWhatHasCome: a reader for which enough had come made a channel, which is closed at the
// next write, although it waited for nothing.
func TestAwaitOfWhatHasCome(t *testing.T) {
	inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, all := windowing(t, g, 1, -1)
		write(t, f, pattern(17, 11))
		r := all[1].Reader()
		if err := r.Await(t.Context(), 10); err != nil {
			t.Error(err)
		}
		f.mu.Lock()
		if f.changed != nil {
			t.Error("there is a channel, and none waits")
		}
		f.mu.Unlock()
		f.Finish(nil)
		f.Settle()
		for _, m := range all {
			m.Leave()
		}
	})
}

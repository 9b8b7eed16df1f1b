package coalesce

import (
	"testing"
	"testing/synctest"
)

// TestAwaitOfAFlightThatBecomesWindowed: a flight that found no room for more waited for a reader
// that waited for more of it, until the time of one of the two was over.
func TestAwaitOfAFlightThatBecomesWindowed(t *testing.T) {
	inBubble(t, minChunk, Limits{Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, all := windowing(t, g, 1, -1)
		body := pattern(16, minChunk+1)
		write(t, f, body[:minChunk])
		done := make(chan error, 1)
		go func() { done <- all[1].Reader().Await(t.Context(), 2*minChunk) }()
		synctest.Wait()
		fetch(f, body[minChunk:])
		synctest.Wait()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the fetch waits for the reader, and the reader for the fetch")
		}
		for _, m := range all {
			go func() {
				expectBody(t, m.Reader(), body, nil)
				m.Leave()
			}()
		}
		synctest.Wait()
		f.Settle()
	})
}

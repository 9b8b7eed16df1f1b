package store

import (
	"testing"

	"go.uber.org/goleak"
)

// verifyNoLeaks runs the tests and fails when a goroutine outlives them.
func verifyNoLeaks(m *testing.M) { goleak.VerifyTestMain(m) }

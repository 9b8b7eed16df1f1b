package redis

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"github.com/larder-cache/larder/fleet"
)

// The first words of Redis' errors that have a name in fleet.
var (
	// A replica; full; its disk fails; too few replicas (min-replicas-to-write).
	readOnly = []string{"READONLY", "OOM", "MISCONF", "NOREPLICAS"}
	// The last two are NOPERM of a script: before Redis 7.2, and of Valkey.
	refused = []string{"WRONGPASS", "NOAUTH", "NOPERM", "The user executing the script", "ACL failure in script:"}
)

// named gives an error its name in fleet.
func named(err error) error {
	switch {
	case err == nil:
		return nil
	case begins(err, readOnly...):
		return fmt.Errorf("%w: %w", fleet.ErrReadOnly, err)
	case begins(err, refused...):
		return fmt.Errorf("%w: %w", fleet.ErrRefused, err)
	case errors.Is(err, rueidis.ErrClosing):
		return fmt.Errorf("the connection is closed: %w", err)
	}
	return err
}

func isReplica(err error) bool { return begins(err, "READONLY") }

func begins(err error, words ...string) bool {
	var of *rueidis.RedisError
	if !errors.As(err, &of) || of.IsNil() {
		return false
	}
	for _, word := range words {
		if strings.HasPrefix(of.Error(), word+" ") {
			return true
		}
	}
	return false
}

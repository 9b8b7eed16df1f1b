package redis

import (
	"context"
	_ "embed"

	"github.com/redis/rueidis"
)

//go:embed lua/replicas.lua
var luaReplicas string

// readOnlyScript lets a replica run a script.
const readOnlyScript = "#!lua flags=no-writes,allow-oom\n"

var scriptReplicas = newScript(readOnlyScript + luaReplicas)

// Replicas returns how many replicas the server of the log has now. A purge that waits for more is
// never done.
func (e *Engine) Replicas(ctx context.Context) (int, error) {
	return call(ctx, e.small, func(c rueidis.Client) (int, error) {
		n, err := scriptReplicas.run(context.Background(), c, e.control(), nil).AsInt64()
		return int(n), err
	})
}

package redis

import (
	"context"
	"crypto/sha1" //nolint:gosec // EVALSHA names a script by it
	_ "embed"
	"encoding/hex"
	"errors"

	"github.com/redis/rueidis"
)

// The scripts, each of them one step for the server. Those that must go on while Redis is full say
// so in their first line: a purge, and a lease that keeps a crowd from the origin. A record is
// refused then.
var (
	//go:embed lua/ensure.lua
	luaEnsure string
	//go:embed lua/beat.lua
	luaBeat string
	//go:embed lua/append.lua
	luaAppend string
	//go:embed lua/nodes.lua
	luaNodes string
	//go:embed lua/read.lua
	luaRead string
	//go:embed lua/evict.lua
	luaEvict string
	//go:embed lua/find.lua
	luaFind string
	//go:embed lua/put.lua
	luaPut string
	//go:embed lua/remove.lua
	luaRemove string
	//go:embed lua/take.lua
	luaTake string
	//go:embed lua/wake.lua
	luaWake string
	//go:embed lua/hold.lua
	luaHold string
	//go:embed lua/release.lua
	luaRelease string

	scriptBeat    = newScript(always + luaEnsure + luaBeat)
	scriptAppend  = newScript(always + luaEnsure + luaAppend)
	scriptNodes   = newScript(always + luaEnsure + luaNodes)
	scriptRead    = newScript(always + luaEnsure + luaRead)
	scriptEvict   = newScript(always + luaEvict)
	scriptFind    = newScript(readOnlyScript + luaFind)
	scriptPut     = newScript(unlessFull + luaPut)
	scriptRemove  = newScript(always + luaRemove)
	scriptTake    = newScript(always + luaTake)
	scriptHold    = newScript(always + luaWake + luaHold)
	scriptRelease = newScript(always + luaWake + luaRelease)
)

const (
	always     = "#!lua flags=allow-oom\n"
	unlessFull = "#!lua\n"
)

// script is one that the server knows by its hash, once it has seen it.
type script struct{ text, hash string }

func newScript(text string) script {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // as above
	return script{text: text, hash: hex.EncodeToString(sum[:])}
}

// run runs the script, and sends its text where the server does not know it: it has been started,
// promoted, or told SCRIPT FLUSH.
func (s script) run(ctx context.Context, c rueidis.CommandClient, keys, args []string) rueidis.RedisResult {
	n := int64(len(keys))
	reply := c.Do(ctx, c.B().Evalsha().Sha1(s.hash).Numkeys(n).Key(keys...).Arg(args...).Build())
	if isUnknownScript(reply.Error()) {
		reply = c.Do(ctx, c.B().Eval().Script(s.text).Numkeys(n).Key(keys...).Arg(args...).Build())
	}
	return reply
}

func isUnknownScript(err error) bool {
	var of *rueidis.RedisError
	return errors.As(err, &of) && of.IsNoScript()
}

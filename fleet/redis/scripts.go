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
	//go:embed lua/state.lua
	luaState string
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
	scriptState   = newScript(always + luaEnsure + luaState)
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
	reply := c.Do(ctx, s.byHash(c, keys, args))
	if isUnknownScript(reply.Error()) {
		reply = c.Do(ctx, s.byText(c, keys, args))
	}
	return reply
}

func (s script) byHash(c rueidis.CommandClient, keys, args []string) rueidis.Completed {
	return c.B().Evalsha().Sha1(s.hash).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
}

func (s script) byText(c rueidis.CommandClient, keys, args []string) rueidis.Completed {
	return c.B().Eval().Script(s.text).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
}

func isUnknownScript(err error) bool {
	var of *rueidis.RedisError
	return errors.As(err, &of) && of.IsNoScript()
}

package redis

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/larder-cache/larder/fleet"
)

// Beat implements fleet.Log.
func (e *Engine) Beat(ctx context.Context, has fleet.Place, node fleet.Node) (fleet.State, error) {
	says, err := json.Marshal(nodeWords{
		Epoch: node.Epoch, Applied: node.Applied, Fence: node.Fence, Serves: node.Serves, State: node.State,
		Name: node.Name, Address: node.Address, Version: node.Version,
	})
	if err != nil {
		return fleet.State{}, err
	}
	args := e.args(has, node.ID, string(says), strconv.FormatUint(node.Number, 10))
	return call(ctx, e.small, func(c rueidis.Client) (fleet.State, error) {
		return stateOf(scriptBeat.run(context.Background(), c, e.control(), args).ToMessage())
	})
}

// Append implements fleet.Log.
func (e *Engine) Append(ctx context.Context, has fleet.Place, data []byte, replicas int) (fleet.Appended, error) {
	args := e.args(has, string(data))
	if replicas > 0 {
		return e.appendTo(ctx, args, replicas)
	}
	return call(ctx, e.small, func(c rueidis.Client) (fleet.Appended, error) {
		return appendedOf(scriptAppend.run(context.Background(), c, e.control(), args))
	})
}

// Nodes implements fleet.Log.
func (e *Engine) Nodes(ctx context.Context) ([]fleet.Node, fleet.State, error) {
	args := e.args(fleet.Place{})
	out, err := call(ctx, e.small, func(c rueidis.Client) (fleet.Appended, error) {
		return appendedOf(scriptNodes.run(context.Background(), c, e.control(), args))
	})
	return out.Nodes, out.State, err
}

// Evict implements fleet.Log.
func (e *Engine) Evict(ctx context.Context, seen fleet.Node) error {
	args := []string{seen.ID, strconv.FormatUint(seen.Beats, 10), strconv.FormatInt(seen.Seen.UnixMicro(), 10)}
	return e.run(ctx, scriptEvict, []string{e.nodes}, args)
}

// Leave implements fleet.Log.
func (e *Engine) Leave(ctx context.Context, id string) error {
	_, err := call(ctx, e.small, func(c rueidis.Client) (int64, error) {
		return c.Do(context.Background(), c.B().Hdel().Key(e.nodes).Field("n:"+id).Build()).AsInt64()
	})
	return err
}

// appendTo appends, and waits for replicas on the same connection: WAIT counts those that have what
// its own connection has written. So this is a connection that follows no server of a Cluster to
// another one.
func (e *Engine) appendTo(ctx context.Context, args []string, replicas int) (fleet.Appended, error) {
	end, bounded := ctx.Deadline()
	if !bounded {
		end = time.Now().Add(e.patience)
	}
	appended := make(chan fleet.Appended, 1)
	out, err := call(ctx, e.small, func(c rueidis.Client) (out fleet.Appended, err error) {
		waiting, cancel := e.waiting(context.Background(), time.Until(end))
		defer cancel()
		err = c.Dedicated(func(d rueidis.DedicatedClient) error {
			out, err = appendedOf(scriptAppend.run(waiting, d, e.control(), args))
			if err != nil {
				return err
			}
			appended <- out
			if n, err := d.Do(waiting, waitFor(d, replicas, time.Until(end))).AsInt64(); err == nil {
				out.Replicas = int(n)
			}
			return nil
		})
		return out, err
	})
	select {
	case is := <-appended:
		// It is in the log, whatever became of the wait.
		is.Replicas = out.Replicas
		return is, nil
	default:
		return out, err
	}
}

// waitFor is a WAIT for four fifths of the time that is left, or all of it but a second: the answer
// has to be back in time, and Redis looks at its clock ten times a second.
func waitFor(d rueidis.DedicatedClient, replicas int, left time.Duration) rueidis.Completed {
	wait := milliseconds(left - min(left/5, time.Second))
	return d.B().Wait().Numreplicas(int64(replicas)).Timeout(wait).Build()
}

// control are the keys of ensure.lua, args its arguments and a script's own.
func (e *Engine) control() []string { return []string{e.nodes, e.log} }

func (e *Engine) args(has fleet.Place, own ...string) []string {
	var stretch [4]byte
	_, _ = rand.Read(stretch[:]) // it never fails
	n := binary.BigEndian.Uint32(stretch[:]) >> 1
	return append([]string{
		rand.Text(), strconv.FormatUint(uint64(n), 10), strconv.Itoa(e.history),
		strconv.FormatInt(fleet.HistoryBytes(e.history), 10),
		has.Epoch, strconv.FormatUint(uint64(has.Mark), 10), strconv.FormatUint(uint64(has.Generation), 10), has.ID,
		has.Node, strconv.FormatUint(has.Beaten, 10),
	}, own...)
}

// run runs a script whose reply says nothing.
func (e *Engine) run(ctx context.Context, s script, keys, args []string) error {
	_, err := call(ctx, e.small, func(c rueidis.Client) (int64, error) {
		return s.run(context.Background(), c, keys, args).AsInt64()
	})
	return err
}

var errReply = errors.New("a reply that is none of Larder's scripts")

// appendedOf reads {state, {field, value, …}}.
func appendedOf(reply rueidis.RedisResult) (fleet.Appended, error) {
	parts, err := reply.ToArray()
	if err != nil {
		return fleet.Appended{}, err
	}
	if len(parts) != 2 {
		return fleet.Appended{}, errReply
	}
	state, err := stateOf(parts[0], nil)
	if err != nil {
		return fleet.Appended{}, err
	}
	fields, err := parts[1].AsStrMap()
	return fleet.Appended{Generation: state.Tail, State: state, Nodes: nodesOf(fields)}, err
}

// stateOf reads {epoch, tail, first, mark, since, now, bytes, id}, the times in microseconds.
func stateOf(reply rueidis.RedisMessage, err error) (fleet.State, error) {
	if err != nil {
		return fleet.State{}, err
	}
	words, err := reply.AsStrSlice()
	if err != nil {
		return fleet.State{}, err
	}
	if len(words) != 8 {
		return fleet.State{}, errReply
	}
	var numbers [6]int64
	for i := range numbers {
		if numbers[i], err = strconv.ParseInt(words[i+1], 10, 64); err != nil || numbers[i] < 0 {
			return fleet.State{}, errReply
		}
	}
	return fleet.State{
		Epoch: words[0], Tail: fleet.Generation(numbers[0]), First: fleet.Generation(numbers[1]),
		Mark: fleet.Generation(numbers[2]), ID: words[7], Bytes: numbers[5],
		// A clock that was set back makes a term young, not old.
		Term: time.Duration(max(0, numbers[4]-numbers[3])) * time.Microsecond,
		Now:  time.UnixMicro(numbers[4]),
	}, nil
}

// nodeWords are what a node says of itself. The server puts its beats, when it was seen and the
// number of its newest beat in front.
type nodeWords struct {
	Epoch   string           `json:"epoch,omitempty"`
	Applied fleet.Generation `json:"applied"`
	Fence   time.Duration    `json:"fence,omitempty"`  // in nanoseconds
	Serves  time.Duration    `json:"serves,omitempty"` // likewise
	State   string           `json:"state,omitempty"`
	Name    string           `json:"name,omitempty"`
	Address string           `json:"address,omitempty"`
	Version string           `json:"version,omitempty"`
}

func nodesOf(fields map[string]string) []fleet.Node {
	var nodes []fleet.Node
	for name, value := range fields {
		if id, is := strings.CutPrefix(name, "n:"); is {
			nodes = append(nodes, nodeOf(id, value))
		}
	}
	return nodes
}

// nodeOf reads "beats seen number {words}". A node that says nothing of this has applied nothing: a
// purge waits for it, and evicts it then.
func nodeOf(id, value string) fleet.Node {
	n := fleet.Node{ID: id, Seen: time.UnixMicro(0)}
	parts := strings.SplitN(value, " ", 4)
	if len(parts) < 3 {
		return n
	}
	beats, err := strconv.ParseUint(parts[0], 10, 64)
	if err != nil {
		return n
	}
	seen, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return n
	}
	n.Beats, n.Seen = beats, time.UnixMicro(seen) // by which it is evicted
	var says nodeWords
	number, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil || len(parts) < 4 || json.Unmarshal([]byte(parts[3]), &says) != nil {
		return n
	}
	n.Number, n.Epoch, n.Applied, n.State = number, says.Epoch, says.Applied, says.State
	n.Fence, n.Serves = says.Fence, says.Serves
	n.Name, n.Address, n.Version = says.Name, says.Address, says.Version
	return n
}

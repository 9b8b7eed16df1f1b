package larder

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/fleet"
)

// SharedEngine is a guest module in the namespace larder.shared: a server by which the caches of
// several machines are one. Its JSON has the fields of [cfg.SharedConfig] beside its own. It is
// provisioned, as by `caddy validate`, without a connection to anything.
type SharedEngine interface {
	// Fleet returns what the configuration says of the fleet, with its defaults.
	Fleet() cfg.SharedConfig
	// Open returns the engine. It connects when it is first asked for something, and tries again
	// where it cannot. So its error is one of the configuration.
	Open(logger *slog.Logger) (fleet.Engine, error)
}

// fleets has the fleets of the process by what their configurations say. A reload that says the
// same goes on with the same: it neither leaves nor joins.
var fleets = caddy.NewUsagePool()

// node is this process as a node of a fleet.
type node struct {
	*fleet.Fleet
	name   string // of the fleet
	engine fleet.Engine
	tier   *fleet.SharedTier

	replicas int // that a purge waits for
	life     context.Context
	end      context.CancelFunc
	start    sync.Once
}

// claimFleet loads the engine that the configuration names, if it names one, and claims its fleet.
// It connects to nothing.
func (a *App) claimFleet(ctx caddy.Context) error {
	if len(a.Shared) == 0 {
		return nil
	}
	loaded, err := ctx.LoadModule(&a.AppConfig, "Shared")
	if err != nil {
		return fmt.Errorf("shared: %w", err)
	}
	engine, ok := loaded.(SharedEngine)
	if !ok {
		return fmt.Errorf("shared: module %T is no engine of a fleet", loaded)
	}
	if a.fleetKey, err = fleetKey(loaded.(caddy.Module)); err != nil {
		return fmt.Errorf("shared: %w", err)
	}
	value, _, err := fleets.LoadOrNew(a.fleetKey, func() (caddy.Destructor, error) { return newNode(engine) })
	if err != nil {
		a.fleetKey = ""
		return fmt.Errorf("shared: %w", err)
	}
	a.node = value.(*node)
	return nil
}

// fleetKey is the same for engines that say the same, once placeholders are replaced.
func fleetKey(engine caddy.Module) (string, error) {
	text, err := json.Marshal(engine)
	return string(engine.CaddyModule().ID) + " " + string(bytes.TrimSpace(text)), err
}

// newNode makes the node of a fleet, which has not joined it.
func newNode(module SharedEngine) (*node, error) {
	config, logger := module.Fleet(), storeLogger()
	engine, err := module.Open(logger)
	if err != nil {
		return nil, err
	}
	n := &node{name: config.Name, engine: engine, replicas: config.Replicas}
	n.life, n.end = context.WithCancel(context.Background())
	n.Fleet = fleet.New(fleet.Options{
		Engine: engine, Caches: processCaches{}, Logger: logger,
		Fence: time.Duration(config.Fence), Serve: time.Duration(config.Lost.Serve),
		Replicas: config.Replicas, Secret: []byte(config.Secret),
		Name: hostName(), Address: hostAddress(), Version: buildVersion(),
	})
	n.tier = fleet.NewSharedTier(engine, n.Fleet, fleet.TierConfig{
		Node: n.ID(), Timeout: time.Duration(config.Timeout), MaxBody: int64(config.MaxBody), TTL: time.Duration(config.TTL),
		StoreOff: !*config.Store, Secret: config.Secret, Metrics: collectors, Logger: logger,
	})
	return n, nil
}

// nodesJoined counts the nodes of the process that have joined and not left: one as a rule, two
// during a reload that changes the fleet.
var nodesJoined atomic.Int32

// join has the node join its fleet, unless it has.
func (n *node) join() {
	n.start.Do(func() {
		nodesJoined.Add(1)
		n.Start()
		n.tier.Start()
		if counts, ok := n.engine.(replicaCounter); ok && n.replicas > 0 {
			go warnOfReplicas(n.life, counts, n.replicas, storeLogger())
		}
	})
}

// replicaCounter is an engine that knows how many replicas its server has.
type replicaCounter interface {
	Replicas(ctx context.Context) (int, error)
}

// replicasPause is the pause before a server that does not answer is asked for its replicas again.
const replicasPause = time.Second

// warnOfReplicas warns if a purge waits for more replicas than the server has when it first
// answers.
func warnOfReplicas(ctx context.Context, engine replicaCounter, replicas int, logger *slog.Logger) {
	has, err := engine.Replicas(ctx)
	for err != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(replicasPause):
		}
		has, err = engine.Replicas(ctx)
	}
	if has < replicas {
		logger.Warn("shared: replicas is more than the server has, so purges are answered by 503",
			slog.Int("replicas", replicas), slog.Int("has", has))
	}
}

// leaveTimeout is how long a process that ends waits for the server to hear of it. A node that has
// not left is waited for by the next purge.
const leaveTimeout = 2 * time.Second

// Destruct leaves the fleet. The usage pool calls it when no configuration claims it any more,
// which is when serving has stopped.
func (n *node) Destruct() error {
	n.end()
	joined := true
	n.start.Do(func() { joined = false })
	if !joined {
		return n.engine.Close()
	}
	defer nodesJoined.Add(-1)
	n.tier.Close()
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	return errors.Join(n.Close(ctx), n.engine.Close())
}

// hostName is how people know this machine.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// hostAddress is the first of this machine's addresses that others may reach, of IPv4 if it has
// one.
func hostAddress() string {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	var found []string
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
			found = append(found, ip.IP.String())
		}
	}
	if len(found) == 0 {
		return ""
	}
	return slices.MinFunc(found, func(a, b string) int { return cmp.Compare(strings.Count(a, ":"), strings.Count(b, ":")) })
}

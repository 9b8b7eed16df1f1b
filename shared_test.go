package larder

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
)

func init() { caddy.RegisterModule(new(memoryEngine)) }

// memoryEngine is an engine without a server.
type memoryEngine struct {
	cfg.SharedConfig
}

// memoryServer is what it opens next, and memoryOpened counts.
var (
	memoryServer atomic.Pointer[fleettest.Server]
	memoryOpened atomic.Int64
)

func (*memoryEngine) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "larder.shared.memory", New: func() caddy.Module { return new(memoryEngine) }}
}

func (e *memoryEngine) Fleet() cfg.SharedConfig { return e.WithDefaults() }

func (e *memoryEngine) Open(*slog.Logger) (fleet.Engine, error) {
	memoryOpened.Add(1)
	return memoryServer.Load().Clients(1)[0], nil
}

// provisionApp provisions an app, and cleans it up at the end.
func provisionApp(t *testing.T, config string) (*App, error) {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		AppsRaw: caddy.ModuleMap{moduleName: json.RawMessage(config)},
	})
	if err != nil {
		return nil, err
	}
	app, err := ctx.App(moduleName)
	if err != nil {
		return nil, err
	}
	return app.(*App), nil
}

// A reload that says the same of the fleet goes on with the same node, one that says something else
// does not, and the last configuration that goes takes the node along.
func TestAFleetOutlivesConfigurations(t *testing.T) {
	memoryServer.Store(fleettest.NewServer())
	opened := memoryOpened.Load()
	first, err := provisionApp(t, `{"disk":{"off":true},"shared":{"engine":"memory","fence":"5s"}}`)
	if err != nil {
		t.Fatal(err)
	}
	same, err := provisionApp(t, `{"disk":{"off":true},"memory":1048576,"shared":{"fence":5000000000,"engine":"memory"}}`)
	if err != nil {
		t.Fatal(err)
	}
	other, err := provisionApp(t, `{"disk":{"off":true},"shared":{"engine":"memory","fence":"6s"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if first.node == nil || same.node != first.node || other.node == first.node || other.node == nil {
		t.Errorf("nodes %p, %p, %p: want the same twice, and another", first.node, same.node, other.node)
	}
	if n := memoryOpened.Load() - opened; n != 2 {
		t.Errorf("%d engines are open, want 2", n)
	}
	if nodes := *first.cache.nodes.Load(); len(nodes) != 2 {
		t.Errorf("the cache answers by %d nodes, want both", len(nodes))
	}
	for _, app := range []*App{first, other, same} {
		if err := app.Cleanup(); err != nil {
			t.Error(err)
		}
	}
	fleets.Range(func(key, _ any) bool {
		t.Errorf("%v outlives its configurations", key)
		return true
	})
	awaitClosedCaches(t)
}

// What is provisioned and not started, as by `caddy validate`, asks the server for nothing.
func TestValidateAsksNoServer(t *testing.T) {
	server := fleettest.NewServer()
	memoryServer.Store(server)
	app, err := provisionApp(t, `{"disk":{"off":true},"shared":{"engine":"memory"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Cleanup(); err != nil {
		t.Error(err)
	}
	nodes, state, err := server.Clients(1)[0].Nodes(t.Context())
	if err != nil || len(nodes) != 0 || nodesJoined.Load() != 0 {
		t.Errorf("nodes %v, %v, %v", nodes, state, err)
	}
	awaitClosedCaches(t)
}

// A shared block that cannot be meant is an error of the configuration.
func TestSharedThatIsWrong(t *testing.T) {
	for config, want := range map[string]string{
		`{"engine":"carrier-pigeon"}`:       "unknown module: larder.shared.carrier-pigeon",
		`{"fence":"1s"}`:                    "engine",
		`{"engine":"memory","fences":"1s"}`: "unknown field",
	} {
		_, err := provisionApp(t, `{"disk":{"off":true},"shared":`+config+`}`)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", config, err, want)
		}
	}
	fleets.Range(func(key, _ any) bool {
		t.Errorf("%v is left", key)
		return true
	})
	awaitClosedCaches(t)
}

// Without contact to the fleet a stored response needs the origin's word.
func TestAHandlerAsksForThePass(t *testing.T) {
	memoryServer.Store(fleettest.NewServer())
	h := newTestHandlerWith(t, `{"disk":{"off":true},"shared":{"engine":"memory"}}`)
	calls := 0
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		calls++
		w.Header().Set("Cache-Control", "max-age=60")
		return nil
	})
	h.app.cache.nodes.Store(&[]*node{{Fleet: fleet.New(fleet.Options{})}})
	for range 2 {
		w := &nullWriter{make(http.Header)}
		if err := h.ServeHTTP(w, newTestRequest(w), next); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 2 {
		t.Errorf("a node that has no pass asks the origin %d times for two requests", calls)
	}
}
